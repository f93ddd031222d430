"""Looking at a finished run of the ensemble: its report, with all networks compared."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from torch import nn

from attar.cohorts import Cohort
from attar.comparison import compare
from attar.data import load_mnist
from attar.losses import Mean
from attar.recipes import result_pages
from attar.recipes.config import restore_config
from attar.recipes.ensemble import EXPERIMENT, Config, students_stage, teachers_stage
from attar.recipes.folder import COMPARISON
from attar.recipes.stages import Stage, load_network
from attar.recipes.teachers import check_same_teachers, load_teachers
from attar.records import ExperimentResult
from attar.teachers import EnsembleNetwork


def report(folder: Path, path: Path) -> None:
    """Compare teachers, means and students on the test digits, and write the report.

    Each kind of student is judged against the ensemble and the other kinds. The comparison itself
    goes to `comparison.json` in the folder.

    Raises:
        FolderError: If the run is not finished, is damaged, or the report cannot be written.
    """
    result_path = folder / f"{EXPERIMENT}.json"
    result = ExperimentResult.read(result_path)
    config = restore_config(Config, result.config, result_path)
    stages = [students_stage(config, seed) for seed in range(config.seeds)]
    teachers = load_teachers(config.teachers)
    if teachers:
        check_same_teachers(teachers, result, result_path)
    else:
        teachers = _load(folder, teachers_stage(config))
    students = [_load(folder, stage) for stage in stages]
    single, arithmetic, geometric, *kinds = (row.name for row in result.rows)
    models: dict[str, nn.Module | Sequence[nn.Module]] = {
        single: teachers,
        arithmetic: _as_one(teachers, "arithmetic"),
        geometric: _as_one(teachers, "geometric"),
    }
    for place, kind in enumerate(kinds):
        models[kind] = [of_seed[place] for of_seed in students]
    pairs = [(kind, arithmetic) for kind in kinds] + list(combinations(kinds, 2))
    pairs.append((arithmetic, single))
    compared = compare(models, load_mnist().test, teacher=arithmetic, pairs=pairs)
    replace(compared, command=result.command).save(folder / COMPARISON)
    result_pages.report(EXPERIMENT, folder, path)


def _load(folder: Path, stage: Stage) -> list[nn.Module]:
    cohort = load_network(stage, folder)
    assert isinstance(cohort, Cohort)
    return [member.eval() for member in cohort.members()]


def _as_one(members: Sequence[nn.Module], mean: Mean) -> nn.Module:
    """Make a network that answers with a mean; an ensemble by itself is asked member by member."""
    return nn.Sequential(EnsembleNetwork(members, mean=mean))
