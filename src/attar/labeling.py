"""`attar.label`: run a teacher once over a transfer set, and keep its soft targets."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Future,
    ThreadPoolExecutor,
    wait,
)
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from attar.data import ExampleSet, name_views
from attar.errors import AttarError, DataError, check_positive
from attar.precision import keep_freed_memory
from attar.progress import reporting
from attar.targets import Dense, Encoding, Shard, SoftTargets, StorePlan, TargetWriter, View
from attar.teachers import Ensemble, Teacher, as_teacher
from attar.urls import Place, as_place


@dataclass(frozen=True, slots=True)
class LabelingProgress:
    """How far the labeling is."""

    rows: int  # logits `[classes]` that are stored: one an example, view and member
    total_rows: int
    rows_per_second: float  # by this run
    seconds_left: float | None  # None before this run has stored any

    @property
    def fraction(self) -> float:
        """Of all rows."""
        return self.rows / self.total_rows

    def __str__(self) -> str:
        """Say it for people."""
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
    progress: Callable[[LabelingProgress], None] | None = None,
) -> SoftTargets:
    """Run a teacher over every example of a transfer set, and keep its logits in a folder.

    What the folder holds already is not labeled again: a run that was killed goes on with the
    shards that are missing. Each worker computes a shard of its own, with products on one thread,
    so the bytes do not depend on how many there are, and goes on to the next while that is written.
    An error of one stops the others at their next batch; the finished shards stay.

    The bytes do hang, in the last bit of a few logits, on `batch_size`, as a processor rounds the
    products of batches of other sizes differently. A store may be continued with another.

    Args:
        teacher: Anything that `attar.as_teacher` makes a teacher of. Where more has to be said of
            it (the version of a function, probabilities instead of logits, a padding token, an
            image processor), call that yourself, and give what it returns. Several threads ask the
            teacher at once; if it can't bear that, say `workers=1`.
        transfer_set: The examples.
        folder: Of the store, or its URL, such as `s3://bucket/store`; new, empty, or with a store
            of the same teacher, data and encoding. As long as no shard of a store is finished,
            another may take its place.
        encoding: `Dense()` (the default) or `Sparse(k=...)`.
        views: Numbers of the views to label; 0 is the plain example. A student then sees these in
            turn, an epoch each.
        batch_size: Examples that the teacher sees at once.
        workers: How many compute at once; by default one for each core.
        shard_examples: Examples in a shard, the unit of resuming; by default
            32 MiB, or an eighth of the examples.
        progress: Called at the start and whenever a shard is stored, by the calling thread;
            `attar.ProgressBar()` shows it.

    Returns:
        The finished store.

    Raises:
        DataError: If the teacher fails on an example, or a logit is not finite; it names the
            example. If views are asked for that the set or the teacher cannot give.
        ShapeError: If the teacher's classes are not the transfer set's.
        StoreError: If the folder holds another store.
        FolderError: If it cannot be written, or the disk is full.
    """
    check_positive(batch_size=float(batch_size))
    count = os.cpu_count() or 1 if workers is None else workers
    check_positive(workers=float(count))
    asked = as_teacher(
        teacher,
        class_names=transfer_set.class_names,
        examples=len(transfer_set),
        feature_names=getattr(transfer_set, "feature_names", None),
    )
    plan = make_plan(asked, transfer_set, encoding or Dense(), views, shard_examples)
    writer = TargetWriter(as_place(folder), plan)
    meter = LabelingMeter(plan, writer.missing())
    with reporting(progress) as report:
        report(meter.now())
        for shard in write_shards(writer, asked, transfer_set, batch_size, count):
            meter.add(shard)
            report(meter.now())
    return writer.finish()


def make_plan(
    teacher: Teacher,
    transfer_set: ExampleSet,
    encoding: Encoding,
    views: Sequence[int],
    shard_examples: int,
) -> StorePlan:
    """Say what the store of this teacher's logits is going to be."""
    seen = transfer_set.views
    if any(views) and not teacher.reads_inputs:
        raise DataError(
            "expected view 0 alone for stored scores, which know the plain examples only, "
            f"got views {list(views)}"
        )
    if any(views) and seen is None:
        raise DataError(
            f"expected view 0 alone for a set without views, got views {list(views)}; "
            "try with_views(Jitter(...))"
        )
    return StorePlan(
        examples=len(transfer_set),
        class_names=transfer_set.class_names,
        encoding=encoding,
        data=transfer_set.fingerprint(),
        teacher=teacher.fingerprint(),
        members=tuple(member.fingerprint() for member in members_of(teacher)),
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
) -> Iterator[Shard]:
    """Write the shards that a store lacks, and yield each as it is stored; see `label`."""
    members = members_of(teacher) or (teacher,)
    stopped, computing = threading.Event(), threading.Semaphore(workers)

    def write(shard: Shard) -> Shard | None:
        torch.set_num_threads(1)  # of this worker
        logits = _logits(members[shard.member], transfer_set, shard, batch_size, stopped)
        try:
            with computing:
                packed = writer.pack(shard, logits)
            writer.store(packed)  # while the next shard is computed
        except CancelledError:  # another has failed, and tells why
            return None
        except BaseException:
            stopped.set()
            raise
        return shard

    # Twice as many threads as workers: one computes while the other waits for the disk.
    with _one_thread_each(), ThreadPoolExecutor(2 * workers) as pool:
        pending: set[Future[Shard | None]] = set()
        missing = iter(writer.missing())
        try:
            for shard in missing:
                pending.add(pool.submit(write, shard))
                if len(pending) > 2 * workers:  # one waits, so that no thread does
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
    """Return an ensemble's members; none of a single teacher."""
    if isinstance(teacher, Ensemble):
        return teacher.teachers
    if teacher.members is not None:
        kind = type(teacher).__name__
        raise AttarError(
            f"expected an Ensemble, or a list of teachers, got {kind} of {teacher.members} members;"
            " each member has to be asked alone"
        )
    return ()


