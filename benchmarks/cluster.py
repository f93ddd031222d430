"""Labeling on Ray beside a plain loop in as many processes, and its memory as examples grow.

    python benchmarks/cluster.py [--only overhead|driver|memory] [--quick] [--out cluster.json]

Rows are generated on the fly, so that no disk is read. Both loops write to the same disk. Where
the model of `attar plan --on ray` says something of a run, that stands beside what was measured.
"""

import argparse
import json
import math
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import accumulate
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from statistics import median

import torch

from attar import StreamedSet, TransferSet, cluster, mlp
from attar.cluster import Cluster
from attar.data import draw_bits
from attar.jobs.scaling import START_SECONDS, LabelingCost, scale_labeling
from attar.labeling import LabelingProgress, make_plan, pack_shard
from attar.precision import keep_freed_memory
from attar.records import this_machine
from attar.targets import Dense, StorePlan, TargetWriter
from attar.teachers import Teacher, as_teacher

NAMES = tuple("abcdefghij")
Figures = dict[str, float]
WORKERS = (1, 2, 4)


@dataclass(frozen=True)
class Sizes:
    """How much is labeled; minutes on two cores."""

    turns: int = 3
    units: tuple[int, ...] = (1200, 1200)
    overhead_examples: int = 2**18
    overhead_shard: int = 2**12
    driver_shards: int = 1000
    memory_examples: tuple[int, ...] = (10**4, 10**5, 10**6, 10**7)
    memory_shard: int = 2**15


QUICK = Sizes(1, (8,), 2**9, 2**6, 20, (10**3, 10**4), 2**9)  # only shows that it works


