"""`attar.label`: run a teacher over a transfer set once and store its soft targets."""

import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Future,
    ThreadPoolExecutor,
    wait,
)
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from attar.data import ExampleSet, name_views
from attar.errors import AttarError, DataError, TeacherWarning, check_positive
from attar.precision import keep_freed_memory
from attar.progress import reporting
from attar.targets import (
    Dense,
    Encoding,
    Shard,
    ShardEntry,
    SoftTargets,
    StorePlan,
    TargetWriter,
    View,
)
from attar.targets.manifest import AnswerCounts
from attar.targets.quality import (
    AnswerTally,
    check_expected_accuracy,
    counted_view,
    find_doubt,
    find_store_doubt,
    is_mixed,
    summarize_answers,
)
from attar.targets.writer import PackedShard
from attar.teachers import Ensemble, Teacher, as_teacher
from attar.teachers.networks import hash_members
from attar.urls import Place, as_place

_OTHERS_TRIED = 8  # further examples to try after the teacher has failed on one


@dataclass(frozen=True, slots=True)
class LabelingProgress:
    """Progress of labeling."""

    rows: int  # stored rows of logits `[classes]`: one per example, view and member
    total_rows: int
    rows_per_second: float  # of this run
    seconds_left: float | None  # None before this run has stored a row

    @property
    def fraction(self) -> float:
        """Fraction of all rows."""
        return self.rows / self.total_rows

    def __str__(self) -> str:
        """Return one line of progress."""
        speed = f" · {self.rows_per_second:,.0f} rows/s" if self.rows_per_second else ""
        return f"labeling · {self.rows:,} of {self.total_rows:,} rows{speed}"


def label(
    teacher: object,
    transfer_set: ExampleSet,
    folder: Place | str,
    *,
    encoding: Encoding | None = None,
    views: Sequence[int] = (0,),
    batch_size: int = 256,
    workers: int | None = None,
    shard_examples: int = 0,
    expected_accuracy: float | None = None,
    progress: Callable[[LabelingProgress], None] | None = None,
) -> SoftTargets:
    """Run a teacher over every example of a transfer set and store its logits in a folder.

    An interrupted run resumes with the missing shards. Existing shards are first compared with
    their checksums; damaged shards, and missing shards of a finished store, are labeled again. Each
    worker computes a whole shard, with products on one thread, so the bytes do not depend on the
    number of workers. It computes the next shard while the last one is written. If one worker
    fails, the others stop at their next batch; finished shards are kept.

    The last bit of a few logits depends on `batch_size`, because processors round the products of
    batches of different sizes differently. A store may be resumed with another `batch_size`.

    Each example has exactly one true class: soft targets are a softmax over the classes.
    Multi-label teachers (sigmoid outputs), regressors and embedding models are not supported yet.
    attar cannot recognize sigmoid outputs and would treat them as logits of one class among
    several. For such tasks, use `TrainingRun` with a custom loss.

    If the transfer set has hard targets, the result's `teacher_quality` contains the teacher's
    accuracy on them. If the teacher looks wrong, one warning is issued, as early as possible.

    Args:
        teacher: Any source that `attar.as_teacher` accepts. To set options (the version of a
            function, probabilities instead of logits, a padding token, an image processor), call
            `attar.as_teacher` and pass the result. Several threads call the teacher at once; pass
            `workers=1` if it is not thread-safe.
        transfer_set: The examples.
        folder: Folder of the store, or its URL, such as `s3://bucket/store`; new, empty, or with a
            store of the same teacher, data and encoding. A store without a finished shard may be
            replaced by another one.
        encoding: `Dense()` (the default) or `Sparse(k=...)`.
        views: Numbers of the views to label; 0 is the plain example. A student sees one of them per
            epoch, in turn.
        batch_size: Examples in a batch of the teacher.
        workers: Number of worker threads; by default one per core.
        shard_examples: Examples in a shard, the unit of resuming; by default
            32 MiB, or an eighth of the examples.
        expected_accuracy: Known accuracy of the teacher, a fraction such as 0.8. A warning is
            issued if the accuracy on the labeled examples is clearly lower.
        progress: Called at the start and after each stored shard, in the calling thread;
            `attar.ProgressBar()` shows it.

    Returns:
        The finished store.

    Warns:
        TeacherWarning: If the teacher's accuracy is not significantly higher than that of always
            predicting the most frequent class, or is far below `expected_accuracy`. This needs at
            least 50 examples with a hard target. If the first shards show it, the warning is issued
            during labeling.
        StoreWarning: If shards are damaged, or missing from a finished store.

    Raises:
        DataError: If the teacher fails on an example, or a logit is not finite; the message names
            the example. If the set or the teacher does not have the views. If there is only one
            class.
        ShapeError: If the teacher's classes differ from the transfer set's.
        StoreError: If the folder has another store, or the new logits of a missing shard of a
            finished store differ from the old ones.
        FolderError: If the folder cannot be written, or the disk is full.
    """
    check_positive(batch_size=float(batch_size))
    count = os.cpu_count() or 1 if workers is None else workers
    check_positive(workers=float(count))
    check_expected_accuracy(expected_accuracy)
    asked = as_teacher(
        teacher,
        class_names=transfer_set.class_names,
        examples=len(transfer_set),
        feature_names=getattr(transfer_set, "feature_names", None),
    )
    plan = make_plan(asked, transfer_set, encoding or Dense(), views, shard_examples)
    writer = TargetWriter(as_place(folder), plan)
    meter = LabelingMeter(plan, writer.missing())
    watch = TeacherWatch(plan, transfer_set, expected_accuracy)
    with reporting(progress) as report:
        report(meter.now())
        for entry in write_shards(writer, asked, transfer_set, batch_size, count):
            meter.add(entry.shard)
            report(meter.now())
            if not meter.is_done:
                watch.add(entry.shard, entry.answers)
    targets = writer.finish()
    watch.finish(targets)
    return targets