def _logits(
    teacher: Teacher,
    transfer_set: ExampleSet,
    shard: Shard,
    batch_size: int,
    stopped: threading.Event,
) -> Iterator[Tensor]:
    """Ask the teacher about a shard's examples; batches start at the shard's first one."""
    for indices in torch.arange(shard.start, shard.stop).split(batch_size):
        if stopped.is_set():
            raise CancelledError
        yield ask(teacher, transfer_set, indices, shard.view)


def ask(teacher: Teacher, transfer_set: ExampleSet, indices: Tensor, view: int) -> Tensor:
    """Ask a teacher about some examples; if it breaks, find the first one that it breaks on.

    Raises:
        DataError: If the teacher raises an error that is none of attar's; it names the example.
    """
    try:
        return teacher.logits(transfer_set.batch(indices, view))
    except AttarError:
        raise
    except Exception as error:  # of the user's code
        found, cause = _find_failing(teacher, transfer_set, indices, view) or (None, error)
        reason = " ".join(f"{type(cause).__name__}: {cause}".split())
        together = f"examples {int(indices[0])} to {int(indices[-1])}, on none of them alone"
        which, advice = (
            (together, "try a smaller batch_size")
            if found is None
            else (f"example {found}", "look at it, or leave it out")
        )
        raise DataError(f"the teacher fails on {which}, view {view}: {reason}; {advice}") from cause


def _find_failing(
    teacher: Teacher, transfer_set: ExampleSet, indices: Tensor, view: int
) -> tuple[int, Exception] | None:
    for index in indices:
        try:
            teacher.logits(transfer_set.batch(index[None], view))
        except Exception as error:
            return int(index), error
    return None


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Give torch's number of threads back after the body, whose workers set it."""
    before = torch.get_num_threads()
    keep_freed_memory()
    try:
        yield
    finally:
        torch.set_num_threads(before)


class LabelingMeter:
    """Counts stored rows, and from that tells when the labeling will end."""

    def __init__(self, plan: StorePlan, missing: Sequence[Shard]) -> None:
        """Start the clock."""
        self.total = len(plan.views) * plan.member_count * plan.examples
        self.done = self.total - sum(shard.stop - shard.start for shard in missing)
        self.before, self.started = self.done, time.monotonic()

    def add(self, shard: Shard) -> None:
        """Count a shard that was stored."""
        self.done += shard.stop - shard.start

    def now(self) -> LabelingProgress:
        """Tell how far it is."""
        here, seconds = self.done - self.before, time.monotonic() - self.started
        speed = here / seconds if here else 0.0
        left = (self.total - self.done) / speed if speed else None
        return LabelingProgress(self.done, self.total, speed, left)