class Rows:
    """Makes a part of a set: the same bytes every time; it can be sent to other processes."""

    def __init__(self, width: int, examples: int, part: int) -> None:
        self.width, self.examples, self.part = width, examples, part

    def __call__(self, number: int) -> TransferSet:
        start = number * self.part
        numbers = torch.arange(start, min(start + self.part, self.examples))
        words = draw_bits(0, 0, numbers, draws=self.width // 8)  # [examples, words]
        return TransferSet(words.view(torch.uint8), class_names=NAMES)


def make_set(width: int, examples: int, part: int) -> StreamedSet:
    sizes = [min(part, examples - start) for start in range(0, examples, part)]
    version = f"{examples} rows of {width} bytes"
    rows = Rows(width, examples, part)
    return StreamedSet(sizes, rows, class_names=NAMES, fingerprint=version)


def make_teacher(width: int, units: Sequence[int]) -> Teacher:
    network = mlp(width, units, len(NAMES), generator=torch.Generator().manual_seed(0))
    return as_teacher(network, classes=len(NAMES))


class Clock:
    """Times the rows between the first shard that was stored and the last: starting is apart."""

    def __init__(self) -> None:
        self.began, self.marks = time.monotonic(), []

    def __call__(self, now: LabelingProgress) -> None:
        self.marks.append((time.monotonic(), now.rows))

    def figures(self) -> Figures:
        return {**rate_of(self.began, self.marks[1:]), "seconds": self.marks[-1][0] - self.began}


def rate_of(began: float, marks: Sequence[tuple[float, int]]) -> Figures:
    """Of times, and the rows that were stored by then; a single shard says only when it started."""
    (first, rows), (last, total) = marks[0], marks[-1]
    rate = {"rows_per_second": (total - rows) / (last - first)} if last > first else {}
    return {**rate, "start_seconds": first - began}


def label_by_hand(
    folder: Path,
    plan: StorePlan,
    teacher: Teacher,
    examples: StreamedSet,
    numbers: range,
    stored: "SimpleQueue[tuple[float, int]]",
) -> None:
    """Be one process of the plain loop."""
    torch.set_num_threads(1)
    keep_freed_memory()
    writer = TargetWriter.join(folder, plan)
    for number in numbers:
        shard = plan.shard(number)
        writer.store(pack_shard(writer, teacher, examples, shard, 256))
        stored.put((time.monotonic(), shard.stop - shard.start))


def plain_loop(
    teacher: Teacher, examples: StreamedSet, folder: Path, workers: int, shard: int
) -> Figures:
    plan = make_plan(teacher, examples, Dense(), (0,), shard)
    writer = TargetWriter(folder, plan)
    context, began = multiprocessing.get_context("spawn"), time.monotonic()
    stored = context.SimpleQueue()
    count = len(plan.shards)
    processes = [
        context.Process(
            target=label_by_hand,
            args=(folder, plan, teacher, examples, range(first, count, workers), stored),
        )
        for first in range(workers)
    ]
    for each in processes:
        each.start()
    marks = sorted(stored.get() for _ in range(count))
    for each in processes:
        each.join()
    writer.finish()
    sums = accumulate(rows for _, rows in marks)
    return rate_of(began, [(at, rows) for (at, _), rows in zip(marks, sums, strict=True)])


def on_ray(
    teacher: Teacher, examples: StreamedSet, folder: Path, chosen: Cluster, shard_examples: int
) -> Figures:
    clock = Clock()
    cluster.label(
        teacher, examples, folder, shard_examples=shard_examples, progress=clock, cluster=chosen
    )
    return clock.figures()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def measure_overhead(sizes: Sizes) -> dict[str, Figures]:
    """Compare both loops in turn, with as many processes; the median of the turns counts."""
    teacher, shard = make_teacher(784, sizes.units), sizes.overhead_shard
    examples = make_set(784, sizes.overhead_examples, shard)
    figures: dict[str, Figures] = {}
    for workers in WORKERS:
        plain, ray = [], []
        with tempfile.TemporaryDirectory() as place, ExitStack() as session:
            for turn in range(sizes.turns):
                one, other = Path(place, f"plain-{turn}"), Path(place, f"ray-{turn}")
                chosen = Cluster(workers=workers, session=session)
                plain.append(plain_loop(teacher, examples, one, workers, shard))
                ray.append(on_ray(teacher, examples, other, chosen, shard))
                assert contents(one) == contents(other)
                print(workers, "workers", plain[-1], ray[-1], flush=True)
        # Turns are neighbors in time: what else the machine does slows both of a turn down.
        ratios = [speed(one) / speed(other) for one, other in zip(plain, ray, strict=True)]
        alone = figures["1"]["ray_rows_per_second"] if figures else median(map(speed, ray))
        figures[str(workers)] = {
            "plain_rows_per_second": median(map(speed, plain)),
            "ray_rows_per_second": median(map(speed, ray)),
            "overhead": median(ratios) - 1,
            "model_rows_per_second": model_rate(sizes, alone, workers),
            "plain_start_seconds": median(each["start_seconds"] for each in plain),
            "ray_start_seconds": median(each["start_seconds"] for each in ray),
        }
    return figures


def model_rate(sizes: Sizes, alone: float, workers: int) -> float:
    """What `attar plan` would say of so many workers, from one; processors are not to be had."""
    cost = LabelingCost(sizes.overhead_examples, 1, 1 / alone, 20, 784, sizes.overhead_shard)
    found = scale_labeling(cost, min(workers, os.cpu_count() or 1))
    return sizes.overhead_examples / (found.seconds - START_SECONDS)


def measure_driver(sizes: Sizes) -> Figures:
    """Label shards of one row: what is left is what the driver, and the disk, do for each."""
    teacher, rows = make_teacher(16, []), make_set(16, sizes.driver_shards, sizes.driver_shards)
    with tempfile.TemporaryDirectory() as place:
        found = on_ray(teacher, rows, Path(place, "store"), Cluster(workers=2), 1)
    print("driver", found, flush=True)
    return {"shards_per_second": speed(found)}


def speed(figures: Figures) -> float:
    return figures["rows_per_second"]


def own_bytes(pid: int | str) -> int:
    """Memory that is a process's own; none if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


@contextmanager
def watching(peaks: Figures) -> Iterator[None]:
    """Note the highest memory of this process and of the labeling ones during the body."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.2):
            driver = own_bytes(os.getpid())
            lines = Path("/proc").glob("[0-9]*/cmdline")
            workers = [own_bytes(each.parent.name) for each in lines if b"MapWorker" in read(each)]
            peaks["driver_bytes"] = max(peaks.get("driver_bytes", 0), driver)
            peaks["worker_bytes"] = max(peaks.get("worker_bytes", 0), *workers, 0)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def measure_memory(sizes: Sizes) -> dict[str, Figures]:
    """Label ever more rows, and note the memory of the driver and of the largest worker."""
    teacher, figures, shard = make_teacher(16, []), {}, sizes.memory_shard
    with ExitStack() as session:
        chosen = Cluster(workers=2, session=session)
        for count in sizes.memory_examples:
            peaks, rows = {}, make_set(16, count, shard)
            with tempfile.TemporaryDirectory() as place, watching(peaks):
                peaks |= on_ray(teacher, rows, Path(place, "store"), chosen, shard)
            print(f"{count:,} examples", peaks, flush=True)
            figures[f"{count}"] = peaks
    last = figures[f"{sizes.memory_examples[-1]}"]  # whose rate has the least noise
    for count in sizes.memory_examples:
        shards = math.ceil(count / shard)
        cost = LabelingCost(count, 1, 2 / speed(last), 20, 16, shard)
        found = scale_labeling(cost, min(2, shards)).seconds - START_SECONDS
        figures[f"{count}"]["model_seconds"] = last["start_seconds"] + found
    return figures


MEASURES = {"overhead": measure_overhead, "driver": measure_driver, "memory": measure_memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=MEASURES)
    parser.add_argument("--quick", action="store_true", help="of hardly any rows, in a minute")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    sizes = QUICK if options.quick else Sizes()
    known = json.loads(options.out.read_text()) if options.out and options.out.exists() else {}
    for name, measure in MEASURES.items():
        if options.only in (None, name):
            known[name] = measure(sizes)
            known |= {"sizes": asdict(sizes), "machine": asdict(this_machine())}
            if options.out:
                options.out.write_text(json.dumps(known, indent=2) + "\n")


if __name__ == "__main__":
    main()
