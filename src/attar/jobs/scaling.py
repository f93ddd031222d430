"""Estimate labeling with N workers of a cluster from a measurement with one."""

import math
from dataclasses import dataclass

from attar.targets import StorePlan
from attar.targets.encoding import row_bytes

START_SECONDS = 20.0  # until every worker has loaded its teacher
DISK_RATE = 1e9  # assumed bytes per second of a shared disk, for all machines together
DRIVER_SHARDS = 50.0  # per second that one driver can record


@dataclass(frozen=True, slots=True)
class LabelingCost:
    """The measurement of one worker, and the amount of work."""

    examples: int
    asked: int  # times that a teacher runs on each example: views times members
    example_seconds: float  # of one worker, to run once and encode
    row_bytes: int  # stored, per row
    input_bytes: int  # read, per example
    shard_examples: int

    @property
    def shards(self) -> int:
        """Number of shards."""
        return self.asked * math.ceil(self.examples / self.shard_examples)

    @property
    def store_bytes(self) -> int:
        """Size of the store."""
        return self.examples * self.asked * self.row_bytes

    @property
    def worker_seconds(self) -> float:
        """Time of a single worker."""
        return self.examples * self.asked * self.example_seconds


@dataclass(frozen=True, slots=True)
class ScaledLabeling:
    """Labeling with N workers."""

    workers: int
    seconds: float
    write_rate: float  # bytes per second, all workers together
    read_rate: float
    shard_rate: float  # shards per second
    bottleneck: str  # the first limit, and what to do about it


def cost_labeling(store: StorePlan, input_bytes: int, seconds: float) -> LabelingCost:
    """Return the cost of a store, for the seconds per example of all members together."""
    return LabelingCost(
        examples=store.examples,
        asked=len(store.views) * store.member_count,
        example_seconds=seconds / store.member_count,
        row_bytes=row_bytes(store.encoding, store.classes),
        input_bytes=input_bytes,
        shard_examples=store.shard_examples,
    )


def scale_labeling(
    cost: LabelingCost, workers: int, *, disk_rate: float = DISK_RATE
) -> ScaledLabeling:
    """Estimate labeling with a number of workers.

    Each worker takes the next remaining shard. The time is that of the worker with the most shards,
    unless the disk or the driver is slower.

    Args:
        cost: Measurement and amount of work.
        workers: Number of processes.
        disk_rate: Bytes per second that the shared disk writes or reads.

    Example:
        >>> cost = LabelingCost(1_000_000, 1, 1e-3, 20, 784, 65_536)
        >>> scale_labeling(cost, 4).bottleneck
        'the teacher: use more workers, up to 16, one per shard'
    """
    shard_seconds = min(cost.shard_examples, cost.examples) * cost.example_seconds
    teacher = math.ceil(cost.shards / workers) * shard_seconds
    moved = max(cost.store_bytes, cost.examples * cost.asked * cost.input_bytes)
    disk, driver = moved / disk_rate, cost.shards / DRIVER_SHARDS
    working = max(teacher, disk, driver)
    return ScaledLabeling(
        workers=workers,
        seconds=START_SECONDS + working,
        write_rate=cost.store_bytes / working,
        read_rate=cost.examples * cost.asked * cost.input_bytes / working,
        shard_rate=cost.shards / working,
        bottleneck=_bottleneck(cost, workers, teacher, disk, driver),
    )


def _bottleneck(
    cost: LabelingCost, workers: int, teacher: float, disk: float, driver: float
) -> str:
    if workers > cost.shards:
        return f"too few shards, {cost.shards} for {workers} workers: use smaller shards"
    if driver > max(teacher, disk):
        return "the driver, which records the shards: use larger shards"
    if disk > teacher:
        writes = cost.store_bytes >= cost.examples * cost.asked * cost.input_bytes
        return (
            "writing the store: use sparse soft targets or a faster disk"
            if writes
            else "reading the inputs: move them closer to the workers, or use a faster disk"
        )
    return f"the teacher: use more workers, up to {cost.shards:,}, one per shard"
