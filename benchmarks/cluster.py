"""Labeling on Ray beside a plain loop in as many processes, and its memory as examples grow.

    python benchmarks/cluster.py [--only overhead|memory] [--out cluster.json]

Rows are generated on the fly, so that no disk is read. Both loops write to the same disk.
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import torch

from attar import StreamedSet, TransferSet, cluster, mlp
from attar.cluster import Cluster
from attar.data import draw_bits
from attar.jobs.scaling import LabelingCost, scale_labeling
from attar.labeling import LabelingProgress, ask, make_plan
from attar.precision import keep_freed_memory
from attar.targets import Dense, StorePlan, TargetWriter
from attar.teachers import Teacher, as_teacher

NAMES = tuple("abcdefghij")
Figures = dict[str, float]
WORKERS, TURNS = (1, 2, 4), 3
OVERHEAD_EXAMPLES, OVERHEAD_SHARD = 2**15, 2**10
MEMORY_EXAMPLES, MEMORY_SHARD = (10**4, 10**5, 10**6, 10**7), 2**15


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
        (first, rows), (last, total) = self.marks[1], self.marks[-1]
        if first == last:  # a single shard
            return {"start_seconds": 0.0, "seconds": last - self.began}
        return {
            "rows_per_second": (total - rows) / (last - first),
            "start_seconds": first - self.began,
            "seconds": last - self.began,
        }


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
        rows = torch.arange(shard.start, shard.stop).split(256)
        writer.write(shard, (ask(teacher, examples, each, 0) for each in rows))
        stored.put((time.monotonic(), shard.stop - shard.start))


def plain_loop(teacher: Teacher, examples: StreamedSet, folder: Path, workers: int) -> Figures:
    plan = make_plan(teacher, examples, Dense(), (0,), OVERHEAD_SHARD)
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
    rows = sum(rows for _, rows in marks[1:])
    return {
        "rows_per_second": rows / (marks[-1][0] - marks[0][0]),
        "start_seconds": marks[0][0] - began,
    }


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


def measure_overhead() -> dict[str, Figures]:
    """Compare both loops in turn, with as many processes; the quickest turns count."""
    teacher, examples = (
        make_teacher(784, [1200, 1200]),
        make_set(784, OVERHEAD_EXAMPLES, OVERHEAD_SHARD),
    )
    figures = {}
    for workers in WORKERS:
        plain, ray = [], []
        with tempfile.TemporaryDirectory() as place, ExitStack() as session:
            for turn in range(TURNS):
                one, other = Path(place, f"plain-{turn}"), Path(place, f"ray-{turn}")
                chosen = Cluster(workers=workers, session=session)
                plain.append(plain_loop(teacher, examples, one, workers))
                ray.append(on_ray(teacher, examples, other, chosen, OVERHEAD_SHARD))
                assert contents(one) == contents(other)
                print(workers, "workers", plain[-1], ray[-1], flush=True)
        best = max(plain, key=speed), max(ray, key=speed)
        figures[str(workers)] = {
            "plain_rows_per_second": best[0]["rows_per_second"],
            "ray_rows_per_second": best[1]["rows_per_second"],
            "overhead": speed(best[0]) / speed(best[1]) - 1,
            "plain_start_seconds": best[0]["start_seconds"],
            "ray_start_seconds": best[1]["start_seconds"],
        }
    return figures


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


def measure_memory() -> dict[str, Figures]:
    """Label ever more rows, and note the memory of the driver and of the largest worker."""
    teacher, figures = make_teacher(16, []), {}
    with ExitStack() as session:
        chosen = Cluster(workers=2, session=session)
        for count in MEMORY_EXAMPLES:
            peaks, rows = {}, make_set(16, count, MEMORY_SHARD)
            with tempfile.TemporaryDirectory() as place, watching(peaks):
                peaks |= on_ray(teacher, rows, Path(place, "store"), chosen, MEMORY_SHARD)
            print(f"{count:,} examples", peaks, flush=True)
            figures[f"{count}"] = peaks
    return figures


PAPER = {  # a worker is a core at 35 GFLOP/s, or a GPU at 50 TFLOP/s; see docs/scaling.md
    "speech, dense": (700e6, 10, 169e6, 28_000, 4160, 1198),
    "speech, k = 32": (700e6, 10, 169e6, 154, 4160, 65_536),
    "JFT, dense": (100e6, 1, 8.2e9, 30_000, 100_000, 1118),
    "JFT, k = 32": (100e6, 1, 8.2e9, 154, 100_000, 65_536),
}
RATES = {"cores": (35e9, (1000, 10_000)), "GPUs": (50e12, (8, 64))}


def show_paper() -> None:
    """Print the paper's two large cases, as docs/scaling.md has them."""
    for name, (examples, asked, operations, row, read_bytes, shard) in PAPER.items():
        for kind, (rate, counts) in RATES.items():
            cost = LabelingCost(int(examples), asked, operations / rate, row, read_bytes, shard)
            for count in counts:
                found = scale_labeling(cost, count)
                print(
                    f"| {name} | {cost.store_bytes / 1e12:.3g} TB | {cost.shards:,} | "
                    f"{cost.worker_seconds / 3600:,.3g} | {count:,} {kind} | "
                    f"{found.seconds / 3600:,.2g} h | {found.write_rate / 1e6:,.3g} | "
                    f"{found.read_rate / 1e6:,.3g} | {found.bottleneck.partition(':')[0]} |"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("overhead", "memory"))
    parser.add_argument("--paper", action="store_true", help="print the paper's cases; no run")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.paper:
        show_paper()
        return
    known = json.loads(options.out.read_text()) if options.out and options.out.exists() else {}
    for name, measure in (("overhead", measure_overhead), ("memory", measure_memory)):
        if options.only in (None, name):
            known[name] = measure()
            if options.out:
                options.out.write_text(json.dumps(known, indent=2) + "\n")


if __name__ == "__main__":
    main()
