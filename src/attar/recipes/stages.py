"""The stages of an experiment: train a network once, save it, report progress.

A stage writes two files. `<name>.safetensors` has the weights. `<name>.json` is a record with a
checksum: the inputs of the training, the hash of the weights, the machine and the evaluation. A
stage with a record is not trained again, but the record must have the same inputs.
"""

import json
import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from torch import Tensor, nn

from attar.cohorts import Cohort
from attar.data import ExampleSet, TransferSet, name_views
from attar.errors import AttarError, DivergedError, FolderError
from attar.evaluation import Evaluation, compute_logits, evaluate, evaluate_members
from attar.precision import resolve_precision
from attar.recipes.folder import read_record
from attar.recipes.made_of import ADVICE, MadeOf, check_made_of
from attar.recipes.work import Progress as Progress
from attar.recipes.work import WorkMeter as WorkMeter
from attar.records import Machine, this_machine, write_sealed_json
from attar.teachers.fingerprints import hash_network
from attar.tensor_files import read_tensors, write_tensors
from attar.training import LossFn, TrainingRun, TrainingSettings, load_weights, save_weights

RECORD_VERSION = 2  # increase when the same inputs no longer give the same weights
LOGITS_VERSION = 1


@dataclass(frozen=True, slots=True)
class Stage:
    """The description of a training."""

    name: str  # of its files
    title: str  # for messages
    make_network: Callable[[], nn.Module]
    settings: TrainingSettings

    def work(self, examples: int) -> float:
        """Estimate the cost: weights times examples times epochs."""
        weights = sum(parameter.numel() for parameter in self.make_network().parameters())
        return float(weights * examples * self.settings.epochs)


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained network, its evaluation, and the machine of its training."""

    network: nn.Module
    evaluation: Evaluation
    wall_seconds: float
    machine: Machine


@dataclass(frozen=True, slots=True)
class TrainedCohort:
    """Networks trained together, their evaluations, and the machine of their training."""

    evaluations: tuple[Evaluation, ...]
    wall_seconds: float
    cohort: Cohort | None  # None if the weights were not saved
    machine: Machine


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
    loss: Mapping[str, Any] | None = None,
) -> Generator[Progress, None, Trained]:
    """Train the stage's network, resume its training, or load its finished result.

    The network is measured on `test_set` about `measurements` times; `views` are those of
    `TrainingRun`. `loss` contains all numbers on which the loss depends, and the hash of the
    teacher; it may be omitted if `loss_fn` is a module-level function.

    Yields:
        Progress, after every step.

    Returns:
        The trained network and its evaluation on `test_set`.

    Raises:
        FolderError: If existing files are damaged or have other inputs.
    """
    network = stage.make_network()
    made_of = describe_training(stage, network, transfer_set, test_set, loss_fn, loss, views)
    work = stage.work(len(transfer_set))
    earlier = read_trained(stage, folder, network, made_of)
    if earlier is not None:
        meter.add(work, by_earlier_run=True)
        return earlier
    run = TrainingRun(
        network,
        transfer_set,
        loss_fn,
        stage.settings,
        checkpoint=checkpoint_path(stage, folder),
        identity=name_parts(made_of),
        measure=lambda network: asdict(evaluate(network, test_set, precision="auto")),
        measurements=measurements,
        views=views,
    )
    meter.add(work * run.steps_done / run.steps, by_earlier_run=True)
    yield from follow_run(run, stage, work, meter)
    return leave_network(stage, network, run, folder, test_set, made_of)


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
    loss: Mapping[str, Any] | None = None,
) -> Generator[Progress, None, TrainedCohort]:
    """Train the stage's cohort, as `train_stage` trains a network.

    Writes `<name>.json`, and with `keeps_weights` also `<name>.safetensors`.

    Yields:
        Progress, after every step; its errors are the mean over members.

    Returns:
        The members' evaluations on `test_set`, and the cohort if its weights are saved.

    Raises:
        FolderError: If existing files are damaged or have other inputs.
    """
    work = stage.work(len(transfer_set))
    cohort = stage.make_network()
    assert isinstance(cohort, Cohort)
    made_of = describe_training(stage, cohort, transfer_set, test_set, loss_fn, loss, views)
    path = record_path(stage, folder)
    if path.exists():
        earlier = _read_cohort(stage, folder, cohort if keeps_weights else None, made_of)
        meter.add(work, by_earlier_run=True)
        return earlier
    run = TrainingRun(
        cohort,
        transfer_set,
        loss_fn,
        stage.settings,
        checkpoint=checkpoint_path(stage, folder),
        identity=name_parts(made_of),
        views=views,
        measure=lambda network: {
            "errors": fmean(each.errors for each in evaluate_members(network, test_set))
        },
        measurements=10,
    )
    meter.add(work * run.steps_done / run.steps, by_earlier_run=True)
    yield from follow_run(run, stage, work, meter)
    evaluations = evaluate_members(cohort, test_set)
    for member, each in enumerate(evaluations):
        _check_nll(f"{stage.title}, member {member}", each)
    if keeps_weights:
        save_weights(weights_path(stage, folder), cohort)
    content = {"evaluations": [asdict(each) for each in evaluations]}
    seconds = _leave_record(
        stage, folder, run, made_of, content, kept=cohort if keeps_weights else None
    )
    return TrainedCohort(evaluations, seconds, cohort if keeps_weights else None, _machine())


def describe_training(
    stage: Stage,
    network: nn.Module,
    transfer_set: ExampleSet,
    test_set: TransferSet,
    loss_fn: LossFn,
    loss: Mapping[str, Any] | None,
    views: Sequence[int] | None,
) -> dict[str, Any]:
    """Return everything that affects a stage's weights and numbers, without paths.

    Args:
        stage: The stage.
        network: The untrained network.
        transfer_set: The training examples.
        test_set: The test examples.
        loss_fn: The loss.
        loss: The numbers and the teacher of the loss.
        views: Numbers of the views.
    """
    if loss is None:
        name = f"{loss_fn.__module__}.{getattr(loss_fn, '__qualname__', '<locals>')}"
        if "<" in name:
            raise AttarError(f"pass loss=, the numbers on which {name} depends")
        loss = {"function": name}
    shows_views = transfer_set.views is not None and (views is None or any(views))
    return {
        "version": RECORD_VERSION,
        "settings": asdict(stage.settings),
        "precision": resolve_precision(network, stage.settings.precision),
        "first weights": hash_network(network),
        "data": transfer_set.fingerprint(),
        "maker of views": name_views(transfer_set.views) if shows_views else None,
        "views": None if views is None else list(views),
        "test data": test_set.fingerprint(),
        "loss": dict(loss),
    }


def name_parts(made_of: MadeOf) -> dict[str, str]:
    """Convert the inputs of a stage to the identity of its checkpoint."""
    return {name: json.dumps(value, sort_keys=True) for name, value in made_of.items()}


def record_path(stage: Stage, folder: Path) -> Path:
    """Return the path of a stage's record."""
    return folder / f"{stage.name}.json"