def make_plan(
    teacher: Teacher,
    transfer_set: ExampleSet,
    encoding: Encoding,
    views: Sequence[int],
    shard_examples: int,
) -> StorePlan:
    """Return the plan of the store of a teacher's logits."""
    if transfer_set.classes == 1:
        raise DataError(
            "expected at least two classes, got one: a softmax over one class is always 1. For two "
            "classes and one output, return the logits [0, output] of both classes. Regression is "
            "not supported; use attar.TrainingRun with a custom loss"
        )
    seen = transfer_set.views
    if any(views) and not teacher.reads_inputs:
        raise DataError(
            "expected only view 0 for stored scores, which cover only the plain examples, "
            f"got views {list(views)}"
        )
    if any(views) and seen is None:
        raise DataError(
            f"expected only view 0 for a set without views, got views {list(views)}; "
            "try with_views(Jitter(...))"
        )
    members = tuple(member.fingerprint() for member in members_of(teacher))
    return StorePlan(
        examples=len(transfer_set),
        class_names=transfer_set.class_names,
        encoding=encoding,
        data=transfer_set.fingerprint(),
        teacher=hash_members(members) if members else teacher.fingerprint(),
        members=members,
        views=tuple(
            View(view, name_views(seen), getattr(seen, "seed", None)) if view else View(0)
            for view in views
        ),
        shard_examples=shard_examples,
    )


def write_shards(
    writer: TargetWriter,
    teacher: Teacher,
    transfer_set: ExampleSet,
    batch_size: int,
    workers: int,
) -> Iterator[ShardEntry]:
    """Write the missing shards of a store, and yield each after it is stored; see `label`."""
    members = members_of(teacher) or (teacher,)
    stopped, computing = threading.Event(), threading.Semaphore(workers)

    def check_stopped() -> None:
        if stopped.is_set():
            raise CancelledError

    def write(shard: Shard) -> ShardEntry | None:
        torch.set_num_threads(1)  # of this worker
        asked = members[shard.member]
        try:
            with computing:
                packed = pack_shard(writer, asked, transfer_set, shard, batch_size, check_stopped)
            return writer.store(packed)  # while the next shard is computed
        except CancelledError:  # another worker has failed and raises its error
            return None
        except BaseException:
            stopped.set()
            raise

    # Twice as many threads as workers: one computes while the other waits for the disk.
    with _one_thread_each(), ThreadPoolExecutor(2 * workers) as pool:
        pending: set[Future[ShardEntry | None]] = set()
        missing = iter(writer.missing())
        try:
            for shard in missing:
                pending.add(pool.submit(write, shard))
                if len(pending) > 2 * workers:  # queue one more, so that no thread waits
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    yield from filter(None, (future.result() for future in done))
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from filter(None, (future.result() for future in done))
        finally:
            stopped.set()
            for future in pending:
                future.cancel()


def members_of(teacher: Teacher) -> tuple[Teacher, ...]:
    """Return the members of an ensemble; empty for a single teacher."""
    if isinstance(teacher, Ensemble):
        return teacher.teachers
    if teacher.members is not None:
        kind = type(teacher).__name__
        raise AttarError(
            f"expected an Ensemble or a list of teachers, got {kind} of {teacher.members} members; "
            "each member must be a separate teacher"
        )
    return ()


def pack_shard(
    writer: TargetWriter,
    teacher: Teacher,
    transfer_set: ExampleSet,
    shard: Shard,
    batch_size: int,
    check_stopped: Callable[[], None] = lambda: None,
) -> PackedShard:
    """Run a teacher, or a member of one, on a shard's examples, and count its right answers.

    Batches start at the shard's first example. `check_stopped` is called before each batch and may
    raise.
    """
    tally = AnswerTally(writer.plan.classes)
    is_counted = shard.view == counted_view(writer.plan)

    def answer() -> Iterator[Tensor]:
        for indices in torch.arange(shard.start, shard.stop).split(batch_size):
            check_stopped()
            logits, hard_targets = ask(teacher, transfer_set, indices, shard.view)
            yield logits
            if is_counted:  # after the writer has checked the logits
                tally.add(logits, hard_targets)

    packed = writer.pack(shard, answer())
    if not is_counted:
        return packed
    return replace(packed, entry=replace(packed.entry, answers=tally.counts()))


