"""Engines that do the work of a job: in this process, or elsewhere."""

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
    """A step and its function; can be sent to another process with access to the job's folder."""

    step: Step
    make: Callable[[Step, Tell], None]

    def begin(self, tell: Tell) -> bool:
        """Prepare the step; return whether it is already done."""
        return self.step.begin(tell)

    def __call__(self, tell: Tell) -> None:
        """Run the step."""
        started = time.monotonic()
        self.make(self.step, tell)
        tell(f"{self.step.title}: done in {time.monotonic() - started:,.1f} s")


@runtime_checkable
class Label(Protocol):
    """`attar.label`, or an equivalent."""

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
        """Label, and return the finished store."""


def do_in_turn(works: Sequence[StepWork], tell: Tell) -> None:
    """Run the works in order."""
    for work in works:
        if not work.begin(tell):
            work(tell)


@dataclass(frozen=True)
class Engine:
    """How a job labels, trains and runs independent works.

    If all workers train each student `together`, students are not independent works.
    """

    label: Label = label
    do_all: Callable[[Sequence[StepWork], Tell], None] = do_in_turn
    distill: Callable[..., nn.Module] = distill
    together: bool = False


def show_labeling(step: Step, now: LabelingProgress) -> JobProgress:
    """Return the progress of a labeling step."""
    return JobProgress(
        title=step.title,
        fraction=now.fraction,
        detail=str(now).partition(" · ")[2],  # what follows its own title
        seconds_left=now.seconds_left,
    )
