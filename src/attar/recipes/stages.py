"""The steps that experiments are made of: train a network once, keep it, tell how far it is."""

import math
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

import safetensors
import safetensors.torch
from torch import Tensor, nn

from attar.cohorts import Cohort
from attar.data import TransferSet
from attar.errors import DivergedError, FolderError, file_error
from attar.evaluation import Evaluation, evaluate, evaluate_members
from attar.files import write_atomically
from attar.recipes.work import Progress as Progress
from attar.recipes.work import WorkMeter as WorkMeter
from attar.records import read_json, write_json
from attar.teachers.fingerprints import hash_network
from attar.training import LossFn, TrainingRun, TrainingSettings, load_weights, save_weights


@dataclass(frozen=True, slots=True)
class Stage:
    """A network to be trained: all that is known before any training starts."""

    name: str  # of its files
    title: str  # for people
    make_network: Callable[[], nn.Module]
    settings: TrainingSettings

    def work(self, examples: int) -> float:
        """Estimate the cost: weights times examples times epochs."""
        weights = sum(parameter.numel() for parameter in self.make_network().parameters())
        return float(weights * examples * self.settings.epochs)


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained network, and how well it does."""

    network: nn.Module
    evaluation: Evaluation
    wall_seconds: float


def train_stage(
    stage: Stage,
    transfer_set: TransferSet,
    loss_fn: LossFn,
    *,
    folder: Path,
    test_set: TransferSet,
    meter: WorkMeter,
    measurements: int = 20,
    views: Sequence[int] | None = None,
) -> Generator[Progress, None, Trained]:
    """Train the stage's network, or go on where an earlier process stopped, or load what it left.

    Leaves `<name>.safetensors` (the weights) and `<name>.json` (settings, evaluation, every epoch).
    About `measurements` times it is measured on `test_set` in between; `views` are those of
    `TrainingRun`.

    Yields:
        How far it is, after every step.

    Returns:
        The trained network and its evaluation on `test_set`.
    """
    network = stage.make_network()
    work = stage.work(len(transfer_set))
    earlier = read_trained(stage, folder, network)
    if earlier is not None:
        meter.add(work, by_earlier_run=True)
        return earlier
    checkpoint = folder / f"{stage.name}.checkpoint.safetensors"
    run = TrainingRun(
        network,
        transfer_set,
        loss_fn,
        stage.settings,
        checkpoint=checkpoint,
        measure=lambda network: asdict(evaluate(network, test_set, precision="auto")),
        measurements=measurements,
        views=views,
    )
    meter.add(work * run.steps_done / run.steps, by_earlier_run=True)
    yield from follow_run(run, stage, work, meter)
    return leave_network(stage, network, run, folder, test_set)


def read_trained(stage: Stage, folder: Path, network: nn.Module) -> Trained | None:
    """Put the weights that an earlier run left into the network; None if there are none."""
    record = folder / f"{stage.name}.json"
    if not record.exists():
        return None
    load_weights(folder / f"{stage.name}.safetensors", network)
    return Trained(network, *_read_record(record))


def leave_network(
    stage: Stage, network: nn.Module, run: TrainingRun, folder: Path, test_set: TransferSet
) -> Trained:
    """Evaluate the network at the end of its run, and leave it in the folder."""
    record, weights = folder / f"{stage.name}.json", folder / f"{stage.name}.safetensors"
    seconds = sum(epoch.train_seconds for epoch in run.history)
    evaluation = evaluate(network, test_set)
    _check_nll(stage.title, evaluation)
    save_weights(weights, network)
    write_json(
        record,
        {
            "settings": asdict(stage.settings),
            "evaluation": asdict(evaluation),
            "wall_seconds": seconds,
            "history": [asdict(epoch) for epoch in run.history],
        },
    )
    (folder / f"{stage.name}.checkpoint.safetensors").unlink(missing_ok=True)
    return Trained(network, evaluation, seconds)


def _read_record(path: Path) -> tuple[Evaluation, float]:
    content = read_json(path)
    try:
        return Evaluation(**content["evaluation"]), float(content["wall_seconds"])
    except (KeyError, TypeError, ValueError) as error:
        raise FolderError(f"{path} is damaged ({error}); remove it to train again") from error


def follow_run(
    run: TrainingRun, stage: Stage, work: float, meter: WorkMeter
) -> Generator[Progress, None, None]:
    """Do the steps that are left of a stage's run, and yield how far it is after each."""
    examples_per_step = len(run.transfer_set) / run.steps_per_epoch
    measured = [epoch.measurements for epoch in run.history if epoch.measurements]
    errors = int(measured[-1]["errors"]) if measured else None
    first, started = run.steps_done, time.monotonic()
    for step in run:
        meter.add(work / run.steps)
        if step.epoch and step.epoch.measurements:
            errors = int(step.epoch.measurements["errors"])
        yield Progress(
            title=stage.title,
            epoch=(step.index - 1) // run.steps_per_epoch + 1,
            epochs=stage.settings.epochs,
            fraction=meter.done / meter.total,
            errors=errors,
            examples_per_second=(step.index - first)
            * examples_per_step
            / (time.monotonic() - started),
            seconds_left=meter.seconds_left,
            stage=stage.name,
            step=step,
        )