def weights_path(stage: Stage, folder: Path) -> Path:
    """Return the path of a stage's weights."""
    return folder / f"{stage.name}.safetensors"


def checkpoint_path(stage: Stage, folder: Path) -> Path:
    """Return the path of an unfinished stage's checkpoint."""
    return folder / f"{stage.name}.checkpoint.safetensors"


def read_trained(stage: Stage, folder: Path, network: nn.Module, made_of: MadeOf) -> Trained | None:
    """Load the finished weights of a stage into the network; None if there are none.

    Raises:
        FolderError: If the files are damaged or have other inputs.
    """
    path = record_path(stage, folder)
    if not path.exists():
        return None
    record = read_record(path)
    check_made_of(path, made_of, record.get("made_of"))
    _load(stage, folder, network, record)
    (evaluation,), seconds, machine = _read_numbers(path, record)
    checkpoint_path(stage, folder).unlink(missing_ok=True)  # left by a process killed at the end
    return Trained(network, evaluation, seconds, machine)


def _read_cohort(
    stage: Stage, folder: Path, cohort: Cohort | None, made_of: MadeOf
) -> TrainedCohort:
    path = record_path(stage, folder)
    record = read_record(path)
    check_made_of(path, made_of, record.get("made_of"))
    if cohort is not None:
        _load(stage, folder, cohort, record)
    evaluations, seconds, machine = _read_numbers(path, record)
    checkpoint_path(stage, folder).unlink(missing_ok=True)
    return TrainedCohort(evaluations, seconds, cohort, machine)


