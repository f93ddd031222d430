"""What the soft-target store costs, and what it gains: `python benchmarks/targets.py`.

Prints, and with `--out FILE` writes as JSON: the largest errors of the tail's probability; time and
memory of the sparse loss against the dense one; how fast random batches are read, and the bytes of
an example; what comparing checksums adds to a first pass over a store; how busy labeling keeps a
teacher; gradients of the sparse losses against the dense one's. `--only NAME` runs parts of it.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from labeling import labeling_costs
from made_logits import Table, encoded, make_logits
from sparse_losses import averaged_draws, ceilings, gradients, loss_costs

from attar import TransferSet, distill, mlp
from attar.losses import interpolate_tail, to_probabilities
from attar.precision import keep_freed_memory
from attar.records import this_machine, write_json
from attar.targets import Dense, SoftTargets, Sparse, StorePlan, TargetWriter, inspect
from attar.targets.encoding import encode


def tail_errors(rows: int = 16) -> Table:
    """Find the largest errors of the tail's probability over T = 1, 1.25 ... 20, in percent."""
    table: Table = {}
    temperatures = np.arange(1, 20.01, 0.25)
    for classes, k in ((10, 4), (1000, 32), (14_000, 32), (15_000, 32)):
        for kind in ("peaked", "Zipf", "flat", "wide", "group"):
            v = make_logits(kind, rows, classes)
            targets = encoded(v, k=k)
            largest = {"probability": 0.0, "at T": 0.0, "relative": 0.0, "at T = 2": 0.0}
            v = (v - v.amax(-1, keepdim=True)).double()
            top = v.gather(-1, targets.indices)
            rest = v.scatter(-1, targets.indices, -torch.inf)
            for temperature in temperatures.tolist():
                tail = (rest / temperature).logsumexp(-1)
                p = torch.sigmoid(tail - (top / temperature).logsumexp(-1))
                got = to_probabilities(targets, temperature=temperature).tail
                relative = interpolate_tail(targets, temperature=temperature) - tail
                error, off = (100 * x.abs().max().item() for x in (got - p, relative.expm1()))
                if error > largest["probability"]:
                    largest |= {"probability": error, "at T": temperature}
                largest["relative"] = max(largest["relative"], off)
                if temperature == 2:
                    largest["at T = 2"] = error
            table[f"{classes} classes, k = {k}, {kind}"] = largest
    return table


def make_store(folder: str, plan: StorePlan, rows: int = 512) -> SoftTargets:
    """Fill a store with the same rows again and again: reading does not care, labeling is slow."""
    v = make_logits("peaked", rows, plan.classes)
    once = encode(v, plan.encoding, np.random.default_rng(0))
    writer = TargetWriter(Path(folder), plan)
    writer._encode = lambda shard, _: (
        {name: np.resize(c, (shard.stop - shard.start, c.shape[1])) for name, c in once.items()},
        v[:1],
    )
    for shard in writer.missing():
        writer.write(shard, [])
    return writer.finish()


def read_rate(examples: int, classes: int = 15_000, batch: int = 256) -> dict[str, float]:
    """Read random batches from the page cache."""
    names = tuple(str(index) for index in range(classes))
    plan = StorePlan(examples, names, Sparse(k=32), data="", teacher="")
    with tempfile.TemporaryDirectory() as folder:
        targets = make_store(folder, plan)
        targets.verify()  # reads every byte, so that all of it is in the page cache
        generator = torch.Generator().manual_seed(0)
        batches = [torch.randint(examples, (batch,), generator=generator) for _ in range(500)]
        for indices in batches[:50]:
            targets.batch(indices)
        times = []
        for indices in batches:
            start, busy = time.perf_counter(), time.process_time()
            targets.batch(indices)
            times.append((time.perf_counter() - start, time.process_time() - busy))
        wall, busy = (sorted(column) for column in zip(*times, strict=True))
        summary = inspect(targets)
    return {
        "examples": examples,
        "shards": summary.shards,
        "bytes per example": summary.bytes_per_example,
        "examples/s, median batch": batch / statistics.median(wall),
        "examples/s of processor time": batch * len(busy) / sum(busy),
        "examples/s, best tenth": batch / wall[len(wall) // 10],
    }


def checking_costs(
    examples: int = 100_000, classes: int = 1000, batch: int = 256, repeats: int = 5
) -> dict[str, float]:
    """Open a dense store of 200 MB and read it once, with and without comparing checksums.

    Beside it, one epoch of two students: the paper's, 2 × 800 units on 784 inputs, and a small one
    of 64 units, of which the soft targets are most of the work. All is processor time, the median
    of several turns; the store is in the page cache. It is checked once, whatever the epochs.
    """
    transfer_set = TransferSet(torch.zeros(examples, 784), classes=classes)
    plan = StorePlan(
        examples, transfer_set.class_names, Dense(), transfer_set.fingerprint(), teacher=""
    )
    order = torch.randperm(examples, generator=torch.Generator().manual_seed(0)).split(batch)
    taken: dict[str, list[float]] = {"checked": [], "unchecked": []}
    with tempfile.TemporaryDirectory() as folder:
        make_store(folder, plan).verify()
        for _ in range(repeats):
            for kind in ("checked", "unchecked"):
                start = time.process_time()
                targets = SoftTargets.open(folder)
                if kind == "unchecked":
                    targets._checked.update(range(plan.shard_count))
                for indices in order:
                    targets.batch(indices)
                taken[kind].append(time.process_time() - start)
        weights = {"temperature": 4.0, "soft_weight": 1.0, "hard_weight": 0.0}
        for name, hidden in (("2 × 800", [800, 800]), ("1 × 64", [64])):
            student = mlp(784, hidden, classes, generator=torch.Generator().manual_seed(0))
            start = time.process_time()
            distill(student, transfer_set, targets, epochs=1, batch_size=batch, **weights)
            taken[name] = [time.process_time() - start]
        total = sum(entry.bytes for entry in targets.entries)
    seconds = {kind: statistics.median(times) for kind, times in taken.items()}
    check = seconds["checked"] - seconds["unchecked"]
    return {
        "bytes": total,
        "shards": plan.shard_count,
        "check_ms_per_gb": 1000 * check / (total / 1e9),
        "open and read once, checked / unchecked": seconds["checked"] / seconds["unchecked"],
        "check / an epoch of 2 × 800 units": check / seconds["2 × 800"],
        "check / an epoch of 1 × 64 units": check / seconds["1 × 64"],
    }


def show(title: str, table: dict) -> None:
    """Print a table."""
    print(f"\n{title}")
    for name, value in table.items():
        if isinstance(value, dict):
            text = "  ".join(f"{key} {number:.4g}" for key, number in value.items())
            print(f"  {name}: {text}")
        else:
            print(f"  {name}: {value:,.6g}")


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--examples", type=int, default=1_000_000, help="of the store to read")
    parser.add_argument("--only", nargs="+", help="tail, loss, read, check, label, ...")
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    parts: dict[str, Callable[[], dict]] = {
        "tail": tail_errors,
        "loss": loss_costs,
        "read": lambda: read_rate(options.examples),
        "check": checking_costs,
        "label": labeling_costs,
        "ceilings": ceilings,
        "gradients": gradients,
        "draws": averaged_draws,
    }
    figures = {}
    for name, run in parts.items():
        if options.only is None or name in options.only:
            figures[name] = run()
            show(name, figures[name])
    if options.out:
        write_json(options.out, figures | {"machine": asdict(this_machine())})


if __name__ == "__main__":
    main()
