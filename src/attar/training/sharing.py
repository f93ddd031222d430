"""What one of several processes does when all of them train one network together."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn


def _as_it_is(value: nn.Module) -> nn.Module:
    return value


def _the_same(value: float) -> float:
    return value


@dataclass(frozen=True)
class Share:
    """The part of every batch that is this process's; all of them have the same weights.

    A loss is a mean over its batch. Here each process takes the mean over its own part, times how
    much larger that part is than a fair one: then the mean over the processes is that over the
    batch, and so are the gradients.
    """

    rank: int = 0  # of this process, from 0
    workers: int = 1
    wrap: Callable[[nn.Module], nn.Module] = _as_it_is  # makes gradients the processes' mean
    average: Callable[[float], float] = _the_same  # takes the processes' mean

    @property
    def is_first(self) -> bool:
        """Whether it is this process that writes checkpoints."""
        return self.rank == 0

    def scale(self, part: int, batch: int) -> float:
        """Return the factor of the loss of a part of a batch.

        Example:
            >>> [Share(rank, 2).scale(part, 3) for rank, part in enumerate([2, 1])]
            [1.3333333333333333, 0.6666666666666666]
        """
        return part * self.workers / batch