def kept_logits(path: Path, teacher: nn.Module, compute: Callable[[], Tensor]) -> Tensor:
    """Return the logits that `compute` makes of a teacher, from `path` if an earlier run kept them.

    Raises:
        FolderError: If the file is damaged, or was made of another teacher.
    """
    made_of = hash_network(teacher)
    if not path.exists():
        content = safetensors.torch.save({"logits": compute()}, metadata={"teacher": made_of})
        write_atomically(path, content)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            kept: Tensor = file.get_tensor("logits")
            is_of_teacher = (file.metadata() or {}).get("teacher") == made_of
    except OSError as error:
        raise file_error("read", path, error) from error
    except safetensors.SafetensorError as error:
        raise FolderError(f"{path} is damaged ({error}); remove it to label again") from error
    if not is_of_teacher:
        raise FolderError(f"{path} is of another teacher; give another folder with --out")
    return kept


@dataclass(frozen=True, slots=True)
class TrainedCohort:
    """Networks that were trained together, and how well each does."""

    evaluations: tuple[Evaluation, ...]
    wall_seconds: float
    cohort: Cohort | None  # None where the weights were not kept


def train_cohort_stage(
    stage: Stage,
    transfer_set: TransferSet,
    loss_fn: LossFn,
    *,
    folder: Path,
    test_set: TransferSet,
    meter: WorkMeter,
    views: Sequence[int] | None = None,
    keeps_weights: bool = False,
) -> Generator[Progress, None, TrainedCohort]:
    """Train the stage's cohort as `train_stage` trains a network.

    Leaves `<name>.json`, and if `keeps_weights` also `<name>.safetensors`.

    Yields:
        How far it is, after every step; its errors are the members' mean.

    Returns:
        The members' evaluations on `test_set`, and the cohort if its weights are kept.
    """
    work = stage.work(len(transfer_set))
    record, weights = folder / f"{stage.name}.json", folder / f"{stage.name}.safetensors"
    cohort = stage.make_network()
    assert isinstance(cohort, Cohort)
    if record.exists():
        if keeps_weights:
            load_weights(weights, cohort)
        meter.add(work, by_earlier_run=True)
        return TrainedCohort(*_read_cohort_record(record), cohort if keeps_weights else None)
    checkpoint = folder / f"{stage.name}.checkpoint.safetensors"
    run = TrainingRun(
        cohort,
        transfer_set,
        loss_fn,
        stage.settings,
        checkpoint=checkpoint,
        views=views,
        measure=lambda network: {
            "errors": fmean(each.errors for each in evaluate_members(network, test_set))
        },
        measurements=10,
    )
    meter.add(work * run.steps_done / run.steps, by_earlier_run=True)
    yield from follow_run(run, stage, work, meter)
    seconds = sum(epoch.train_seconds for epoch in run.history)
    evaluations = evaluate_members(cohort, test_set)
    for member, each in enumerate(evaluations):
        _check_nll(f"{stage.title}, member {member}", each)
    if keeps_weights:
        save_weights(weights, cohort)
    write_json(
        record,
        {
            "settings": asdict(stage.settings),
            "evaluations": [asdict(each) for each in evaluations],
            "wall_seconds": seconds,
            "history": [asdict(epoch) for epoch in run.history],
        },
    )
    checkpoint.unlink(missing_ok=True)
    return TrainedCohort(evaluations, seconds, cohort if keeps_weights else None)


def _check_nll(title: str, evaluation: Evaluation) -> None:
    """Raise `DivergedError` if the last step was too much; no other one notices."""
    if not math.isfinite(evaluation.nll):
        found = f"{title}: the trained network's nll is {evaluation.nll}"
        raise DivergedError(f"{found}, expected a finite number; try a lower learning rate")


def _read_cohort_record(path: Path) -> tuple[tuple[Evaluation, ...], float]:
    content = read_json(path)
    try:
        evaluations = tuple(Evaluation(**each) for each in content["evaluations"])
        return evaluations, float(content["wall_seconds"])
    except (KeyError, TypeError, ValueError) as error:
        raise FolderError(f"{path} is damaged ({error}); remove it to train again") from error
