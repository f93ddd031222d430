"""Collect the content of the explorer from a finished job."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor, nn

from attar.errors import FolderError
from attar.evaluation import compute_logits
from attar.explorer import ExampleSet, Exploration, Model
from attar.jobs.file import Job
from attar.jobs.running import JobRun, read_owner
from attar.jobs.searching import CHOICE
from attar.jobs.sources import AnySet
from attar.jobs.values import AUTO
from attar.losses import mean_logits, member_shares
from attar.teachers.networks import NetworkTeacher
from attar.temperatures import TemperatureChoice

TEACHER = "teacher"
TEST_EXAMPLES, TRANSFER_EXAMPLES = 10_000, 1000  # shown, at most
TEST_BYTES, TRANSFER_BYTES = 8_000_000, 1_500_000  # of their inputs, at most
_BATCH = 256


def refuse_folder(folder: Path) -> NoReturn:
    """Raise an error that explains how to explore a job; folders never run code.

    Raises:
        FolderError: Always.
    """
    name = read_owner(folder)
    above = [each / name for each in folder.resolve().parents if (each / name).is_file()]
    path = above[0] if above else Path(name)
    missing = "" if above else f" (no folder above {folder} has {name})"
    raise FolderError(
        f"exploring {folder} needs its job file, which runs the Python code that it names; "
        f"if you trust it, run: attar explore {shlex.quote(str(path))}{missing}"
    )


def explore_job(job: Job) -> Exploration:
    """Collect the models and examples of a job: the teacher, and the students of the first seed.

    For an ensemble, the mean with which the students were distilled is shown.

    Raises:
        JobError: If the students are not trained yet, or the inputs of a step have changed.
    """
    run = JobRun(job, frozenset(), print)
    run.check_teacher()
    networks = {name: each[0] for name, each in run.students().items()}
    sets = []
    if job.settings.test_set is not None and run.teacher.reads_inputs:
        shown = _choose(run.test_set, TEST_EXAMPLES, TEST_BYTES)
        sets.append(_show("test", run, run.test_set, shown, networks))
    shown = _choose(run.transfer_set, TRANSFER_EXAMPLES, TRANSFER_BYTES)
    sets.append(_show("transfer", run, run.transfer_set, shown, networks))
    teacher = run.teacher.network if isinstance(run.teacher, NetworkTeacher) else None
    students = {name: Model(name, networks[name]) for name in reversed(networks)}
    return Exploration(
        title=job.path.stem,
        teacher=Model(TEACHER, teacher),
        students=tuple(students.values()),
        sets=tuple(sets),
        temperature=_temperature(run),
        facts=_facts(run),
    )


def _choose(data: AnySet, most: int, most_bytes: int) -> Tensor:
    """Choose the examples to show: all, or a random sample if there are too many."""
    inputs = data.batch(torch.tensor([0])).inputs[0]
    count = max(1, min(most, most_bytes // max(1, inputs.numel()), len(data)))
    drawn = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    return drawn[:count].sort().values


def _show(
    name: str, run: JobRun, data: AnySet, rows: Tensor, networks: Mapping[str, nn.Module]
) -> ExampleSet:
    examples = data.subset(rows)
    logits = {each: compute_logits(network, examples) for each, network in networks.items()}
    # Stored scores are indexed by positions in the whole set.
    answers = [run.teacher.logits(data.batch(some)).float() for some in rows.split(_BATCH)]
    of_teacher = torch.cat(answers, dim=-2)
    if of_teacher.ndim == 3:
        distill = run.job.settings.distill
        shares = member_shares(distill.member_weights, len(of_teacher))
        of_teacher = mean_logits(of_teacher, mean=distill.mean, shares=shares)
    return ExampleSet(name, examples, {TEACHER: of_teacher} | logits)


def _temperature(run: JobRun) -> float:
    asked = run.job.settings.distill.temperature
    if asked == AUTO:
        step = run.student_steps()["distilled"][0]
        return TemperatureChoice.read(step.place / CHOICE).temperature
    return asked


def _facts(run: JobRun) -> dict[str, str]:
    """Return facts about a job, for the end of a page."""
    settings = run.job.settings
    machine = run.student_steps()["distilled"][0].machine()
    versions = [f"{name} {machine.get(name.lower())}" for name in ("attar", "torch", "Python")]
    seeds = len(settings.distill.seeds)
    return {
        "Made by": f"attar run {run.job.path.name}",
        "Teacher": ", ".join(each.source for each in settings.teacher),
        "Student": f"{settings.student.source}, of the first of {seeds} seed(s)",
        "Versions": ", ".join(versions),
        "Processor": f"{machine.get('processor')}, {machine.get('cores')} cores",
    }
