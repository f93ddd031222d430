"""What the speech experiments train, and the soft targets in between."""

import queue
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.cohorts import Cohort
from attar.data import Batch, TransferSet
from attar.labeling import label
from attar.losses import SparseTargets, mean_logits, sparse_distillation_loss
from attar.models import acoustic_dnn
from attar.recipes.stages import Progress, Stage
from attar.targets import SoftTargets, Sparse
from attar.training import LossFn, OptimizerName, TrainingSettings

T = TypeVar("T")

OPTIMIZER: OptimizerName = "adamw"
WARMUP_EPOCHS = 0.5


@dataclass(frozen=True, slots=True)
class Task(Progress):
    """Something other than training that is being done."""

    def __str__(self) -> str:
        """Say it for people."""
        return self.title


def doing(title: str, fraction: float) -> Task:
    """Say what is being done, when that much of the whole is done."""
    return Task(title, 0, 0, fraction, None, 0.0, None)


def following(
    work: Callable[..., T], *, start: float = 0.0, end: float = 0.0
) -> Generator[Progress, None, T]:
    """Do work that reports to `progress=`, in a thread, and yield what it reports.

    Args:
        work: Takes `progress`, a function of records that have a fraction.
        start: How much of the whole is done before.
        end: How much is done after.

    Returns:
        What it returns; what it raises is raised.
    """
    reports: queue.SimpleQueue[Any] = queue.SimpleQueue()
    outcome: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(work(progress=reports.put))
        except BaseException as error:  # raised where the caller is
            errors.append(error)
        finally:
            reports.put(None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while (report := reports.get()) is not None:
        yield doing(str(report), start + (end - start) * report.fraction)
    thread.join()
    if errors:
        raise errors[0]
    return outcome[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkShape:
    """The acoustic networks of an experiment: all of one shape."""

    states: int
    inputs: int
    layers: int
    units: int
    dropout: float

    def make(self, seed: int) -> nn.Sequential:
        """Make one with weights of its own."""
        return acoustic_dnn(
            self.states,
            self.layers,
            self.units,
            inputs=self.inputs,
            generator=torch.Generator().manual_seed(seed),
            hidden_dropout=self.dropout,
        )

    def make_cohort(self, seeds: Sequence[int]) -> Cohort:
        """Make several that are trained together."""
        return Cohort([self.make(seed) for seed in seeds])


def make_stage(
    name: str, title: str, make: Callable[[], nn.Module], *, epochs: int, batch_size: int,
    learning_rate: float, seed: int,
) -> Stage:  # fmt: skip
    """Describe a training; all networks of the experiments are trained alike."""
    settings = TrainingSettings(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        optimizer=OPTIMIZER,
        warmup_epochs=min(WARMUP_EPOCHS, epochs / 10),
        seed=seed,
    )
    return Stage(name, title, make, settings)


class CohortMean(nn.Module):
    """A cohort as one teacher: the logits of the arithmetic mean of its members' probabilities."""

    def __init__(self, cohort: Cohort) -> None:
        """Hold the cohort."""
        super().__init__()
        self.cohort = cohort

    def forward(self, inputs: Tensor) -> Float[Tensor, "batch classes"]:
        """Ask all members, and answer with their mean."""
        return mean_logits(self.cohort(inputs), mean="arithmetic")


def label_frames(
    teachers: Cohort,
    transfer_set: TransferSet,
    folder: Path,
    *,
    k: int,
    views: Sequence[int],
    start: float,
    end: float,
) -> Generator[Progress, None, SoftTargets]:
    """Keep the ensemble's soft targets on disk, sparse: the k largest states, and the tail.

    Yields:
        How far it is, from `start` to `end` of the whole.

    Returns:
        The finished store.
    """
    work = partial(
        label, CohortMean(teachers), transfer_set, folder,
        encoding=Sparse(k=k), views=views, workers=1,
    )  # fmt: skip
    return (yield from following(work, start=start, end=end))


def students_loss(
    store: SoftTargets, temperatures: Sequence[float], *, soft_weight: float, hard_weight: float
) -> LossFn:
    """Make the loss of a cohort of students, one for each temperature, from sparse soft targets."""

    def loss_fn(logits: Tensor, batch: Batch) -> Tensor:
        targets = store.batch(batch.indices, batch.view)
        assert isinstance(targets, SparseTargets)
        losses = [
            sparse_distillation_loss(
                z, targets, batch.hard_targets, temperature=temperature,
                soft_weight=soft_weight, hard_weight=hard_weight,
            )
            for z, temperature in zip(logits, temperatures, strict=True)
        ]  # fmt: skip
        return torch.stack(losses).mean(dim=1).sum()

    return loss_fn
