"""A teacher's soft targets, kept in the folder of a run."""

import os
from collections.abc import Generator, Sequence
from pathlib import Path

from torch import nn

from attar.data import TransferSet
from attar.labeling import make_plan, write_shards
from attar.recipes.work import Progress, WorkMeter, piece
from attar.targets import SoftTargets, Sparse, TargetWriter
from attar.teachers import as_teacher

_BATCH = 256


def label_in_pieces(
    title: str,
    teacher: nn.Module,
    examples: TransferSet,
    folder: Path,
    *,
    k: int,
    meter: WorkMeter,
    work_per_row: float,
    views: Sequence[int] = (0,),
    shard_examples: int = 0,
) -> Generator[Progress, None, SoftTargets]:
    """Label as `attar.label` does: shards that are there are not made again.

    Args:
        title: What is being done, for people.
        teacher: The network that is asked.
        examples: About which.
        folder: Of the store.
        k: Logits that are kept of each, at most all.
        meter: Counts the work.
        work_per_row: What one example and view costs, in the meter's units.
        views: Which of them are labeled.
        shard_examples: Examples in a shard; 0 for `attar.label`'s.

    Yields:
        How far it is, at the start and whenever a shard is stored.

    Returns:
        The finished store.
    """
    asked = as_teacher(teacher, class_names=examples.class_names, examples=len(examples))
    plan = make_plan(asked, examples, Sparse(k=min(k, examples.classes)), views, shard_examples)
    writer = TargetWriter(folder, plan)
    total = len(examples) * len(views)
    done = total - sum(shard.stop - shard.start for shard in writer.missing())
    meter.add(work_per_row * done, by_earlier_run=True)
    yield piece(title, done, total, meter)
    for shard in write_shards(writer, asked, examples, _BATCH, os.cpu_count() or 1):
        done += shard.stop - shard.start
        meter.add(work_per_row * (shard.stop - shard.start))
        yield piece(title, done, total, meter)
    return writer.finish()
