"""Flip single bytes of stores: what is read afterwards is what was stored, or an error of attar.

The test flips some; `PYTHONPATH=tests python -m targets.flips 2000` flips more, and prints what
happened.
"""

import random
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from dataclasses import fields
from pathlib import Path
from unittest import mock

import torch

from attar.errors import StoreError
from attar.targets import Dense, SoftTargets

from .conftest import SPARSE, contents, fill, make_plan


def flips(count, folder, *, seed=0):
    """Flip so many bytes, one at a time; count what followed, by kind of file and outcome."""
    draw, found = random.Random(seed), Counter()
    with mock.patch("os.fsync"):  # it takes most of the time
        stores = Stores(folder / "dense", Dense()), Stores(folder / "sparse", SPARSE)
    cases = [
        (store, *case)
        for store in stores
        for case in (
            ("finished", "*.arrow", store.read_and_repair),
            ("finished", "manifest.json", store.read_and_repair),
            ("unfinished", "*.arrow", store.resume),
            ("unfinished", "shard-*.json", store.resume),
            ("unfinished", "plan.json", store.resume),
            ("at", "url/*", store.read_url),
            ("caches", "**/*.arrow", store.read_copies),
        )
    ]
    for number in range(count):
        store, part, pattern, act = cases[number % len(cases)]
        before = read_tree(store.folder)
        path = draw.choice(sorted((store.folder / part).glob(pattern)))
        damaged = bytearray(path.read_bytes())
        at, change = draw.randrange(len(damaged)), draw.randrange(1, 256)
        damaged[at] ^= change
        path.write_bytes(damaged)
        try:
            with (
                mock.patch("os.fsync"),
                mock.patch.dict("os.environ", XDG_CACHE_HOME=str(store.folder / "caches")),
                warnings.catch_warnings(action="ignore"),  # of shards that are written again
            ):
                found[part, pattern, act(before)] += 1
        except BaseException as error:
            error.add_note(f"byte {at} of {path}, changed by {change}")
            raise
        write_tree(store.folder, before)
    return found


class Stores:
    """A store that is finished, one that is not, and one at a URL with copies in a cache."""

    def __init__(self, folder, encoding):
        self.folder, self.plan = folder, make_plan(encoding, views=2)
        store = fill(folder / "finished", self.plan).finish()
        self.values, self.contents = read(store), contents(store.folder)
        fill(folder / "unfinished", self.plan, shards={0, 1, 3})
        shutil.copytree(store.folder, folder / "at/url")
        self.url = f"local://{folder}/at/url"
        with mock.patch.dict("os.environ", XDG_CACHE_HOME=str(folder / "caches")):
            read(SoftTargets.open(self.url))

    def read_and_repair(self, before):
        """Read it, then label it again: that repairs it if its manifest is whole."""
        folder = self.folder / "finished"
        outcome = self.try_to_read(folder)
        try:
            fill(folder, self.plan).finish()
        except StoreError as error:
            assert "manifest.json" in str(error)
            return f"{outcome}, to be removed"
        assert contents(folder) == self.contents
        assert self.try_to_read(folder) == "read"
        return f"{outcome}, repaired"

    def resume(self, before):
        """Label what it lacks: that ends in the undisturbed store, or in an error."""
        folder = self.folder / "unfinished"
        try:
            fill(folder, self.plan).finish()
        except StoreError as error:
            assert "plan.json" in str(error)
            return "refused"
        assert contents(folder) == self.contents
        return "as if undisturbed"

    def read_url(self, before):
        """Read it without a cache."""
        with mock.patch.dict("os.environ", XDG_CACHE_HOME=str(self.folder / "empty")):
            return self.try_to_read(self.url)

    def read_copies(self, before):
        """Read and verify it with a damaged copy in the cache: that is downloaded again."""
        outcome = self.try_to_read(self.url)
        SoftTargets.open(self.url).verify()
        assert read_tree(self.folder) == before
        return outcome

    def try_to_read(self, folder):
        try:
            found = read(SoftTargets.open(folder))
        except StoreError:
            return "refused"
        assert all(map(torch.equal, found, self.values))
        return "read"


def read(store):
    """Read all that a store has, as a list of tensors."""
    batches = [store.batch(torch.arange(len(store)), view.number) for view in store.plan.views]
    values = [getattr(batch, field.name) for batch in batches for field in fields(batch)]
    return [value for value in values if isinstance(value, torch.Tensor)]


def read_tree(root):
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root): path.read_bytes() for path in files}


def write_tree(root, tree):
    """Bring the folder back to what it was."""
    now = read_tree(root)
    for path in now.keys() - tree.keys():
        (root / path).unlink()
    for path, content in tree.items():
        if now.get(path) != content:
            (root / path).write_bytes(content)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        counts = flips(int(sys.argv[1]), Path(scratch))
    for (part, pattern, outcome), count in sorted(counts.items()):
        sys.stdout.write(f"{count:6} {part}/{pattern}: {outcome}\n")
