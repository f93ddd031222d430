"""The part of a training done by one of several processes."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn


def _as_it_is(value: nn.Module) -> nn.Module:
    return value


def _the_same(value: float) -> float:
    return value


@dataclass(frozen=True)
class Share:
    """The part of each batch for this process; all processes have the same weights.

    The loss is a mean over the batch. Each process computes the mean over its part, scaled by the
    size of the part relative to the average part. The mean over processes is then the mean over the
    batch, for losses and gradients.
    """

    rank: int = 0  # of this process, from 0
    workers: int = 1
    wrap: Callable[[nn.Module], nn.Module] = _as_it_is  # averages gradients over processes
    average: Callable[[float], float] = _the_same  # averages a number over processes

    @property
    def is_first(self) -> bool:
        """Whether this process writes checkpoints."""
        return self.rank == 0

    def scale(self, part: int, batch: int) -> float:
        """Return the factor of the loss of a part of a batch.

        Example:
            >>> [Share(rank, 2).scale(part, 3) for rank, part in enumerate([2, 1])]
            [1.3333333333333333, 0.6666666666666666]
        """
        return part * self.workers / batch
