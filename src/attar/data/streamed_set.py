"""Transfer sets too large for memory: they are read a part at a time."""

import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from attar.data.checks import check_indices, check_targets, find_labeled, name_classes
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
LoadTargets = Callable[[int], Tensor]


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
        load_targets: Number of a part -> its hard targets, int64, if they can be read without the
            inputs. By default `hard_targets` reads every part.

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
        load_targets: LoadTargets | None = None,
    ) -> None:
        """Note where each part begins."""
        if not part_examples or min(part_examples) < 1:
            raise DataError(f"expected parts of one example or more, got {list(part_examples)[:8]}")
        self._starts = np.concatenate([[0], np.cumsum(part_examples, dtype=np.int64)])
        self._load, self._load_targets = load, load_targets
        self._views, self._given = views, fingerprint
        self._class_names = name_classes(torch.empty(0), class_names, None)
        self._ids: Tensor | None = None  # sorted rows of the parts, one after the other; None: all
        self._drops_targets = False
        self._form: Any = None  # of every part: shape and type of its inputs, feature names
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

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        """The names of the columns of inputs `[examples, columns]`, if they are known."""
        if self._form is None:
            self._part(0)
        names: tuple[str, ...] | None = self._form[2]
        return names

    @property
    def hard_targets(self) -> Int64[Tensor, " examples"]:
        """The hard targets, -1 where there is none; read at the first call, then kept.

        Raises:
            DataError: If a part cannot be read, or has other classes.
        """
        return self._targets

    @property
    def example_ids(self) -> Int64[Tensor, " examples"]:
        """Where each example stands in the set that was constructed."""
        return torch.arange(int(self._starts[-1])) if self._ids is None else self._ids

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
        return int(self._starts[-1]) if self._ids is None else len(self._ids)

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
        ids = self._find(indices)
        stored, targets = self._gather(ids)
        if view != 0:
            stored = see(self._views, stored, ids, view)
        return Batch(scale(stored), targets, indices, view)

    def subset(self, indices: Int64[Tensor, " kept"]) -> TransferSet:
        """Take some examples into memory, numbered anew."""
        stored, targets = self._gather(self._find(indices))
        return TransferSet(
            stored,
            targets,
            class_names=self.class_names,
            views=self.views,
            feature_names=self.feature_names,
        )

    def labeled(self) -> "StreamedSet":
        """Choose the examples with a hard target; the set itself, if all have one.

        They stay in their parts, and keep their ids. All hard targets are read.

        Raises:
            DataError: If none has.
        """
        kept = find_labeled(self.hard_targets)
        if kept is None:
            return self
        changed = self._copy()
        changed._ids = self.example_ids[kept]
        changed.__dict__["_targets"] = self.hard_targets[kept]
        changed._given = self._given and f"{self._given}, those with a hard target"
        return changed

    def without_hard_targets(self) -> "StreamedSet":
        """Leave the hard targets out: each becomes -1."""
        changed = self._copy()
        changed._drops_targets = True
        changed.__dict__["_targets"] = torch.full((len(self),), -1)
        changed._given = self._given and f"{self._given}, without hard targets"
        return changed

    def with_views(self, views: ViewFn | None) -> "StreamedSet":
        """Replace what makes view 1 and above."""
        changed = copy.copy(self)
        changed._views = views
        return changed

    def _copy(self) -> "StreamedSet":
        """Copy the set without its cached hash and hard targets."""
        copied = copy.copy(self)
        for name in ("_scan", "_targets"):
            copied.__dict__.pop(name, None)
        return copied

    def _find(self, indices: Tensor) -> Tensor:
        """Return the ids of the examples at these positions, on the CPU."""
        rows = check_indices(indices, len(self)).cpu()
        return rows if self._ids is None else self._ids[rows]

    def _gather(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs as stored, and hard targets, of some examples."""
        rows = ids.numpy()
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
        starts = self._starts  # of the parts among the examples of this set
        if self._ids is not None:
            starts = np.searchsorted(self._ids.numpy(), self._starts)
        for window in torch.randperm(
            len(starts) - 1, generator=generator, device=generator.device
        ).split(_WINDOW):
            numbers = torch.cat(
                [torch.arange(int(starts[part]), int(starts[part + 1])) for part in window.tolist()]
            )
            yield numbers[
                torch.randperm(len(numbers), generator=generator, device=generator.device)
            ]

    def fingerprint(self) -> str:
        """Hash the set as `TransferSet.fingerprint` does; it reads every part, the first time."""
        return self._given or self._scan[0]

    @cached_property
    def _targets(self) -> Tensor:
        if self._load_targets is None:
            return self._scan[1]
        parts = []
        for number in range(len(self._starts) - 1):
            part = self._load_targets(number)
            self._check_length(len(part), number)
            if part.dtype != torch.int64:
                raise DataError(f"expected load_targets to return int64, got {part.dtype}")
            check_targets(part, self.classes)
            parts.append(part)
        return torch.cat(parts)

    @cached_property
    def _scan(self) -> tuple[str, Tensor]:
        """Read every part once: return the hash of the set and its hard targets."""
        ids = self.example_ids
        renumbered = not torch.equal(ids, torch.arange(len(ids)))
        starts = np.searchsorted(ids.numpy(), self._starts)
        sha256, targets = hashlib.sha256(), []
        for number in range(len(self._starts) - 1):
            part = self._read(number)
            here = ids[starts[number] : starts[number + 1]] - int(self._starts[number])
            inputs = part.inputs if len(here) == len(part) else part.inputs[here]
            if number == 0:
                shape = [len(self), *inputs.shape[1:]]
                header = header_of(shape, inputs.dtype, self.class_names, renumbered=renumbered)
                sha256.update(json.dumps(header).encode())
            sha256.update(to_bytes(inputs))
            targets.append(part.hard_targets[here])
        found = torch.cat(targets)
        sha256.update(to_bytes(found))  # they come after all inputs
        if renumbered:
            sha256.update(to_bytes(ids))
        return sha256.hexdigest(), found

    def _read(self, number: int) -> TransferSet:
        part = self._load(number)
        self._check_length(len(part), number)
        if part.class_names != self.class_names:
            raise DataError(
                f"expected {self.classes} classes in part {number}, got {part.classes}, or others; "
                "has the data changed?"
            )
        inputs = part.inputs
        form = (list(inputs.shape[1:]), inputs.dtype, part.feature_names)
        self._form = self._form or form
        if form != self._form:
            told, wanted = (f"{shape} {dtype}" for shape, dtype, _ in (form, self._form))
            if told == wanted:
                told, wanted = (f"the columns {names}" for _, _, names in (form, self._form))
            raise DataError(
                f"expected the same inputs in all parts, {wanted}, got {told} in part {number}; "
                "write lists of one length, or give images one size="
            )
        if self._drops_targets:
            return part.without_hard_targets()
        known = self.__dict__.get("_targets")
        if known is not None and self._ids is None:
            expected = known[self._starts[number] : self._starts[number + 1]]
            if not torch.equal(expected, part.hard_targets.cpu()):
                raise DataError(
                    f"expected the hard targets of part {number} as they were read before, got "
                    "others; has the data changed, or does load_targets not fit load?"
                )
        return part

    def _check_length(self, examples: int, number: int) -> None:
        """Raise `DataError` unless a part has as many examples as were announced."""
        expected = int(self._starts[number + 1] - self._starts[number])
        if examples != expected:
            raise DataError(
                f"expected {expected} examples in part {number}, got {examples}; "
                "has the data changed?"
            )
