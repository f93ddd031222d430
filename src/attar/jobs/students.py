"""The training steps: teachers, distilled students, and baselines on hard targets."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import nn

from attar.errors import FolderError
from attar.jobs.file import Job
from attar.jobs.histories import add_epoch
from attar.jobs.searching import choice_path, keep_choice, learned_from
from attar.jobs.sources import AnySet, check_network, code_of, identify_views, make_network
from attar.jobs.steps import JobProgress, Step, Tell
from attar.jobs.values import AUTO
from attar.precision import Precision
from attar.progress import TimeLeft
from attar.targets import SoftTargets
from attar.teachers.fingerprints import hash_network
from attar.temperatures import TemperatureChoice
from attar.training import Step as Update
from attar.training import (
    TrainingRun,
    TrainingSettings,
    hard_target_loss,
    make_settings,
    save_weights,
)

TEACHER, STUDENT = "teacher.safetensors", "student.safetensors"
_CHECKPOINT = "checkpoint.safetensors"


def labeled(job: Job, transfer_set: AnySet, *key: str | int) -> AnySet:
    """Return the examples that have a hard target; raise `JobError` if none has."""
    with job.blaming(*key):
        return transfer_set.labeled()


def teacher_name(position: int) -> str:
    """Return the name, and folder, of the step that trains a teacher."""
    return f"train/teacher-{position}"


def teacher_step(job: Job, transfer_set: AnySet, position: int) -> Step:
    """Return the step that trains a teacher."""
    key = ("teacher", position)
    table = job.settings.teacher[position]
    assert table.train is not None
    network = make_network(job, *key, seed=table.train.seed)
    check_network(job, network, transfer_set, *key)
    return Step(
        job.folder,
        teacher_name(position),
        {
            **table.train.model_dump(),
            "teacher": table.source,
            "the teacher's code": code_of(job, *key),
            "the teacher's first weights": hash_network(network),
            "the transfer set": transfer_set.fingerprint(),
            **identify_views(job, transfer_set, are_seen=transfer_set.views is not None),
        },
    )


def train_teacher(job: Job, transfer_set: AnySet, position: int, step: Step, tell: Tell) -> None:
    """Train a teacher on the hard targets and save its weights."""
    key = ("teacher", position)
    table = job.settings.teacher[position].train
    assert table is not None
    examples = labeled(job, transfer_set, *key, "train")
    network = make_network(job, *key, seed=table.seed)
    with job.blaming(*key, "train", but=FolderError):
        run = TrainingRun(
            network,
            examples,
            hard_target_loss,
            TrainingSettings(**table.model_dump()),
            checkpoint=step.place / _CHECKPOINT,
        )
        meter = _Meter(step.title, run.steps, table.epochs, len(examples), tell, step.place)
        for update in run:
            meter(update)
    _keep(step, TEACHER, network, precision=run.precision)


def distill_step(
    job: Job, network: nn.Module, store: SoftTargets | None, transfer_set: AnySet, seed: int
) -> Step:
    """Return the step of a distilled student; without the store, its inputs omit the targets."""
    inputs = job.settings.distill.model_dump(exclude={"seeds"}) | {"seed": seed}
    inputs["member_weights"] = inputs["member_weights"] and list(inputs["member_weights"])
    inputs |= _of_student(job, network, transfer_set)
    if store is not None:
        inputs["the soft targets"] = store.fingerprint()  # includes the name of the views, if any
    views = identify_views(job, transfer_set, are_seen=any(job.settings.soft_targets.views))
    inputs |= {name: value for name, value in views.items() if name != "jitter"}
    return Step(job.folder, f"distill/seed-{seed}", inputs)


def distill_student(
    job: Job,
    network: nn.Module,
    store: SoftTargets,
    transfer_set: AnySet,
    learn: Callable[..., nn.Module],
    step: Step,
    tell: Tell,
) -> None:
    """Train a student with `attar.distill` or an equivalent, and save its weights."""
    table, checkpoint = job.settings.distill, step.place / _CHECKPOINT

    def make_meter(title: str, examples: int, place: Path | None = None) -> "_Meter":
        steps = table.epochs * -(-examples // table.batch_size)
        return _Meter(title, steps, table.epochs, examples, tell, place)

    if table.temperature == AUTO:
        meter = make_meter(f"{step.title}, the temperature", learned_from(transfer_set))
    else:
        meter = make_meter(step.title, len(transfer_set), step.place)

    def choose(choice: TemperatureChoice) -> None:
        nonlocal meter
        tell(f"{step.title}: {choice}")
        meter = make_meter(step.title, len(transfer_set), step.place)

    with job.blaming("distill", but=FolderError):
        learn(
            network,
            transfer_set,
            store,
            **table.model_dump(exclude={"seeds"}),
            seed=step.inputs["seed"],
            checkpoint=checkpoint,
            progress=lambda update: meter(update),
            **({"on_choice": choose} if table.temperature == AUTO else {}),
        )
    _keep(step, STUDENT, network, *keep_choice(step, checkpoint), precision=meter.precision)
    choice_path(checkpoint).unlink(missing_ok=True)


@dataclass(frozen=True)
class Baseline:
    """A student on hard targets alone, at the budget of the distilled one."""

    settings: TrainingSettings
    examples: AnySet  # those with a hard target
    views: tuple[int, ...]  # as for the distilled student


def plan_baseline(job: Job, transfer_set: AnySet, seed: int) -> Baseline:
    """Return the training of the baseline: as the distilled student, except as set in the job."""
    table, distilled = job.settings.baseline, job.settings.distill
    assert table is not None
    examples = labeled(job, transfer_set, "baseline")
    updates = distilled.epochs * len(transfer_set) / len(examples)
    epochs = table.epochs or max(1, round(updates))
    settings = make_settings(
        epochs,
        distilled.batch_size,
        table.learning_rate or distilled.learning_rate,
        distilled.optimizer,
        seed,
    )
    return Baseline(settings, examples, job.settings.soft_targets.views)


def baseline_step(job: Job, network: nn.Module, baseline: Baseline, transfer_set: AnySet) -> Step:
    """Return the step of a student on hard targets."""
    inputs = asdict(baseline.settings) | {"views": list(baseline.views)}
    inputs |= _of_student(job, network, transfer_set)
    inputs |= identify_views(job, transfer_set, are_seen=any(baseline.views))
    return Step(job.folder, f"baseline/seed-{baseline.settings.seed}", inputs)


def train_baseline(
    job: Job, network: nn.Module, baseline: Baseline, step: Step, tell: Tell
) -> None:
    """Train a student on hard targets and save its weights."""
    with job.blaming("baseline", but=FolderError):
        run = TrainingRun(
            network,
            baseline.examples,
            hard_target_loss,
            baseline.settings,
            checkpoint=step.place / _CHECKPOINT,
            views=baseline.views,
        )
        epochs, examples = baseline.settings.epochs, len(baseline.examples)
        meter = _Meter(step.title, run.steps, epochs, examples, tell, step.place)
        for update in run:
            meter(update)
    _keep(step, STUDENT, network, precision=run.precision)


def _of_student(job: Job, network: nn.Module, transfer_set: AnySet) -> dict[str, str | None]:
    return {
        "student": job.settings.student.source,
        "the student's code": code_of(job, "student"),
        "the student's first weights": hash_network(network),
        "the transfer set": transfer_set.fingerprint(),
    }


def _keep(
    step: Step, name: str, network: nn.Module, *others: str, precision: Precision | None
) -> None:
    """Save weights, and finish the step; `precision` is that of the training, None if unknown."""
    save_weights(step.place / name, network)
    step.finish(name, *others, **({} if precision is None else {"precision": precision}))
    (step.place / _CHECKPOINT).unlink(missing_ok=True)


class _Meter:
    """Converts training steps to progress, and records epochs in a folder, if given."""

    def __init__(
        self,
        title: str,
        steps: int,
        epochs: int,
        examples: int,
        tell: Tell,
        place: Path | None,
    ) -> None:
        self.place = place
        self.title, self.steps, self.epochs, self.tell = title, steps, epochs, tell
        self.examples_per_step = examples * epochs / steps
        self.first, self.latest = -1, 0  # updates done before
        self.started = time.monotonic()
        self.loss: float | None = None
        self.precision: Precision | None = None  # of the updates
        self.time_left = TimeLeft(float(steps))

    def __call__(self, update: Update) -> None:
        if self.first < 0:
            self.first = self.latest = update.index - 1
        self.time_left.add(update.index - self.latest)
        self.latest, self.precision = update.index, update.precision
        if update.epoch is not None:
            self.loss = update.epoch.mean_loss
            if self.place is not None:
                add_epoch(self.place, update.epoch)
        done = update.index - self.first
        seconds = time.monotonic() - self.started
        epoch = (update.index - 1) * self.epochs // self.steps + 1
        loss = "" if self.loss is None else f" · loss {self.loss:.4g}"
        speed = done * self.examples_per_step / max(seconds, 1e-9)
        self.tell(
            JobProgress(
                title=self.title,
                fraction=update.index / self.steps,
                detail=f"epoch {epoch}/{self.epochs}{loss} · {speed:,.0f} examples/s",
                seconds_left=self.time_left.seconds(self.steps - update.index),
                update=update,
            )
        )
