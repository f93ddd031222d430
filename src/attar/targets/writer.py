"""Write a store in shards; finished shards are never written again."""

import os
import platform
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from attar.errors import DataError, ShapeError, StoreError, StoreWarning
from attar.files import PARTIAL, make_folder, sha256, write_atomically
from attar.targets.encoding import Columns, encode, layout
from attar.targets.manifest import (
    MANIFEST,
    PLAN,
    Shard,
    ShardEntry,
    StorePlan,
    entry_path,
    read_entries,
    read_manifest,
    read_plan,
    write_entry,
    write_manifest,
    write_plan,
)
from attar.targets.measuring import measure, sample_rows
from attar.targets.shards import find_fault, to_arrow
from attar.targets.store import SoftTargets
from attar.urls import Place, do_each

_SHARD_FILE = re.compile(r"shard-\d{5,}\.(arrow|json)")


@dataclass(frozen=True, slots=True)
class PackedShard:
    """A computed shard, ready to be written."""

    entry: ShardEntry
    content: bytes


class TargetWriter:
    """Writes soft targets to a folder.

    A killed writer resumes from `missing()`. Several writers, on one or more machines, may write to
    one folder if each writes different shards. The bytes depend only on the plan and the logits,
    not on the order of shards or the batch size.

    A finished store with missing shards is repaired in the same way: write the shards that
    `missing()` returns. Their bytes must match the manifest.

    Args:
        folder: A path or `UrlPath`; new, empty, with a store of the same plan, or with a store
            without any shard.
        plan: The plan of the store.

    Raises:
        StoreError: If the folder has other content.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from attar.targets import Dense
        >>> plan = StorePlan(2, ("cat", "dog"), Dense(), data="of the set", teacher="of it")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     writer = TargetWriter(Path(folder), plan)
        ...     for shard in writer.missing():
        ...         entry = writer.write(shard, [torch.tensor([[1.0, 3.0], [0.5, 0.0]])])
        ...     writer.finish().batch(torch.tensor([1, 0])).logits
        tensor([[ 0.0000, -0.5000],
                [-2.0000,  0.0000]])
    """

    def __init__(self, folder: Place, plan: StorePlan) -> None:
        """Claim the folder."""
        self._hold(make_folder(folder), plan)
        if self._finished() is not None:
            return
        if (folder / PLAN).exists():
            self._take_over(read_plan(folder))
        else:
            others = sorted(entry.name for entry in folder.iterdir() if entry.name[0] != ".")
            if others:
                found = f"{folder} contains other files ({others[0]}, ...)"
                raise StoreError(f"expected an empty folder, but {found}; choose another folder")
            write_plan(folder, plan)

    @classmethod
    def join(cls, folder: Place, plan: StorePlan) -> "TargetWriter":
        """Write to a folder that another process, possibly on another machine, has claimed.

        Raises:
            StoreError: If the folder is not claimed for this plan, as seen from this machine.
        """
        writer = cls.__new__(cls)
        writer._hold(folder, plan)
        if writer._finished() is not None:
            return writer
        if not (folder / PLAN).exists():
            raise StoreError(
                f"{folder} on {platform.node()} lacks the {PLAN} that was just written there; use "
                "a folder on a disk that all machines share"
            )
        check_same_plan(folder, read_plan(folder), plan)
        return writer

    def missing(self) -> tuple[Shard, ...]:
        """Return the shards that have to be written: the missing and the damaged ones.

        Each existing shard is compared with its checksum, once per writer; at a URL, only with its
        size.

        Warns:
            StoreWarning: For each damaged shard, and each missing shard of a finished store.

        Raises:
            StoreError: If the manifest is damaged.
        """
        entries = self._finished() or read_entries(self.folder, self.plan)
        written = [entry for entry in entries if entry is not None]
        threads = os.cpu_count() or 1
        faults = do_each(self.folder, self._find_fault, written, threads=threads)
        for entry, fault in zip(written, faults, strict=True):
            if fault is None:
                self._whole.add(entry.number)
                self._faulty.discard(entry.number)
                continue
            self._whole.discard(entry.number)
            if entry.number not in self._faulty:
                self._faulty.add(entry.number)
                what = f"{self.folder / entry.shard.name} {fault} ({entry.shard.content})"
                warnings.warn(f"{what}; it will be written again", StoreWarning, stacklevel=2)
        there = {entry.number for entry in written} - self._faulty
        return tuple(shard for shard in self.plan.shards if shard.number not in there)

    def write(self, shard: Shard, batches: Iterable[Tensor]) -> ShardEntry:
        """Write a shard; after an error, nothing of it remains.

        Args:
            shard: One of `plan.shards`.
            batches: The teacher's logits `[rows, classes]` of its examples, in their order.

        Raises:
            DataError: If a logit is not finite; the message names the example.
            ShapeError: If the number of rows or classes is wrong.
            FolderError: If the folder cannot be written, or the disk is full.
            StoreError: If another writer has claimed the folder for another store.
        """
        return self.store(self.pack(shard, batches))

    def pack(self, shard: Shard, batches: Iterable[Tensor]) -> PackedShard:
        """Compute a shard: the first part of `write`."""
        columns, sample = self._encode(shard, batches)
        content = to_arrow(columns)
        entry = ShardEntry(
            number=shard.number,
            view=shard.view,
            member=shard.member,
            start=shard.start,
            stop=shard.stop,
            rows=shard.stop - shard.start,
            bytes=len(content),
            sha256=sha256(content),
            measured=measure(sample, self.plan.encoding),
        )
        return PackedShard(entry, content)

    def store(self, packed: PackedShard) -> ShardEntry:
        """Store a shard: the second part of `write`."""
        entry, finished = packed.entry, self._finished()
        if finished is not None:
            _check_same_bytes(self.folder / entry.shard.name, entry, finished[entry.number])
        elif (self.folder / PLAN).exists():
            check_same_plan(self.folder, read_plan(self.folder), self.plan)
        write_atomically(self.folder / entry.shard.name, packed.content)
        if finished is None:
            write_entry(self.folder, entry)
        self._whole.add(entry.number)
        self._faulty.discard(entry.number)
        return entry

    def finish(self) -> SoftTargets:
        """Write the manifest, which finishes the store, and open it.

        Raises:
            StoreError: If a shard is still missing.
        """
        finished = self._finished()
        entries = finished or read_entries(self.folder, self.plan)
        lost = [s for s, entry in zip(self.plan.shards, entries, strict=True) if entry is None]
        lost = lost or list(self.missing() if self._faulty else ())
        if lost:
            count = f"{len(lost)} of {len(entries)} shards"
            raise StoreError(
                f"{self.folder} still lacks {count}, such as {lost[0]}; write them first"
            )
        if finished is None:
            write_manifest(self.folder, self.plan, tuple(filter(None, entries)))
        remove_traces(self.folder, self.plan)
        return SoftTargets.open(self.folder)

    def _hold(self, folder: Place, plan: StorePlan) -> None:
        self.folder, self.plan = folder, plan
        self._manifest: tuple[ShardEntry, ...] | None = None
        self._whole: set[int] = set()  # numbers of verified shards
        self._faulty: set[int] = set()

    def _finished(self) -> tuple[ShardEntry, ...] | None:
        """Return the entries of the manifest, if it exists; its plan must be this one."""
        if self._manifest is None and (self.folder / MANIFEST).exists():
            plan, entries = read_manifest(self.folder)
            check_same_plan(self.folder, plan, self.plan)
            self._manifest = entries
        return self._manifest

    def _find_fault(self, entry: ShardEntry) -> str | None:
        path = self.folder / entry.shard.name
        return find_fault(path, entry, check=entry.number not in self._whole)

    def _take_over(self, found: StorePlan) -> None:
        """Resume an unfinished store, or replace one of another plan if it has no shard."""
        if any(read_entries(self.folder, found)):
            check_same_plan(self.folder, found, self.plan)
        elif found != self.plan:
            for half in self.folder.glob("shard-*"):  # without a valid entry
                if _SHARD_FILE.fullmatch(half.name):
                    half.unlink(missing_ok=True)
            write_plan(self.folder, self.plan)

    def _encode(self, shard: Shard, batches: Iterable[Tensor]) -> tuple[Columns, Tensor]:
        """Return the shard's columns, and the logits of the measured rows."""
        plan, rows = self.plan, shard.stop - shard.start
        columns = {
            name: np.empty((rows, width), kind)
            for name, (kind, width) in layout(plan.encoding, plan.classes).items()
        }
        seed = getattr(plan.encoding, "seed", 0)
        generator = np.random.Generator(np.random.Philox(key=[seed, shard.number]))
        chosen, sample, done = sample_rows(shard, plan.classes), [], 0
        for logits in batches:
            logits = logits.detach().cpu()
            self._check(shard, logits, done)
            for name, column in encode(logits, plan.encoding, generator).items():
                columns[name][done : done + len(logits)] = column
            here = [row - done for row in chosen if done <= row < done + len(logits)]
            sample.append(logits[here].float())
            done += len(logits)
        if done < rows:
            raise ShapeError(f"expected {rows} rows of logits for {shard}, got {done}")
        return columns, torch.cat(sample)

    def _check(self, shard: Shard, logits: Tensor, done: int) -> None:
        classes, rows = self.plan.classes, shard.stop - shard.start
        if logits.ndim != 2 or logits.shape[1] != classes or not logits.is_floating_point():
            found = f"got {list(logits.shape)} {logits.dtype}"
            raise ShapeError(
                f"expected logits [rows, {classes}] of floats for {classes} class names, {found}; "
                "does the teacher use the transfer set's class list?"
            )
        if done + len(logits) > rows:
            raise ShapeError(f"expected {rows} rows of logits for {shard}, got more")
        # The sum takes a seventh of the time; it is finite only if all logits are.
        if not logits.sum().isfinite() and not logits.isfinite().all():
            row = int((~logits.isfinite()).any(-1).nonzero()[0])
            value = logits[row][~logits[row].isfinite()][0].item()
            hint = (
                "replace -inf by a large negative number, such as -1e4"
                if value == -float("inf")
                else "run the teacher in float32, and check the example"
            )
            raise DataError(
                f"expected finite logits, got {value} for example {shard.start + done + row}, view "
                f"{shard.view}, member {shard.member}; {hint}"
            )


