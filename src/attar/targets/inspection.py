"""What a store holds and what its encoding costs, without reading a shard."""

from dataclasses import dataclass

from attar.targets.manifest import Measured
from attar.targets.quality import TeacherQuality
from attar.targets.store import SoftTargets


@dataclass(frozen=True, slots=True)
class CostAtTemperature:
    """How far the stored soft targets are from the teacher's, on the rows that were measured."""

    temperature: float
    entropy_nats: float  # mean of the teacher's
    tail_error: float  # largest error of the tail's probability
    error: float  # largest total variation, the tail taken as one class
    lost_nats: float  # mean KL(teacher, stored with the tail spread evenly)


@dataclass(frozen=True, slots=True)
class StoreSummary:
    """Sizes of a store, and the cost of its encoding."""

    examples: int
    classes: int
    views: int
    members: int
    encoding: str
    shards: int
    total_bytes: int  # of the shards
    bytes_per_example: float  # and view and member
    measured_rows: int
    costs: tuple[CostAtTemperature, ...]
    teacher: TeacherQuality | None  # None without hard targets, and for old stores


def inspect(targets: SoftTargets) -> StoreSummary:
    """Summarize a store: its size, the loss from its encoding, and the teacher's accuracy.

    The costs were measured while labeling, against the teacher's own logits, on a seeded sample of
    each shard: one row in 256, one at least.
    """
    plan, entries = targets.plan, targets.entries
    total = sum(entry.bytes for entry in entries)
    measured = [entry.measured for entry in entries if entry.measured.rows]
    measured = [one for one in measured if one.temperatures == measured[0].temperatures]
    return StoreSummary(
        examples=plan.examples,
        classes=plan.classes,
        views=len(plan.views),
        members=plan.member_count,
        encoding=str(plan.encoding),
        shards=len(entries),
        total_bytes=total,
        bytes_per_example=total / sum(entry.rows for entry in entries),
        measured_rows=sum(one.rows for one in measured),
        costs=_pool(measured),
        teacher=targets.teacher_quality,
    )


def _pool(measured: list[Measured]) -> tuple[CostAtTemperature, ...]:
    temperatures = measured[0].temperatures if measured else ()
    rows = sum(one.rows for one in measured)
    return tuple(
        CostAtTemperature(
            temperature=temperature,
            entropy_nats=sum(one.rows * one.entropy_nats[at] for one in measured) / rows,
            tail_error=max(one.tail_error[at] for one in measured),
            error=max(one.error[at] for one in measured),
            lost_nats=sum(one.rows * one.lost_nats[at] for one in measured) / rows,
        )
        for at, temperature in enumerate(temperatures)
    )
