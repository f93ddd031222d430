"""Transfer sets too large for memory: they are read a part at a time."""

import copy
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, lru_cache

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from attar.data.checks import check_indices, name_classes
from attar.data.transfer_set import (
    Batch,
    TransferSet,
    ViewFn,
    header_of,
    scale,
    see,
    to_bytes,
)
from attar.errors import DataError

_WINDOW = 4  # parts whose examples are mixed with each other

LoadPart = Callable[[int], TransferSet]


class StreamedSet:
    """Inputs on which a student sees soft targets, in parts of which a few are in memory.

    It answers what a `TransferSet` of the same examples would, and has the same fingerprint: a
    store that was labeled from one fits the other. Training mixes the examples of a few parts with
    each other, and takes the parts in a random order; so parts should be alike, as those of a set
    that was shuffled once are.

    Args:
        part_examples: How many examples each part has.
        load: Number of a part -> its examples. It is called again and again, by several threads or
            processes, and must answer the same.
        class_names: One for each class.
        views: Makes view 1 and above, as for a `TransferSet`; examples are numbered over all parts.
        fingerprint: What stands for the content, where it is to be known without reading all of it.

    Raises:
        DataError: If there is no example, or the classes are wrong.

    Example:
        >>> names = ["cat", "dog"]
        >>> def load(part):
        ...     return TransferSet(torch.full((2, 1), float(part)), class_names=names)
        >>> streamed = StreamedSet([2, 2, 2], load, class_names=names)
        >>> streamed.batch(torch.tensor([5, 0])).inputs
        tensor([[2.],
                [0.]])
    """

    def __init__(
        self,
        part_examples: Sequence[int],
        load: LoadPart,
        *,
        class_names: Sequence[str],
        views: ViewFn | None = None,
        fingerprint: str | None = None,
    ) -> None:
        """Note where each part begins."""
        if not part_examples or min(part_examples) < 1:
            raise DataError(f"expected parts of one example or more, got {list(part_examples)[:8]}")
        self._starts = np.concatenate([[0], np.cumsum(part_examples, dtype=np.int64)])
        self._load, self._views, self._given = load, views, fingerprint
        self._class_names = name_classes(torch.empty(0), class_names, None)
        self._is_labeled = False
        self._hold()

    def _hold(self) -> None:
        self._part = lru_cache(maxsize=2 * _WINDOW)(self._read)

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self._class_names)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each class."""
        return self._class_names

    @cached_property
    def hard_targets(self) -> Int64[Tensor, " examples"]:
        """The hard targets, -1 where there is none; the first call reads every part."""
        parts = range(len(self._starts) - 1)
        return torch.cat([self._read(part).hard_targets for part in parts])

    @property
    def views(self) -> ViewFn | None:
        """What makes view 1 and above, if anything does."""
        return self._views

    @property
    def memory_bytes(self) -> int:
        """How much memory its parts take at once."""
        largest = int(np.diff(self._starts).argmax())
        return 2 * _WINDOW * self._part(largest).memory_bytes

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __repr__(self) -> str:
        parts = len(self._starts) - 1
        return f"StreamedSet({len(self)} examples in {parts} parts, {self.classes} classes)"

    def __getstate__(self) -> dict[str, object]:
        """Leave the parts behind that are in memory."""
        return {name: value for name, value in self.__dict__.items() if name != "_part"}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Begin with none in memory."""
        self.__dict__ |= state
        self._hold()

    def batch(self, indices: Int64[Tensor, " batch"], view: int = 0) -> Batch:
        """Answer some examples, in the order of the indices; as `TransferSet.batch`.

        Raises:
            DataError: If an index or the view is out of range, or a part cannot be read.
        """
        indices = check_indices(indices, len(self))
        stored, targets = self._gather(indices)
        if view != 0:
            stored = see(self._views, stored, indices, view)
        return Batch(scale(stored), targets, indices, view)

    def subset(self, indices: Int64[Tensor, " kept"]) -> TransferSet:
        """Take some examples into memory, numbered anew."""
        stored, targets = self._gather(check_indices(indices, len(self)))
        return TransferSet(stored, targets, class_names=self.class_names, views=self.views)

    def with_views(self, views: ViewFn | None) -> "StreamedSet":
        """Replace what makes view 1 and above."""
        changed = copy.copy(self)
        changed._views = views
        return changed

    def labeled(self) -> "StreamedSet":
        """Return the set as one that raises `DataError` where a hard target is missing."""
        changed = copy.copy(self)
        changed._is_labeled = True
        return changed

    def _gather(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs as stored, and hard targets, of some examples."""
        rows = indices.numpy()
        parts = np.searchsorted(self._starts, rows, side="right") - 1
        order = np.argsort(parts, kind="stable")
        inputs, targets = [], []
        for number in np.unique(parts):
            here = torch.from_numpy(rows[order][parts[order] == number] - self._starts[number])
            part = self._part(int(number))
            inputs.append(part.inputs.index_select(0, here))
            targets.append(part.hard_targets[here])
        back = torch.from_numpy(np.argsort(order, kind="stable"))
        return torch.cat(inputs)[back], torch.cat(targets)[back]

    def shuffle(self, generator: torch.Generator) -> Iterator[Int64[Tensor, " piece"]]:
        """Yield the numbers of all examples once: parts in a random order, a few mixed together."""
        for window in torch.randperm(len(self._starts) - 1, generator=generator).split(_WINDOW):
            numbers = torch.cat(
                [
                    torch.arange(int(self._starts[part]), int(self._starts[part + 1]))
                    for part in window.tolist()
                ]
            )
            yield numbers[torch.randperm(len(numbers), generator=generator)]

    def fingerprint(self) -> str:
        """Hash the set as `TransferSet.fingerprint` does; it reads every part, the first time."""
        return self._given or self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        first = self._part(0).inputs
        header = header_of([len(self), *first.shape[1:]], first.dtype, self.class_names)
        sha256 = hashlib.sha256(json.dumps(header).encode())
        with tempfile.TemporaryFile() as targets:  # they come after all inputs
            for number in range(len(self._starts) - 1):
                part = self._read(number)
                sha256.update(to_bytes(part.inputs))
                targets.write(to_bytes(part.hard_targets))
            targets.seek(0)
            while chunk := targets.read(2**20):
                sha256.update(chunk)
        return sha256.hexdigest()

    def _read(self, number: int) -> TransferSet:
        part = self._load(number)
        expected = int(self._starts[number + 1] - self._starts[number])
        if len(part) != expected or part.class_names != self.class_names:
            raise DataError(
                f"expected {expected} examples of {self.classes} classes in part {number}, got "
                f"{len(part)} of {part.classes}, or of other names; has the data changed meanwhile?"
            )
        if self._is_labeled and bool((part.hard_targets < 0).any()):
            raise DataError(
                f"expected a hard target everywhere, got an example of part {number} without; "
                "leave it out, or train on soft targets alone"
            )
        return part
