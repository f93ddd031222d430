"""What labeling takes of a cluster: hours and rates for N workers, from a measurement on one."""

import math
from dataclasses import dataclass

from attar.targets import StorePlan
from attar.targets.encoding import row_bytes

START_SECONDS = 20.0  # until every worker has its teacher; some seconds where nothing else runs
DISK_RATE = 1e9  # bytes a second that a shared disk is taken to write, of all machines together
DRIVER_SHARDS = 50.0  # a second, that one driver keeps account of


@dataclass(frozen=True, slots=True)
class LabelingCost:
    """One measured worker, and what there is to do."""

    examples: int
    asked: int  # times that each of them is shown to a teacher: views times members
    example_seconds: float  # that one worker takes to ask once, and to encode
    row_bytes: int  # stored, of one answer
    input_bytes: int  # read, of one example
    shard_examples: int

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return self.asked * math.ceil(self.examples / self.shard_examples)

    @property
    def store_bytes(self) -> int:
        """How much is stored."""
        return self.examples * self.asked * self.row_bytes

    @property
    def worker_seconds(self) -> float:
        """How long one worker would take."""
        return self.examples * self.asked * self.example_seconds


@dataclass(frozen=True, slots=True)
class ScaledLabeling:
    """Labeling with N workers."""

    workers: int
    seconds: float
    write_rate: float  # bytes a second, all workers together
    read_rate: float
    shard_rate: float  # shards a second
    bottleneck: str  # what limits it first, and what to do about it


def cost_labeling(store: StorePlan, input_bytes: int, seconds: float) -> LabelingCost:
    """Say what a store takes whose teacher, of all members, takes so many seconds an example."""
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

    Workers do not wait for each other: each takes the next shard that is left, so the time is that
    of the most shards that one of them makes, unless the disk or the driver is slower.

    Args:
        cost: What there is to do.
        workers: How many processes.
        disk_rate: Bytes a second that the shared disk writes, or reads.

    Example:
        >>> cost = LabelingCost(1_000_000, 1, 1e-3, 20, 784, 65_536)
        >>> scale_labeling(cost, 4).bottleneck
        'the teacher: more workers, up to 16, one for each shard'
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
        return f"too few shards, {cost.shards} for {workers} workers: smaller ones"
    if driver > max(teacher, disk):
        return "the driver, which keeps account of the shards: larger ones"
    if disk > teacher:
        writes = cost.store_bytes >= cost.examples * cost.asked * cost.input_bytes
        return (
            "writing the store: sparse soft targets, or a faster disk"
            if writes
            else "reading the inputs: inputs nearer to the workers, or a faster disk"
        )
    return f"the teacher: more workers, up to {cost.shards:,}, one for each shard"
