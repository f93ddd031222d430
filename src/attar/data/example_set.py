"""What labeling and training need of a set of examples, wherever these are."""

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from attar.data.transfer_set import Batch, ViewFn


@runtime_checkable
class ExampleSet(Protocol):
    """Examples by number, all in memory (`TransferSet`) or a part at a time (`StreamedSet`)."""

    @property
    def classes(self) -> int:
        """How many classes there are."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each class."""

    @property
    def hard_targets(self) -> Tensor:
        """The hard target of each example, -1 where there is none."""

    @property
    def views(self) -> ViewFn | None:
        """What makes view 1 and above, if anything does."""

    @property
    def memory_bytes(self) -> int:
        """How much memory its examples take at once, about."""

    def __len__(self) -> int:
        """Count the examples."""

    def batch(self, indices: Tensor, view: int = 0) -> Batch:
        """Answer some examples, in the order of the indices."""

    def shuffle(self, generator: torch.Generator) -> Iterator[Tensor]:
        """Yield the numbers of all examples once, in a random order, in pieces of any size."""

    def fingerprint(self) -> str:
        """Hash the set by SHA-256."""


def cut(pieces: Iterator[Tensor], sizes: Sequence[int]) -> Iterator[Tensor]:
    """Cut numbers that come in pieces into batches of these sizes; they add up.

    Example:
        >>> [each.tolist() for each in cut(iter(torch.arange(5).split(2)), [3, 2])]
        [[0, 1, 2], [3, 4]]
    """
    held = torch.empty(0, dtype=torch.int64)
    for size in sizes:
        while len(held) < size:
            held = torch.cat([held, next(pieces)])
        yield held[:size]
        held = held[size:]