def ask(
    teacher: Teacher, transfer_set: ExampleSet, indices: Tensor, view: int
) -> tuple[Tensor, Tensor]:
    """Run a teacher on some examples; if it fails, find the example that causes it.

    Returns:
        Logits `[batch, classes]`, and the examples' hard targets `[batch]`.

    Raises:
        DataError: If the teacher raises an error other than attar's. The message names the
            example, or states that the teacher fails on every example.
    """
    try:
        batch = transfer_set.batch(indices, view)
        return teacher.logits(batch), batch.hard_targets
    except AttarError:
        raise
    except Exception as error:  # of the user's code
        raise _explain_failure(teacher, transfer_set, indices, view, error) from error


def _explain_failure(
    teacher: Teacher, transfer_set: ExampleSet, indices: Tensor, view: int, error: Exception
) -> DataError:
    def fail_on(index: int) -> Exception | None:
        try:
            teacher.logits(transfer_set.batch(torch.tensor([index]), view))
        except Exception as error:
            return error
        return None

    failing = ((index, cause) for index in indices.tolist() if (cause := fail_on(index)))
    found, cause = next(failing, (None, error))
    reason = " ".join(f"{type(cause).__name__}: {cause}".split())
    if found is None:
        which = f"the batch of examples {int(indices[0])} to {int(indices[-1])}"
        return DataError(
            f"the teacher fails on {which}, view {view}, but on no single one of them: {reason}; "
            "try a smaller batch_size"
        )
    spread = torch.linspace(0, len(transfer_set) - 1, _OTHERS_TRIED).long().unique().tolist()
    others = [index for index in spread if index != found]
    if others and all(fail_on(index) for index in others):
        inputs = transfer_set.batch(torch.tensor([found]), view).inputs
        return DataError(
            f"the teacher fails on every example (first error: {reason}; {1 + len(others)} tried, "
            f"view {view}); does it accept the shape and type of the transfer set's inputs, "
            f"{['batch', *inputs.shape[1:]]} {inputs.dtype}? If it needs other inputs than the "
            "student, compute its logits from them and pass these: "
            "attar.label(logits, transfer_set, ...)"
        )
    return DataError(
        f"the teacher fails on example {found}, view {view}: {reason}; check or remove the example"
    )


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Restore torch's number of threads after the body, whose workers set it."""
    before = torch.get_num_threads()
    keep_freed_memory()
    try:
        yield
    finally:
        torch.set_num_threads(before)


class TeacherWatch:
    """Warns once if a teacher looks wrong."""

    def __init__(
        self, plan: StorePlan, transfer_set: ExampleSet, expected_accuracy: float | None
    ) -> None:
        """Start without any shard."""
        self.classes, self.expected_accuracy = plan.classes, expected_accuracy
        self.hard_targets: Tensor | None = getattr(transfer_set, "hard_targets", None)
        self.counts: list[list[AnswerCounts]] = [[] for _ in range(plan.member_count)]
        self.has_warned = False

    def add(self, shard: Shard, answers: AnswerCounts | None) -> None:
        """Check the member of a shard on its shards so far."""
        if answers is None or self.has_warned:
            return
        counts = self.counts[shard.member]
        counts.append(answers)
        if is_mixed(counts, self.hard_targets):
            judged = [each if each is counts else [] for each in self.counts]
            quality = summarize_answers(judged, self.classes)
            self._warn(find_doubt(quality, self.expected_accuracy, is_early=True))

    def finish(self, targets: SoftTargets) -> None:
        """Check the whole store, unless a warning was issued before."""
        if not self.has_warned:
            self._warn(find_store_doubt(targets.teacher_quality, self.expected_accuracy))

    def _warn(self, doubt: str | None) -> None:
        if doubt is not None:
            self.has_warned = True
            warnings.warn(doubt, TeacherWarning, stacklevel=4)  # the caller of `label`


class LabelingMeter:
    """Counts stored rows and estimates the remaining time."""

    def __init__(self, plan: StorePlan, missing: Sequence[Shard]) -> None:
        """Start the clock."""
        self.total = len(plan.views) * plan.member_count * plan.examples
        self.done = self.total - sum(shard.stop - shard.start for shard in missing)
        self.before, self.started = self.done, time.monotonic()

    @property
    def is_done(self) -> bool:
        """Whether no shard is missing."""
        return self.done == self.total

    def add(self, shard: Shard) -> None:
        """Count a stored shard."""
        self.done += shard.stop - shard.start

    def now(self) -> LabelingProgress:
        """Return the current progress."""
        here, seconds = self.done - self.before, time.monotonic() - self.started
        speed = here / seconds if here else 0.0
        left = (self.total - self.done) / speed if speed else None
        return LabelingProgress(self.done, self.total, speed, left)
