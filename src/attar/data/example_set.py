"""A set of examples, wherever these are, and how its order is cut into batches."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from attar.data.streamed_set import StreamedSet
from attar.data.transfer_set import TransferSet

ExampleSet = TransferSet | StreamedSet  # all in memory, or a few parts at a time


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
