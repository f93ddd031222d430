"""How fast attar trains, in fractions and ratios of one run: `python benchmarks/training.py`.

Prints, and with `--out FILE` writes as JSON: the machine's matrix-product peak; the teacher's
training step as a fraction of it, in the number format that `precision="auto"` chooses there, and
what the step's time goes to; a student's epoch on kept soft
targets against one on hard targets; the whole MNIST job against the same job as a textbook loop.
"""

import argparse
import operator
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import torch
from textbook_loop import (
    make_adamw,
    make_loader,
    make_sgd,
    make_student,
    make_teacher,
    train_student_epoch,
    train_teacher_epoch,
)

from attar.data import Batch, Jitter, TransferSet, load_mnist
from attar.models import apply_max_norm
from attar.precision import Precision, cpu_multiplies_bfloat16, keep_freed_memory
from attar.recipes import mnist as recipe
from attar.records import this_machine, write_json
from attar.training import TrainingRun, fit, hard_target_loss

CONFIG = recipe.Config()
EXAMPLES = 60_000


def seconds(action: Callable[[], object], *, repeats: int, warmup: int = 2) -> float:
    """Median wall-clock time of an action."""
    for _ in range(warmup):
        action()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def peak_flops(precision: Precision, size: int = 2048) -> float:
    """Operations a second of a square matrix product."""
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
    return 2 * size**3 / seconds(lambda: a @ b, repeats=15)


def training_flops(units: int, batch_size: int) -> float:
    """Operations of one step: forward, weights' gradients, activations' gradients."""
    first, rest = 784 * units, units * units + units * 10
    return 2 * batch_size * (3 * rest + 2 * first)  # nobody needs the pixels' gradients


class TimedOptimizer:
    """Passes everything on to an optimizer, and sums up the time of its steps."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer, self.seconds = optimizer, 0.0

    def __getattr__(self, name: str) -> object:
        return getattr(self.optimizer, name)

    def step(self) -> None:
        start = time.perf_counter()
        self.optimizer.step()
        self.seconds += time.perf_counter() - start


class TimedBatches:
    """Passes batches on, and sums up the time that they take to make."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self.batches, self.seconds = batches, 0.0

    def __iter__(self) -> Iterator[Batch]:
        iterator = iter(self.batches)
        while True:
            start = time.perf_counter()
            batch = next(iterator, None)
            self.seconds += time.perf_counter() - start
            if batch is None:
                return
            yield batch


def teacher_step(train_set: TransferSet, steps: int) -> dict[str, float]:
    """Time the teacher's step, whole and by parts."""
    stages = recipe.make_stages(CONFIG, seed=0)
    network = stages["teacher"].make_network()
    jittered = train_set.with_views(Jitter(pixels=CONFIG.jitter, seed=0))
    generator = torch.Generator().manual_seed(0)

    def batches(count: int) -> Iterator[Batch]:
        for _ in range(count):
            yield jittered.batch(
                torch.randint(EXAMPLES, (CONFIG.teacher_batch_size,), generator=generator), 1
            )

    optimizer = TimedOptimizer(stages["teacher"].settings.make_optimizer(network.parameters()))
    for _ in fit(network, batches(10), hard_target_loss, optimizer, step_seed=int):
        pass
    timed, optimizer.seconds = TimedBatches(batches(steps)), 0.0
    times, start = [], time.perf_counter()
    for _ in fit(network, timed, hard_target_loss, optimizer, step_seed=int):
        times.append(time.perf_counter() - start)
        start = time.perf_counter()
    step = statistics.median(times)
    mean = statistics.fmean(times)
    parts = {
        "data": timed.seconds / steps / mean,
        "optimizer": optimizer.seconds / steps / mean,
        "max-norm": seconds(lambda: apply_max_norm(network), repeats=50) / step,
    }
    parts["forward and backward"] = 1 - sum(parts.values())
    return {"seconds": step, **parts}