def _read_numbers(
    path: Path, record: Mapping[str, Any]
) -> tuple[tuple[Evaluation, ...], float, Machine]:
    try:
        several = record["evaluations"] if "evaluations" in record else [record["evaluation"]]
        evaluations = tuple(Evaluation(**each) for each in several)
        return evaluations, float(record["wall_seconds"]), Machine(**record["machine"])
    except (KeyError, TypeError, ValueError) as error:
        raise FolderError(f"{path} is not a record of this release ({error}); {ADVICE}") from error


def load_network(stage: Stage, folder: Path) -> nn.Module:
    """Load the network of a finished stage, in evaluation mode.

    Raises:
        FolderError: If it is unfinished or damaged, or the weights do not match the record.
    """
    network = stage.make_network()
    _load(stage, folder, network, read_record(record_path(stage, folder)))
    return network.eval()


def _load(stage: Stage, folder: Path, network: nn.Module, record: Mapping[str, Any]) -> None:
    path = weights_path(stage, folder)
    load_weights(path, network)
    if hash_network(network) != record.get("weights"):
        raise FolderError(
            f"{path} is damaged or belongs to another training: expected the weights that "
            f"{record_path(stage, folder).name} describes; remove both files to train again"
        )


def leave_network(
    stage: Stage,
    network: nn.Module,
    run: TrainingRun,
    folder: Path,
    test_set: TransferSet,
    made_of: MadeOf,
) -> Trained:
    """Evaluate the network at the end of its run, and save it in the folder."""
    evaluation = evaluate(network, test_set)
    _check_nll(stage.title, evaluation)
    save_weights(weights_path(stage, folder), network)
    content = {"evaluation": asdict(evaluation)}
    seconds = _leave_record(stage, folder, run, made_of, content, kept=network)
    return Trained(network, evaluation, seconds, _machine())


def _leave_record(
    stage: Stage,
    folder: Path,
    run: TrainingRun,
    made_of: MadeOf,
    content: dict[str, Any],
    *,
    kept: nn.Module | None,
) -> float:
    """Write the record, which ends the stage; return how long its steps took."""
    seconds = sum(epoch.train_seconds for epoch in run.history)
    write_sealed_json(
        record_path(stage, folder),
        {
            "made_of": dict(made_of),
            "weights": None if kept is None else hash_network(kept),
            "machine": asdict(_machine()),
            **content,
            "wall_seconds": seconds,
            "history": [asdict(epoch) for epoch in run.history],
        },
    )
    checkpoint_path(stage, folder).unlink(missing_ok=True)
    return seconds


_machine = cache(this_machine)


def tell_machines(stages: Mapping[str, Trained | TrainedCohort]) -> list[dict[str, Any]]:
    """Say on which machine, and from which commit, each stage was trained to its end."""
    machines: dict[Machine, list[str]] = {}
    for name, trained in stages.items():
        machines.setdefault(trained.machine, []).append(name)
    return [{"machine": asdict(machine), "stages": names} for machine, names in machines.items()]


def _check_nll(title: str, evaluation: Evaluation) -> None:
    """Raise `DivergedError` if the last step was too much; no other one notices."""
    if not math.isfinite(evaluation.nll):
        found = f"{title}: the trained network's nll is {evaluation.nll}"
        raise DivergedError(f"{found}, expected a finite number; try a lower learning rate")


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


@dataclass(frozen=True, slots=True)
class TeacherLogits:
    """A teacher's logits of the training examples, and which teacher it is."""

    values: Tensor  # [examples, classes], of a cohort [members, examples, classes], in nats
    teacher: str  # hash of the network


def kept_logits(
    path: Path, teacher: nn.Module, transfer_set: TransferSet, *, view: int = 0
) -> TeacherLogits:
    """Return a teacher's logits of a set, from `path` if an earlier run kept them there.

    Raises:
        FolderError: If the file is damaged, or was made of another teacher, set or view.
    """
    hashed = hash_network(teacher)
    made_of = {
        "teacher": hashed,
        "data": transfer_set.fingerprint(),
        "view": view,
        "maker of views": name_views(transfer_set.views) if view else None,
    }
    if not path.exists():
        logits = compute_logits(teacher, transfer_set, view=view)
        write_tensors(
            path, {"logits": logits}, kind="logits", version=LOGITS_VERSION, made_of=made_of
        )
    kept = read_tensors(path, kind="logits", version=LOGITS_VERSION)
    check_made_of(path, made_of, (kept.header or {}).get("made_of"))
    return TeacherLogits(kept.tensors["logits"], hashed)
