"""`attar plan`: estimate the cost of a job from a few measured batches."""

import copy
import math
import os
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from attar.cohorts import Cohort
from attar.data import Batch
from attar.jobs.file import Job
from attar.jobs.running import choose_encoding
from attar.jobs.scaling import LabelingCost, cost_labeling, scale_labeling
from attar.jobs.searching import SEARCH, check_search, learned_from
from attar.jobs.sources import AnySet, check_network, load_teacher, load_transfer_set, make_network
from attar.jobs.steps import Step
from attar.jobs.students import TEACHER, labeled, plan_baseline, teacher_step
from attar.jobs.values import AUTO
from attar.labeling import ask, make_plan
from attar.losses import MemberWeights, member_distillation_loss
from attar.targets import Dense, Encoding, Sparse, StorePlan
from attar.targets.encoding import row_bytes
from attar.targets.measuring import measure
from attar.targets.quality import AnswerTally, TeacherQuality, find_doubt, summarize_answers
from attar.teachers import Ensemble, Teacher
from attar.training import LossFn, TrainingRun, TrainingSettings, hard_target_loss

SPARSE = (8, 32, 128)  # values of k
TEMPERATURES = (1.0, 2.0, 4.0, 10.0, 20.0)
_NOT_TRAINED = (
    "the teacher is not trained yet: the loss from sparse encoding can be measured afterwards"
)
_SECONDS = 2.0  # per measurement
_MOST_LOGITS = 2**22  # for measuring the loss from encoding
_MOST_UPDATES = 20


@dataclass(frozen=True, slots=True)
class EncodingCost:
    """Size of soft targets in an encoding, and the loss from it."""

    name: str
    total_bytes: int
    example_bytes: int  # of an example, view and member
    lost_nats: tuple[float, ...]  # at each temperature; none if the teacher is not trained yet
    is_chosen: bool


@dataclass(frozen=True, slots=True)
class Duration:
    """Estimated time of a step."""

    name: str
    seconds: float
    detail: str


@dataclass(frozen=True, slots=True)
class JobPlan:
    """Estimates for a job."""

    examples: int
    classes: int
    views: int
    members: int
    temperatures: tuple[float, ...]
    measured_examples: int  # for measuring the loss from encoding
    encodings: tuple[EncodingCost, ...]
    durations: tuple[Duration, ...]
    memory_bytes: int | None  # peak; None if unknown on this system
    note: str  # what could not be estimated, and why; usually empty
    labeling: LabelingCost  # of one worker
    teacher: TeacherQuality | None  # on the measured examples; None if not trained or no labels
    doubt: str | None  # what looks wrong about the teacher


def plan_job(job: Job) -> JobPlan:
    """Measure a few batches, and the accuracy of the teacher, without writing anything.

    Raises:
        JobError: If something that the job file names cannot be loaded, or does not fit.
    """
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # of modules beside the job
    try:
        return _plan(job)
    finally:
        sys.dont_write_bytecode = before


def _plan(job: Job) -> JobPlan:
    transfer_set = load_transfer_set(job, cache=False)
    student = make_network(job, "student", seed=job.settings.distill.seeds[0])
    check_network(job, student, transfer_set, "student")
    check_search(job, student, transfer_set)
    steps = {
        position: teacher_step(job, transfer_set, position)
        for position, each in enumerate(job.settings.teacher)
        if each.train is not None
    }
    done = {position for position, step in steps.items() if step.is_done()}
    weights = {position: steps[position].place / TEACHER for position in done}
    teacher = load_teacher(job, transfer_set, weights.get)
    is_trained = done == set(steps)
    with job.blaming("soft_targets"):
        chosen = choose_encoding(job)
        store = make_plan(teacher, transfer_set, chosen, job.settings.soft_targets.views, 0)
        logits, seconds, quality = _ask(job, teacher, transfer_set)
    expected_accuracy = job.settings.soft_targets.expected_accuracy
    temperatures = _temperatures(job)
    cost = cost_labeling(store, transfer_set.subset(torch.tensor([0])).inputs.nbytes, seconds)
    is_ray = job.settings.cluster.engine == "ray"
    table = job.settings.cluster if is_ray else job.settings.soft_targets
    workers = table.workers or os.cpu_count() or 1
    taken = scale_labeling(cost, workers).seconds if is_ray else cost.worker_seconds / workers
    detail = f"{seconds * 1000:.3g} ms per example on one thread, {workers} worker(s)"
    labeling = Duration("label", taken, detail)
    return JobPlan(
        examples=store.examples,
        classes=store.classes,
        views=len(store.views),
        members=store.member_count,
        temperatures=temperatures,
        measured_examples=logits.shape[1] if is_trained else 0,
        encodings=_cost_encodings(store, chosen, logits if is_trained else None, temperatures),
        durations=(
            *_time_teachers(job, transfer_set, steps, done),
            labeling,
            *_time_students(job, transfer_set, student, logits),
        ),
        memory_bytes=_memory(store, workers),
        note="" if is_trained else _NOT_TRAINED,
        labeling=cost,
        teacher=quality if is_trained else None,
        doubt=find_doubt(quality, expected_accuracy) if is_trained else None,
    )


