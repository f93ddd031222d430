"""What the soft-target store costs, and what it gains: `python benchmarks/targets.py`.

Prints, and with `--out FILE` writes as JSON: the largest errors of the tail's probability; time and
memory of the sparse loss against the dense one; how fast random batches are read, and the bytes of
an example; gradients of the sparse losses against the dense one's. `--only NAME` runs parts of it.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from attar.losses import (
    SoftTargetBatch,
    interpolate_tail,
    soft_cross_entropy_with_teacher_logits,
    sparse_soft_cross_entropy,
    to_probabilities,
)
from attar.precision import keep_freed_memory
from attar.records import this_machine, write_json
from attar.targets import Sparse, StorePlan, TargetWriter, inspect
from attar.targets.encoding import decode, encode

TEMPERATURES = (1.0, 2.0, 5.0, 10.0, 20.0)
Table = dict[str, dict[str, float]]


def make_logits(kind: str, rows: int, classes: int, seed: int = 0) -> Tensor:
    """Make a teacher's logits of one kind."""
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(rows, classes, generator=generator)
    first = min(64, classes // 2)
    if kind == "peaked":  # one class 15 above a spread of 2
        v = 2 * v
        v[:, 0] += 15
    elif kind == "Zipf":  # p of the r-th class about r^-1.5
        v = 0.3 * v - 1.5 * torch.arange(1, classes + 1).log()
    elif kind == "group":  # 64 confusable classes, 25 above the others
        v[:, :first] += 25
    elif kind == "wide":
        v = 6 * v
    else:
        assert kind == "flat"
    order = torch.rand(rows, classes, generator=generator).argsort(-1)
    return v.gather(-1, order)


def encoded(v: Tensor, **options: Any) -> SoftTargetBatch:  # noqa: ANN401
    """Encode and decode, as a store does."""
    encoding = Sparse(**options)
    return decode(encode(v, encoding, np.random.default_rng(0)), encoding, v.shape[-1])


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


def gradients(rows: int = 8, classes: int = 15_000) -> Table:
    """Compare gradients by the student's logits with the dense loss's: mean cosine, and the loss.

    The student is the teacher with noise of a third, or one that knows nothing yet. "batch" is the
    cosine of gradients summed over 512 draws of the same example: what averaging leaves.
    """
    table: Table = {}
    for kind in ("peaked", "Zipf", "flat"):
        v = make_logits(kind, rows, classes)
        noise = make_logits("flat", rows, classes, seed=1)
        for stage, z in (("untrained", 0.1 * noise), ("trained", v + noise / 3)):
            for k in (8, 32, 128):
                kept = {"tail": encoded(v, k=k), "draws": encoded(v, k=k // 2, draws=k // 2)}
                row = table[f"{kind}, {stage}, k = {k}"] = {}
                for temperature in TEMPERATURES:
                    dense, loss = gradient(
                        soft_cross_entropy_with_teacher_logits, z, v, temperature
                    )
                    for name, targets in kept.items():
                        got, value = gradient(sparse_soft_cross_entropy, z, targets, temperature)
                        cosine = cosine_similarity(got, dense, dim=-1).mean().item()
                        row[f"{name} T={temperature:g}"] = cosine
                        row[f"{name} loss T={temperature:g}"] = (value / loss - 1).mean().item()
    return table


def averaged_draws(classes: int = 15_000, repeats: int = 512) -> Table:
    """Average the gradients of many draws of one example, at a trained student."""
    table: Table = {}
    for kind in ("peaked", "Zipf"):
        v, noise = make_logits(kind, 1, classes), make_logits("flat", 1, classes, seed=1)
        z = v + noise / 3
        for k in (32, 128):
            encoding = Sparse(k=k // 2, draws=k // 2, draw_temperature=2.0)
            generator, row = np.random.default_rng(0), {}
            every = [
                decode(encode(v, encoding, generator), encoding, classes) for _ in range(repeats)
            ]
            for temperature in (1.0, 2.0, 5.0):
                dense, _ = gradient(soft_cross_entropy_with_teacher_logits, z, v, temperature)
                mean = torch.zeros_like(dense)
                for targets in every:
                    mean += gradient(sparse_soft_cross_entropy, z, targets, temperature)[0]
                row[f"T={temperature:g}"] = cosine_similarity(mean, dense, dim=-1).item()
            table[f"{kind}, k = {k}, mean of {repeats}"] = row
    return table


def gradient(
    loss_fn: Callable[..., Tensor], z: Tensor, *arguments: object
) -> tuple[Tensor, Tensor]:
    """Return the gradient by the student's logits, and the loss."""
    *given, temperature = arguments
    z = z.clone().requires_grad_()
    loss = loss_fn(z, *given, temperature=temperature)
    loss.sum().backward()
    return z.grad, loss.detach()


def read_rate(examples: int, classes: int = 15_000, batch: int = 256) -> dict[str, float]:
    """Read random batches from the page cache."""
    names = tuple(str(index) for index in range(classes))
    plan = StorePlan(examples, names, Sparse(k=32), data="", teacher="")
    v = make_logits("peaked", 512, classes)
    once = encode(v, plan.encoding, np.random.default_rng(0))
    with tempfile.TemporaryDirectory() as folder:
        writer = TargetWriter(Path(folder), plan)
        # The same 512 rows again and again: reading does not care, and labeling would take long.
        writer._encode = lambda shard, _: (
            {
                name: np.resize(c, (shard.stop - shard.start, c.shape[1]))
                for name, c in once.items()
            },
            v[:1],
        )
        for shard in writer.missing():
            writer.write(shard, [])
        targets = writer.finish()
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


def loss_costs(rows: int = 256, classes: int = 15_000, pairs: int = 15) -> dict[str, float]:
    """Time dense and sparse loss in turn, forward and backward, and measure their memory."""
    v = make_logits("peaked", rows, classes)
    targets, z = encoded(v, k=32), make_logits("flat", rows, classes, seed=1)
    teacher = v.clone()
    results = {}
    actions = {
        "dense": (soft_cross_entropy_with_teacher_logits, teacher),
        "sparse": (sparse_soft_cross_entropy, targets),
    }
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(pairs):
        for name, (loss_fn, given) in actions.items():
            start = time.process_time()
            gradient_of(loss_fn, z, given)
            times[name].append(time.process_time() - start)
    ratios = [d / s for d, s in zip(times["dense"], times["sparse"], strict=True)]
    results["dense time / sparse time"] = statistics.median(ratios)
    peaks = {name: peak_bytes(fn, z, given) for name, (fn, given) in actions.items()}
    matrix = rows * classes * 4
    peaks["dense"] += matrix  # the teacher's logits, which only the dense loss needs
    results |= {f"{name} memory, matrices": peak / matrix for name, peak in peaks.items()}
    results["dense memory / sparse memory"] = peaks["dense"] / peaks["sparse"]
    (dense, _), (sparse, _) = (gradient(fn, z, given, 1.0) for fn, given in actions.values())
    cosines = cosine_similarity(dense, sparse, -1)
    results["cosine of the gradients, T = 1"] = cosines.mean().item()
    results["the lowest of them"] = cosines.min().item()
    return results


def gradient_of(loss_fn: Callable[..., Tensor], z: Tensor, given: object) -> None:
    """Run forward and backward at T = 2."""
    loss_fn(z.detach().requires_grad_(), given, temperature=2.0).mean().backward()


def peak_bytes(loss_fn: Callable[..., Tensor], z: Tensor, given: object) -> int:
    """Return the most memory that tensors made by a loss take at once, gradient included."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        gradient_of(loss_fn, z, given)
    now = peak = 0
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return peak


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
    parser.add_argument("--only", nargs="+", help="tail, gradients, draws, read, loss")
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    parts: dict[str, Callable[[], dict]] = {
        "tail": tail_errors,
        "loss": loss_costs,
        "read": lambda: read_rate(options.examples),
        "gradients": gradients,
        "draws": averaged_draws,
    }
    figures = {}
    for name, run in parts.items():
        if options.only is None or name in options.only:
            figures[name] = run()
            show(name, figures[name])
    if options.out:
        write_json(options.out, figures | {"machine": this_machine()})


if __name__ == "__main__":
    main()
