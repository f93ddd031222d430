"""Putting stores together whose shards were made in different places."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from attar.errors import StoreError, file_error
from attar.files import make_folder
from attar.targets.manifest import (
    MANIFEST,
    PLAN,
    ShardEntry,
    StorePlan,
    read_entries,
    read_manifest,
    read_plan,
    write_manifest,
)
from attar.targets.shards import read_checked
from attar.targets.store import SoftTargets
from attar.targets.writer import check_same_plan


def merge(sources: Sequence[Path], folder: Path) -> SoftTargets:
    """Make one store of several that have one plan, finished or not, each with some of its shards.

    Every shard is checked and copied; the result is, byte for byte, the store that one writer would
    have made. The sources stay as they are.

    Args:
        sources: The folders. A shard may be in several of them if it is the same.
        folder: New or empty.

    Raises:
        StoreError: If plans or shards contradict each other, a shard is damaged or in none of the
            sources, or the folder is not empty.
    """
    if not sources:
        raise StoreError("expected one store or more to merge, got none")
    plan, _ = _read(sources[0])
    found: dict[int, tuple[ShardEntry, Path]] = {}
    for source in sources:
        other, entries = _read(source)
        check_same_plan(source, other, plan)
        for entry in entries:
            known, there = found.setdefault(entry.number, (entry, source))
            if known != entry:
                both = f"{there} and {source}"
                raise StoreError(f"{both} have different {entry.shard}; was one teacher changed?")
    missing = [shard for shard in plan.shards if shard.number not in found]
    if missing:
        count = f"{len(missing)} of {len(plan.shards)} shards are in none of them"
        raise StoreError(f"cannot merge: {count}, such as {missing[0]}; label these first")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StoreError(f"expected a new or empty folder to merge into, got {folder}")
    for entry, source in found.values():
        read_checked(source / entry.shard.name, entry)
    make_folder(folder)
    merged = tuple(found[shard.number][0] for shard in plan.shards)
    for entry in merged:
        _copy(found[entry.number][1] / entry.shard.name, folder / entry.shard.name)
    write_manifest(folder, plan, merged)
    return SoftTargets.open(folder)


def _read(folder: Path) -> tuple[StorePlan, list[ShardEntry]]:
    if (folder / MANIFEST).exists():
        plan, entries = read_manifest(folder)
        return plan, list(entries)
    if not (folder / PLAN).exists():
        raise StoreError(f"{folder} is no soft-target store, finished or not; is the path right?")
    plan = read_plan(folder)
    return plan, [entry for entry in read_entries(folder, plan) if entry is not None]


def _copy(source: Path, target: Path) -> None:
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise file_error("copy to", target, error) from error
