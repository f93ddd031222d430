"""Where a job's work is done: in this process, or wherever another engine takes it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import nn

from attar.data import ExampleSet
from attar.distillation import distill
from attar.jobs.steps import JobProgress, Step, Tell
from attar.labeling import LabelingProgress, label
from attar.targets import Encoding, SoftTargets
from attar.teachers import Teacher


@dataclass(frozen=True)
class StepWork:
    """A step, and what does it; it can be sent to another process that sees the job's folder."""

    step: Step
    make: Callable[[Step, Tell], None]

    def begin(self, tell: Tell) -> bool:
        """Prepare the step; answer whether it is done already."""
        return self.step.begin(tell)

    def __call__(self, tell: Tell) -> None:
        """Do the step."""
        started = time.monotonic()
        self.make(self.step, tell)
        tell(f"{self.step.title}: done in {time.monotonic() - started:,.1f} s")


@runtime_checkable
class Label(Protocol):
    """`attar.label`, or what does the same."""

    def __call__(
        self,
        teacher: Teacher,
        transfer_set: ExampleSet,
        folder: Path,
        /,
        *,
        encoding: Encoding,
        views: Sequence[int],
        batch_size: int,
        workers: int | None,
        expected_accuracy: float | None,
        progress: Callable[[LabelingProgress], None],
    ) -> SoftTargets:
        """Label, and answer the finished store."""


def do_in_turn(works: Sequence[StepWork], tell: Tell) -> None:
    """Do one work after the other."""
    for work in works:
        if not work.begin(tell):
            work(tell)


@dataclass(frozen=True)
class Engine:
    """What does a job's work: how it labels, and how it does works that do not wait for another.

    Where it trains a student `together`, with all its workers, students are no such works.
    """

    label: Label = label
    do_all: Callable[[Sequence[StepWork], Tell], None] = do_in_turn
    distill: Callable[..., nn.Module] = distill
    together: bool = False


def show_labeling(step: Step, now: LabelingProgress) -> JobProgress:
    """Say how far the labeling of a step is."""
    return JobProgress(
        title=step.title,
        fraction=now.fraction,
        detail=str(now).partition(" · ")[2],  # what follows its own title
        seconds_left=now.seconds_left,
    )