def student_epochs(train_set: TransferSet, pairs: int) -> dict[str, float]:
    """Time a student's epochs on hard targets, and on soft and hard ones, in turn.

    Returns the median seconds of either, and the median ratio of neighbors.
    """
    stages = recipe.make_stages(CONFIG, seed=0)
    soft_loss = recipe.soft_loss(CONFIG, torch.randn(EXAMPLES, 10), hard_weight=CONFIG.hard_weight)
    kinds = {
        "hard": (stages["hard"].settings, hard_target_loss),
        "soft": (stages["both"].settings, soft_loss),
    }
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for pair in range(pairs + 1):
        for name, (settings, loss_fn) in kinds.items():
            one_epoch = replace(settings, epochs=1, learning_rate=1e-3)
            run = TrainingRun(recipe.make_student(CONFIG, pair), train_set, loss_fn, one_epoch)
            start = time.perf_counter()
            for _ in run:
                pass
            if pair:  # the first one warms up
                times[name].append(time.perf_counter() - start)
    ratios = map(operator.truediv, times["soft"], times["hard"])
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {**medians, "ratio": statistics.median(ratios)}


def textbook_epochs(train_set: TransferSet, workers: int, examples: int) -> dict[str, float]:
    """Time the textbook loop's epochs on a part of the examples; return seconds of a whole one."""
    images, labels = train_set.inputs[:examples], train_set.hard_targets[:examples]
    jittered, plain = (
        make_loader(images, labels, batch_size=batch_size, jitter=pixels, workers=workers)
        for pixels, batch_size in (
            (CONFIG.jitter, CONFIG.teacher_batch_size),
            (0, CONFIG.student_batch_size),
        )
    )
    teacher, student = make_teacher(CONFIG.teacher_units), make_student(CONFIG.student_units)
    sgd, adamw = make_sgd(student, 0.01), make_adamw(teacher, 0.001)
    actions: dict[str, Callable[[], None]] = {
        "teacher": lambda: train_teacher_epoch(teacher, jittered, adamw),
        "hard": lambda: train_student_epoch(student, plain, sgd),
        "soft": lambda: train_student_epoch(student, plain, sgd, teacher),
    }
    scale = EXAMPLES / examples
    return {name: scale * seconds(run, repeats=1, warmup=0) for name, run in actions.items()}


def job_seconds(epochs: dict[str, float]) -> float:
    """Put one seed of the job together from its epochs: two students have soft targets."""
    return (
        CONFIG.teacher_epochs * epochs["teacher"]
        + CONFIG.student_epochs * epochs["hard"]
        + 2 * CONFIG.distilled_epochs * epochs["soft"]
    )


def main() -> None:
    """Measure, print, and write if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    out = parser.parse_args().out
    keep_freed_memory()
    train_set = load_mnist().train

    # Without instructions for bfloat16, one of its products takes half a minute: not measured.
    chosen: Precision = "bfloat16" if cpu_multiplies_bfloat16() else "float32"
    float32, before = peak_flops("float32"), peak_flops(chosen)
    step = teacher_step(train_set, steps=200)
    peak = statistics.fmean((before, peak_flops(chosen)))
    fraction = (
        training_flops(CONFIG.teacher_units, CONFIG.teacher_batch_size) / step["seconds"] / peak
    )
    students = student_epochs(train_set, pairs=9)
    textbook = min(
        (textbook_epochs(train_set, workers, examples=20_480) for workers in (0, 2)),
        key=job_seconds,
    )
    steps = -(-EXAMPLES // CONFIG.teacher_batch_size)
    ours = {"teacher": step["seconds"] * steps, "hard": students["hard"], "soft": students["soft"]}
    figures = {
        "peak float32, GFLOP/s": float32 / 1e9,
        f"peak {chosen}, GFLOP/s": peak / 1e9,
        f"teacher's step, fraction of the {chosen} peak": fraction,
        **{
            f"teacher's step, share of {name}": share
            for name, share in step.items()
            if name != "seconds"
        },
        "soft-target epoch / hard-target epoch": students["ratio"],
        **{
            f"textbook / attar, epoch of {name}": textbook[name] / ours[name]
            for name in ("teacher", "hard", "soft")
        },
        "textbook / attar, whole job": job_seconds(textbook) / job_seconds(ours),
    }
    for name, value in figures.items():
        print(f"{name:48} {value:10.3f}")
    if out:
        write_json(
            out,
            {
                "figures": figures,
                "batch_sizes": [CONFIG.teacher_batch_size, CONFIG.student_batch_size],
                "machine": asdict(this_machine()),
            },
        )


if __name__ == "__main__":
    main()