def _temperatures(job: Job) -> tuple[float, ...]:
    asked = job.settings.distill.temperature
    asked = 1.0 if asked == AUTO else asked
    return tuple(sorted({*TEMPERATURES, asked} if asked >= 1 else TEMPERATURES))


def _ask(
    job: Job, teacher: Teacher, transfer_set: AnySet
) -> tuple[Tensor, float, TeacherQuality | None]:
    """Run the teacher on random examples of the set, in growing batches.

    Returns:
        Logits `[members, examples, classes]`, the seconds per example on one thread, and the
        accuracy of the teacher.
    """
    most = max(1, _MOST_LOGITS // transfer_set.classes)
    order = torch.randperm(len(transfer_set), generator=torch.Generator().manual_seed(0))
    members: Sequence[Teacher] = teacher.teachers if isinstance(teacher, Ensemble) else (teacher,)
    tallies = [AnswerTally(transfer_set.classes) for _ in members]
    threads = torch.get_num_threads()
    found, done, size, seconds = [], 0, 1, 0.0
    started = time.monotonic()
    torch.set_num_threads(1)  # as a worker does
    try:
        while done < min(len(order), most):
            view = job.settings.soft_targets.views[-1]
            indices, before = order[done : done + size], time.monotonic()
            answers = [ask(each, transfer_set, indices, view) for each in members]
            found.append(torch.stack([logits.float() for logits, _ in answers]))
            seconds = (time.monotonic() - before) / len(indices)
            for tally, (logits, hard_targets) in zip(tallies, answers, strict=True):
                tally.add(logits, hard_targets)
            done += len(indices)
            if time.monotonic() - started > _SECONDS:
                break
            size = min(4 * size, job.settings.soft_targets.batch_size)
    finally:
        torch.set_num_threads(threads)
    quality = summarize_answers([[tally.counts()] for tally in tallies], transfer_set.classes)
    return torch.cat(found, dim=1), seconds, quality


def _cost_encodings(
    store: StorePlan, chosen: Encoding, logits: Tensor | None, temperatures: tuple[float, ...]
) -> tuple[EncodingCost, ...]:
    encodings: list[Encoding] = [Dense(), *(Sparse(k=k) for k in SPARSE if k < store.classes)]
    if chosen not in encodings:
        encodings.append(chosen)
    costs = []
    for encoding in encodings:
        size = row_bytes(encoding, store.classes)
        lost: tuple[float, ...] = ()
        if logits is not None:
            lost = measure(logits.flatten(0, 1), encoding, temperatures).lost_nats
        costs.append(
            EncodingCost(
                name="dense" if isinstance(encoding, Dense) else f"k = {encoding.k}",
                total_bytes=size * store.examples * len(store.views) * store.member_count,
                example_bytes=size,
                lost_nats=lost,
                is_chosen=encoding == chosen,
            )
        )
    return tuple(costs)


def _time_teachers(
    job: Job, transfer_set: AnySet, steps: Mapping[int, Step], done: Collection[int]
) -> tuple[Duration, ...]:
    durations = []
    for position, step in steps.items():
        if position in done:
            durations.append(Duration(step.title, 0.0, "done already"))
            continue
        table = job.settings.teacher[position].train
        assert table is not None
        network = make_network(job, "teacher", position, seed=table.seed)
        examples = labeled(job, transfer_set, "teacher", position, "train")
        settings = TrainingSettings(**table.model_dump())
        seconds = _time_update(network, examples, hard_target_loss, settings)
        durations.append(_duration(step.title, settings, len(examples), seconds))
    return tuple(durations)


def _time_students(
    job: Job, transfer_set: AnySet, student: nn.Module, logits: Tensor
) -> tuple[Duration, ...]:
    table = job.settings.distill
    settings = TrainingSettings(
        epochs=table.epochs,
        batch_size=table.batch_size,
        learning_rate=table.learning_rate,
        optimizer=table.optimizer,
        seed=0,
    )

    temperatures = SEARCH.temperatures if table.temperature == AUTO else (table.temperature,)
    terms = {"soft_weight": table.soft_weight, "hard_weight": table.hard_weight}
    candidates = [MemberWeights(temperature=each, **terms) for each in temperatures]

    def loss_fn(found: Tensor, batch: Batch) -> Tensor:
        rows = batch.indices % logits.shape[1]  # any logits serve for timing
        found = found if found.ndim == 3 else found[None]  # [candidates, batch, classes]
        weights = candidates[: len(found)]
        losses = [
            member_distillation_loss(found, member[rows], batch.hard_targets, weights)
            for member in logits
        ]
        return torch.stack(losses).mean(dim=(0, 2)).sum()

    seeds, durations = len(table.seeds), []
    if table.temperature == AUTO:
        cohort = Cohort([copy.deepcopy(student) for _ in candidates])
        seconds = _time_update(cohort, transfer_set, loss_fn, settings)
        examples = learned_from(transfer_set)
        durations.append(_duration("the temperature", settings, examples, seconds, seeds))
    seconds = _time_update(student, transfer_set, loss_fn, settings)
    durations.append(_duration("distill", settings, len(transfer_set), seconds, seeds))
    if job.settings.baseline is not None:
        baseline = plan_baseline(job, transfer_set, seed=0)
        durations.append(
            _duration("baseline", baseline.settings, len(baseline.examples), seconds, seeds)
        )
    return tuple(durations)


def _time_update(
    network: nn.Module, examples: AnySet, loss_fn: LossFn, settings: TrainingSettings
) -> float:
    """Return the median time of an update of a network, in seconds.

    The first update, in which torch loads and allocates, is not counted.
    """
    few = examples.subset(torch.arange(min(len(examples), _MOST_UPDATES * settings.batch_size)))
    times: list[float] = []
    before = started = time.monotonic()
    for step in TrainingRun(network, few, loss_fn, replace(settings, epochs=settings.epochs + 1)):
        now = time.monotonic()
        if step.index == 1:
            started = now
        else:
            times.append(now - before)
        before = now
        if times and (now - started > _SECONDS or len(times) == _MOST_UPDATES):
            break
    return sorted(times)[len(times) // 2]


def _duration(
    name: str, settings: TrainingSettings, examples: int, update_seconds: float, seeds: int = 1
) -> Duration:
    updates = settings.epochs * math.ceil(examples / settings.batch_size) * seeds
    times = f", {seeds} seeds" if seeds > 1 else ""
    detail = f"{updates:,} updates of {update_seconds * 1000:.3g} ms{times}"
    return Duration(name, updates * update_seconds, detail)


def _memory(store: StorePlan, workers: int) -> int | None:
    """Estimate peak memory: that of this process so far, plus the shards being written."""
    try:
        import resource
    except ImportError:  # on Windows
        return None
    reached = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    reached *= 1 if sys.platform == "darwin" else 1024
    shard = min(store.shard_examples, store.examples) * row_bytes(store.encoding, store.classes)
    return reached + 2 * workers * shard  # the columns, and the file
