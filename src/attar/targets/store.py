"""Read a store: any examples, in any order, through memory maps."""

import json
import threading
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor

from attar.errors import AttarError, DataError, StoreError
from attar.files import sha256
from attar.losses import SoftTargetBatch, check_mean
from attar.targets.encoding import Columns, Sparse, decode
from attar.targets.manifest import (
    MANIFEST,
    PLAN,
    ShardEntry,
    StorePlan,
    identify_plan,
    read_entries,
    read_manifest,
    read_plan,
)
from attar.targets.quality import TeacherQuality, pool_answers
from attar.targets.shards import check_size, map_shard, refresh_copy
from attar.urls import Place, UrlPath, as_place, do_each

MOST_MAPPED = 2**14  # shards at once: 6 kB each, and Linux allows 65,530 maps in a process
_LOCKS = 16


class SoftTargets:
    """A finished store, mapped into memory; only batches take memory of the process.

    Each shard is compared with its checksum on first use, once per opened store. Several threads
    may read batches at once.
    """

    def __init__(self, folder: Place, plan: StorePlan, entries: tuple[ShardEntry, ...]) -> None:
        """Use `SoftTargets.open` instead."""
        self.folder, self.plan, self.entries = folder, plan, entries
        self._columns = lru_cache(maxsize=MOST_MAPPED)(self._map)
        self._checked: set[int] = set()  # numbers of shards
        self._locks = [threading.Lock() for _ in range(_LOCKS)]
        self._series = {view.number: place for place, view in enumerate(plan.views)}

    @classmethod
    def open(cls, folder: Place | str) -> "SoftTargets":
        """Open a store.

        Shards of a store at a URL are downloaded on first use and cached in `attar/soft-targets` of
        the user's cache folder (`XDG_CACHE_HOME`).

        Raises:
            StoreError: If it is unfinished, damaged or of a newer format, or a shard is missing or
                truncated. `batch` checks the checksums of the shards that it reads, `verify` those
                of all shards.
        """
        folder = as_place(folder)
        if not (folder / MANIFEST).exists():
            raise StoreError(_why_not_finished(folder))
        plan, entries = read_manifest(folder)
        do_each(folder, lambda each: check_size(folder / each.shard.name, each), entries)
        return cls(folder, plan, entries)

    def __reduce__(self) -> tuple[object, ...]:
        """Map the shards again when unpickled."""
        return type(self), (self.folder.absolute(), self.plan, self.entries)

    def __len__(self) -> int:
        """Count the examples."""
        return self.plan.examples

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.plan.classes

    @property
    def teacher_quality(self) -> TeacherQuality | None:
        """Accuracy of the teacher during labeling, in view 0 or else the first view.

        None if no example has a hard target, or the store was made by an earlier release of attar.
        """
        return pool_answers(self.plan, self.entries)

    def batch(
        self, indices: Int64[Tensor, " batch"], view: int = 0, member: int | None = None
    ) -> SoftTargetBatch:
        """Fetch the soft targets of some examples.

        Args:
            indices: Positions in the transfer set, in any order; repetitions are allowed.
            view: Number of a labeled view.
            member: Position of a member of the ensemble; None for all members, along a first axis
                if there are several.

        Raises:
            DataError: If an index, the view or the member is not in the store.
            StoreError: If a shard is missing or damaged.
        """
        rows = self._check_indices(indices)
        if view not in self._series:
            known = ", ".join(str(number) for number in self._series)
            raise DataError(f"expected one of the views {known} of {self.folder}, got {view}")
        members = self.plan.member_count
        if member is not None and not 0 <= member < members:
            raise DataError(f"expected a member in 0..{members - 1}, got {member}")
        first = self._series[view] * members
        if member is not None or members == 1:
            columns = self._gather(first + (member or 0), rows)
        else:
            each = [self._gather(first + place, rows) for place in range(members)]
            columns = {name: np.stack([one[name] for one in each]) for name in each[0]}
        return decode(columns, self.plan.encoding, self.classes)

    def fingerprint(self) -> str:
        """Hash the plan and the shards' checksums; equal for stores with the same content."""
        content = [identify_plan(self.plan), [entry.sha256 for entry in self.entries]]
        return sha256(json.dumps(content, sort_keys=True).encode())

    def check_made_for(self, *, data: str, class_names: Sequence[str]) -> None:
        """Raise `StoreError`, naming both sides, unless the store is of this data and classes."""
        if self.plan.data != data:
            raise StoreError(
                f"{self.folder} was made for the transfer set {self.plan.data[:12]}…, "
                f"got {data[:12]}…; label this set, or use the set of the store"
            )
        names = tuple(class_names)
        if self.plan.class_names != names:
            both = zip(self.plan.class_names, names, strict=False)
            at = next((f": {a!r} and {b!r}" for a, b in both if a != b), "")
            counts = f"{self.classes} classes in {self.folder}, {len(names)} here"
            raise StoreError(f"expected the same classes in the same order, got {counts}{at}")

    def check_mean(self, mean: str) -> None:
        """Raise `AttarError` unless the members' soft targets have this mean."""
        check_mean(mean)
        is_sparse = isinstance(self.plan.encoding, Sparse)
        if mean == "geometric" and self.plan.member_count > 1 and is_sparse:
            raise AttarError(
                "the geometric mean needs a dense store, because sparse members store different "
                "classes; label with Dense(), or use the arithmetic mean"
            )

    def verify(self) -> None:
        """Compare every shard with its checksum, even if it has been read before.

        For a store at a URL, this checks the remote files and the local copies, which `batch`
        reads; damaged and missing copies are replaced.

        Raises:
            StoreError: If a shard differs; the message names it and what to do.
        """
        self._columns.cache_clear()  # drop maps of replaced copies
        self._checked.clear()
        for entry in self.entries:
            path = self.folder / entry.shard.name
            if isinstance(path, UrlPath):
                refresh_copy(path, entry)
            self._map(entry.number)

    def _map(self, number: int) -> Columns:
        entry = self.entries[number]
        path = self.folder / entry.shard.name
        # Other threads that need the shard wait until it is checked.
        with self._locks[number % _LOCKS]:
            is_new = number not in self._checked
            columns = map_shard(path, entry, self.plan.encoding, self.classes, check=is_new)
            self._checked.add(number)
        return columns

    def _gather(self, series: int, rows: NDArray[np.int64]) -> Columns:
        """Copy rows out of the shards of one view and member."""
        first, size = series * self.plan.blocks, self.plan.shard_examples
        blocks, places = np.divmod(rows, size)
        order = np.argsort(blocks, kind="stable")  # so that each shard is visited once
        blocks, places = blocks[order], places[order]
        ends = [*(np.flatnonzero(blocks[1:] != blocks[:-1]) + 1).tolist(), len(rows)]
        template = self._columns(first + int(blocks[0]))
        gathered = {
            name: np.empty((len(rows), column.shape[1]), column.dtype)
            for name, column in template.items()
        }
        start = 0
        for end in ends:
            shard, here = self._columns(first + int(blocks[start])), places[start:end]
            for name, column in shard.items():
                # Indices are checked already; without "clip" NumPy would copy once more.
                np.take(column, here, axis=0, out=gathered[name][start:end], mode="clip")
            start = end
        if len(ends) == 1:
            return gathered
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return {name: column.take(back, axis=0) for name, column in gathered.items()}

    def _check_indices(self, indices: Tensor) -> NDArray[np.int64]:
        if indices.dtype != torch.int64 or indices.ndim != 1 or len(indices) == 0:
            found = f"got {list(indices.shape)} {indices.dtype}"
            raise DataError(f"expected at least one index, [batch] of int64, {found}")
        rows: NDArray[np.int64] = indices.cpu().numpy()
        if rows.min() < 0 or rows.max() >= len(self):
            wrong = int(rows[(rows < 0) | (rows >= len(self))][0])
            raise DataError(f"expected indices in 0..{len(self) - 1}, got {wrong}")
        return rows


def _why_not_finished(folder: Place) -> str:
    if not (folder / PLAN).exists():
        return f"{folder} is not a soft-target store: it has no {MANIFEST}; is the path right?"
    plan = read_plan(folder)
    entries = zip(plan.shards, read_entries(folder, plan), strict=True)
    missing = [shard for shard, entry in entries if entry is None]
    if not missing:
        return f"{folder} is unfinished: it has all shards, but no {MANIFEST}; label again"
    count = f"{len(missing)} of {plan.shard_count} shards are missing"
    return f"{folder} is unfinished: {count}, such as {missing[0]}; label again to resume"
