"""What `attar.label` costs beside the teacher: part of `python benchmarks/targets.py`."""

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

import attar
from attar.targets import Encoding
from attar.teachers import Teacher, as_teacher


@dataclass(frozen=True)
class Case:
    """A teacher of realistic cost, and what it labels."""

    name: str
    hidden: tuple[int, ...]
    classes: int
    encoding: Encoding
    examples: int  # at each turn: a second or two of work


CASES = (
    Case("2×1200 units, 10 classes, dense", (1200, 1200), 10, attar.Dense(), 8192),
    Case("4×2560 units, 10 classes, dense", (2560,) * 4, 10, attar.Dense(), 2048),
    Case("8×2560 units, 14,000 classes, k = 32", (2560,) * 8, 14_000, attar.Sparse(k=32), 512),
)


def labeling_costs(repeats: int = 7) -> dict[str, dict[str, float]]:
    """Compare labeling with bare inference, in turn, on one worker; ratios of medians.

    The ratios of the quickest turns are what is left where other programs disturb the others.

    What happens once, whatever the number of examples, is given in seconds: hashing teacher and
    data before the first batch, and writing and opening the manifest after the last shard.
    """
    return {case.name: _measure(case, repeats) for case in CASES}


def _measure(case: Case, repeats: int) -> dict[str, float]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (case.examples, 784), generator=generator)
    data = attar.TransferSet(images.to(torch.uint8), classes=case.classes)
    network = attar.mlp(784, case.hidden, case.classes, generator=generator)
    teacher = as_teacher(network, classes=case.classes)
    bare, labeled, before, after = [], [], [], []
    with tempfile.TemporaryDirectory() as temporary:
        for turn in range(repeats + 1):
            bare.append(_infer(teacher, data))
            first, whole, last = _label(teacher, data, Path(temporary) / str(turn), case.encoding)
            labeled.append(whole)
            before.append(first)
            after.append(last)
    columns = {}
    for place, clock in enumerate(("wall", "processor")):
        alone, together = (
            statistics.median(times[place] for times in found[1:]) for found in (bare, labeled)
        )
        columns[f"busy, {clock} time"] = alone / together
        quickest = [min(times[place] for times in found[1:]) for found in (bare, labeled)]
        columns[f"busy, {clock} time, quickest turns"] = quickest[0] / quickest[1]
    milliseconds = 1000 * statistics.median(times[1] for times in bare[1:]) / case.examples
    return {
        **columns,
        "teacher, ms an example": milliseconds,
        "before the first batch, s": statistics.median(before[1:]),
        "after the last shard, s": statistics.median(after[1:]),
    }


def _infer(teacher: Teacher, data: attar.TransferSet, batch_size: int = 256) -> tuple[float, float]:
    """Run the teacher over the set, and drop what it answers; wall and processor seconds."""
    start = time.perf_counter(), time.process_time()
    for indices in torch.arange(len(data)).split(batch_size):
        teacher.logits(data.batch(indices))
    return time.perf_counter() - start[0], time.process_time() - start[1]


def _label(
    teacher: Teacher, data: attar.TransferSet, folder: Path, encoding: Encoding
) -> tuple[float, tuple[float, float], float]:
    """Label the set as one shard, and return three times.

    Processor seconds before the first batch, then wall and processor seconds until the shard is
    stored, then processor seconds to the end.
    """
    marks = [(time.perf_counter(), time.process_time())]

    def mark(_: object) -> None:
        marks.append((time.perf_counter(), time.process_time()))

    attar.label(
        teacher, data, folder, encoding=encoding, workers=1, shard_examples=len(data), progress=mark
    )
    mark(None)
    start, first, last, end = marks
    wall, processor = (stop - begin for begin, stop in zip(first, last, strict=True))
    return first[1] - start[1], (wall, processor), end[1] - last[1]