def _check_same_bytes(path: Place, entry: ShardEntry, recorded: ShardEntry) -> None:
    """Raise `StoreError` unless a repaired shard has the same bytes as before."""
    if (entry.bytes, entry.sha256) != (recorded.bytes, recorded.sha256):
        raise StoreError(
            f"{path} was labeled again, but differs from its entry in {MANIFEST}: expected SHA-256 "
            f"{recorded.sha256[:12]}…, got {entry.sha256[:12]}…; label with the batch_size, torch "
            "version and machine of the original run, or remove the store and label all of it"
        )


def check_same_plan(folder: Place, found: StorePlan, wanted: StorePlan) -> None:
    """Raise `StoreError`, naming both sides, unless two plans are the same."""
    for name in StorePlan.__dataclass_fields__:
        there, here = getattr(found, name), getattr(wanted, name)
        if there != here:
            what = name.replace("_", " ")
            if isinstance(there, tuple):  # too long to show
                what, there, here = _first_difference(what, there, here)
            raise StoreError(
                f"{folder} contains soft targets with {what} {_short(there)}, not {_short(here)}; "
                "choose another folder, or remove this one"
            )


def remove_traces(folder: Place, plan: StorePlan) -> None:
    """Remove the files of an unfinished store and temporary files of killed writers."""
    do_each(folder, lambda shard: entry_path(folder, shard).unlink(missing_ok=True), plan.shards)
    (folder / PLAN).unlink(missing_ok=True)
    for half in folder.glob(PARTIAL):
        half.unlink(missing_ok=True)


def _first_difference(
    what: str, there: tuple[object, ...], here: tuple[object, ...]
) -> tuple[str, object, object]:
    """Return the first difference of two sequences: the length, or the items at a position."""
    if len(there) != len(here):
        return f"a number of {what} of", len(there), len(here)
    place = next(place for place, item in enumerate(there) if item != here[place])
    return f"{what} number {place}", there[place], here[place]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
