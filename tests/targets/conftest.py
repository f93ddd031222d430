"""A small store, and how to make others."""

import hashlib
import json

import pytest
import torch

from attar.targets import Dense, Sparse, StorePlan, TargetWriter, View

SPARSE = Sparse(k=4)


def make_plan(encoding=SPARSE, *, examples=10, classes=12, members=(), views=1, shard_examples=4):
    return StorePlan(
        examples,
        tuple(f"class {index}" for index in range(classes)),
        encoding,
        data="d" * 64,
        teacher="t" * 64,
        members=members,
        views=tuple(View(number, "Jitter(pixels=2)", 7) for number in range(views)),
        shard_examples=shard_examples,
    )


def teacher_logits(plan):
    """Logits [views, members, examples, classes]."""
    shape = len(plan.views), plan.member_count, plan.examples, plan.classes
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).mul(3)


def fill(folder, plan, *, shards=None, batch_size=3):
    """Write the shards of these numbers, or all of them; return the writer."""
    logits, writer = teacher_logits(plan), TargetWriter(folder, plan)
    for shard in writer.missing():
        if shards is None or shard.number in shards:
            rows = logits[shard.view, shard.member, shard.start : shard.stop]
            writer.write(shard, rows.split(batch_size))
    return writer


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def flip(path, at=-300):
    """Change one bit of a file, where the columns of a small shard are."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def seal(path, change):
    """Change what a manifest, plan or entry says, and give it the checksum that it then has."""
    content = json.loads(path.read_bytes())
    change(content)
    content.pop("checksum")
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    checksum = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    path.write_text(json.dumps(content | {"checksum": checksum}), encoding="utf-8")


@pytest.fixture
def store(tmp_path):
    return fill(tmp_path / "store", make_plan()).finish()


ENCODINGS = [
    Dense(),
    SPARSE,
    Sparse(k=12),
    Sparse(k=2, draws=3, draw_temperature=2.0),
    Sparse(k=0, draws=4, betas=(0.25, 1.0)),
]
