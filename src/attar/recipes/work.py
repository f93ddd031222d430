"""How far an experiment is."""

from dataclasses import dataclass

from attar.progress import TimeLeft
from attar.training import Step


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an experiment is."""

    title: str  # of the stage
    epoch: int
    epochs: int
    fraction: float  # of the whole experiment's work
    errors: int | None  # of the network in training, when last counted
    examples_per_second: float
    seconds_left: float | None  # of the whole experiment; None before anything is known
    stage: str = ""  # name of its files
    step: Step | None = None

    def __str__(self) -> str:
        speed = f"{self.examples_per_second:,.0f} examples/s"
        errors = "" if self.errors is None else f"{self.errors} errors · "
        return f"{self.title} · epoch {self.epoch}/{self.epochs} · {errors}{speed}"


class WorkMeter:
    """Knows how much of an experiment is done, and from that when it will end."""

    def __init__(self, total: float) -> None:
        """Take the work of all stages, in the units of `Stage.work`."""
        self.total, self.done = total, 0.0
        self._time_left = TimeLeft(total)

    def add(self, work: float, *, by_earlier_run: bool = False) -> None:
        """Count work as done; what an earlier run did tells nothing about this one's speed."""
        self.done += work
        if not by_earlier_run:
            self._time_left.add(work)

    @property
    def seconds_left(self) -> float | None:
        """The estimated time to the end; None as long as that can't be told."""
        return self._time_left.seconds(self.total - self.done)


@dataclass(frozen=True, slots=True)
class Piece(Progress):
    """How far an experiment is, counted in something else than epochs."""

    def __str__(self) -> str:
        """Say it for people."""
        return f"{self.title} · {self.epoch:,} of {self.epochs:,}"


def piece(title: str, done: int, total: int, meter: WorkMeter) -> Piece:
    """Report that so much of a step is done."""
    return Piece(
        title=title,
        epoch=done,
        epochs=total,
        fraction=min(1.0, meter.done / meter.total),
        errors=None,
        examples_per_second=0.0,
        seconds_left=meter.seconds_left,
    )
