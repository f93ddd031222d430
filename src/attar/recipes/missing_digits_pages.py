"""Looking at students that never saw some digits: what a finished run gives to the two pages."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from attar.comparison import compare
from attar.data import Mnist, TransferSet, load_mnist
from attar.errors import FolderError
from attar.evaluation import compute_logits
from attar.explorer import ExampleSet, Exploration, Model
from attar.recipes.config import restore_config
from attar.recipes.missing_digits import (
    CASES,
    EXPERIMENT,
    KINDS,
    Case,
    Config,
    given_teachers,
    make_teacher_stage,
    student_stage,
)
from attar.recipes.stages import load_network
from attar.recipes.teachers import check_same_teachers
from attar.records import ExperimentResult
from attar.report import save_report

TEACHER = "teacher"
TRANSFER_EXAMPLES = 1000  # that the explorer shows, of all digits
_SHIFTED = "validated"


@dataclass(frozen=True, slots=True)
class MissingDigitsRun:
    """A finished run."""

    folder: Path
    result: ExperimentResult
    config: Config

    @classmethod
    def open(cls, folder: Path) -> "MissingDigitsRun":
        """Read the run's result.

        Raises:
            FolderError: If the run is not finished, is damaged, or is of another release.
        """
        path = folder / f"{EXPERIMENT}.json"
        result = ExperimentResult.read(path)
        return cls(folder, result, restore_config(Config, result.config, path))

    def teachers(self) -> list[nn.Module]:
        """Load the teacher of each seed."""
        given = given_teachers(self.config)
        if given:
            check_same_teachers(given, self.result, self.folder / f"{EXPERIMENT}.json")
            return given
        stages = [make_teacher_stage(self.config, seed) for seed in range(self.config.seeds)]
        return [load_network(stage, self.folder) for stage in stages]

    def students(self, case: Case) -> list[nn.Module]:
        """Load a case's student of each seed, as trained."""
        seeds, train_set = range(self.config.seeds), load_mnist().train
        stages = [student_stage(self.config, case, seed, train_set) for seed in seeds]
        return [load_network(stage, self.folder) for stage in stages]

    def shifted(self, case: Case, students: Sequence[nn.Module]) -> list[nn.Module]:
        """Copy a case's students, with the biases shifted as validation examples say."""
        try:
            found = [one["errors"][_SHIFTED]["shift"] for one in self.result.details[case.name]]
        except (KeyError, TypeError) as error:
            raise FolderError(f"the result in {self.folder} is damaged ({error})") from error
        networks = []
        for student, shift in zip(students, found, strict=True):
            network = copy.deepcopy(student)
            last = [layer for layer in network.modules() if isinstance(layer, nn.Linear)][-1]
            with torch.no_grad():
                last.bias[list(case.shifted)] += shift
            networks.append(network)
        return networks


def report(folder: Path, path: Path) -> None:
    """Compare teacher and students on the test digits, all seeds, and write the report.

    The comparison itself goes to `comparison.json` in the folder.

    Raises:
        FolderError: If the run is not finished, is damaged, or the report cannot be written.
    """
    run = MissingDigitsRun.open(folder)
    models: dict[str, Sequence[nn.Module]] = {TEACHER: run.teachers()}
    pairs = []
    for case in CASES:
        students, name = run.students(case), case.title + KINDS[_SHIFTED]
        models |= {case.title: students, name: run.shifted(case, students)}
        # What the experiment asks: what does a shift mend, and what is left to the teacher?
        pairs += [(name, case.title), (name, TEACHER)]
    compared = compare(models, load_mnist().test, teacher=TEACHER, pairs=pairs)
    record = replace(compared, command=run.result.command)
    record.save(folder / "comparison.json")
    save_report(record, path, title="MNIST: digits never seen", settings=run.result.config)


def explore(folder: Path) -> Exploration:
    """Collect what the explorer shows of a run: teacher and students of its first seed.

    Raises:
        FolderError: If the run is not finished, or is damaged.
    """
    run, data = MissingDigitsRun.open(folder), load_mnist()
    networks = {TEACHER: run.teachers()[0]}
    networks |= {case.title: run.students(case)[0] for case in CASES}

    def show(name: str, examples: TransferSet) -> ExampleSet:
        logits = {each: compute_logits(network, examples) for each, network in networks.items()}
        return ExampleSet(name, examples, logits)

    teacher, *students = (Model(name, network) for name, network in networks.items())
    return Exploration(
        title="MNIST, digits never seen",
        teacher=teacher,
        students=tuple(students),
        sets=(show("test", data.test), show("training", _some(data))),
        temperature=run.config.temperature,
        facts={
            "Made by": run.result.command,
            "Networks": f"of the first of {run.config.seeds} seed(s)",
            "Versions": f"attar {run.result.machine.attar}, torch {run.result.machine.torch}",
        },
    )


def _some(data: Mnist) -> TransferSet:
    few = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    return data.train.subset(few[:TRANSFER_EXAMPLES].sort().values)
