"""What training networks together gains: `python benchmarks/cohorts.py`.

Prints, and with `--out FILE` writes as JSON: students of 30 units, one for each temperature, as a
cohort against one after another, by attar's own loop and by a textbook loop (a `DataLoader`, and
the teacher at every step); networks of 800 units as a cohort against one after another, and as a
fraction of the machine's matrix-product peak. Kinds take turns, so that all see the same machine.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from textbook_loop import make_adamw, make_loader, make_student, make_teacher, train_student_epoch
from torch import Tensor, nn

from attar.cohorts import Cohort
from attar.data import Batch, TransferSet, load_mnist
from attar.losses import MemberWeights, distillation_loss, member_distillation_loss
from attar.models import mlp
from attar.precision import cpu_multiplies_bfloat16, keep_freed_memory
from attar.records import this_machine, write_json
from attar.training import LossFn, TrainingRun, TrainingSettings

TEMPERATURES = (1.0, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 20.0, 30.0)
SMALL, LARGE, LARGE_MEMBERS = 30, 800, 10
SMALL_BATCH, LARGE_BATCH = 128, 512
SMALL_EXAMPLES, LARGE_EXAMPLES = 6_400, 2_560  # of an epoch, here
TEACHER_UNITS = 1200
HARD_WEIGHT = 0.1


def make_network(units: int, seed: int) -> nn.Sequential:
    """Make one network, untrained."""
    return mlp(784, [units] * 2, 10, generator=torch.Generator().manual_seed(seed))


def make_members(count: int) -> list[MemberWeights]:
    """Give each member its temperature."""
    temperatures = itertools.islice(itertools.cycle(TEMPERATURES), count)
    return [
        MemberWeights(temperature=each, soft_weight=1.0, hard_weight=HARD_WEIGHT)
        for each in temperatures
    ]


def cohort_loss(teacher_logits: Tensor, members: list[MemberWeights]) -> LossFn:
    """Make the loss of all members."""

    def loss_fn(logits: Tensor, batch: Batch) -> Tensor:
        soft = teacher_logits[batch.indices]
        losses = member_distillation_loss(logits, soft, batch.hard_targets, members)
        return losses.mean(dim=1).sum()

    return loss_fn


def alone_loss(teacher_logits: Tensor, member: MemberWeights) -> LossFn:
    """Make the loss of one member."""

    def loss_fn(logits: Tensor, batch: Batch) -> Tensor:
        soft = teacher_logits[batch.indices]
        return distillation_loss(logits, soft, batch.hard_targets, **asdict(member)).mean()

    return loss_fn


def epoch(network: nn.Module, data: TransferSet, loss_fn: LossFn, batch_size: int) -> None:
    """Train for one epoch by attar's loop, as recipes do."""
    settings = TrainingSettings(
        epochs=1, batch_size=batch_size, learning_rate=1e-3, seed=0, optimizer="adamw"
    )
    for _ in TrainingRun(network, data, loss_fn, settings):
        pass


def make_actions(units: int, count: int, data: TransferSet, batch_size: int) -> dict:
    """Make the two ways to train `count` networks for one epoch."""
    teacher_logits = 5 * torch.randn(len(data), 10, generator=torch.Generator().manual_seed(0))
    networks = [make_network(units, seed) for seed in range(count)]
    members, cohort = make_members(count), Cohort(networks)

    def one_after_another() -> None:
        for network, member in zip(networks, members, strict=True):
            epoch(network, data, alone_loss(teacher_logits, member), batch_size)

    return {
        "one after another": one_after_another,
        "cohort": lambda: epoch(cohort, data, cohort_loss(teacher_logits, members), batch_size),
    }


def textbook_epoch(data: TransferSet, workers: int) -> Callable[[], None]:
    """Make the textbook loop's epoch of one student."""
    images, labels = data.inputs, data.hard_targets
    loader = make_loader(images, labels, batch_size=SMALL_BATCH, jitter=0, workers=workers)
    teacher, student = make_teacher(TEACHER_UNITS), make_student(SMALL)
    optimizer = make_adamw(student, 1e-3)
    return lambda: train_student_epoch(student, loader, optimizer, teacher)


def take_turns(actions: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Run each action in turn; return median seconds. A first round warms up."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(rounds + 1):
        for name, action in actions.items():
            start = time.perf_counter()
            action()
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def training_flops(units: int) -> float:
    """Operations of one network and example: forward, weights' and activations' gradients."""
    first, rest = 784 * units, units * units + units * 10
    return 2.0 * (3 * rest + 2 * first)  # nobody needs the pixels' gradients


def main() -> None:
    """Measure, print, and write if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    keep_freed_memory()
    everything = load_mnist().train
    few, fewer = (
        everything.subset(torch.arange(count)) for count in (SMALL_EXAMPLES, LARGE_EXAMPLES)
    )
    small = make_actions(SMALL, len(TEMPERATURES), few, SMALL_BATCH)
    small |= {f"textbook, {n} workers": textbook_epoch(few, n) for n in (0, 2)}
    seconds = take_turns(small, options.rounds)
    textbook = min(seconds[f"textbook, {n} workers"] for n in (0, 2)) * len(TEMPERATURES)

    dtype = torch.bfloat16 if cpu_multiplies_bfloat16() else torch.float32
    a, b = (torch.randn(2048, 2048).to(dtype) for _ in range(2))
    large = make_actions(LARGE, LARGE_MEMBERS, fewer, LARGE_BATCH)
    large["peak"] = lambda: [a @ b for _ in range(20)]
    large_seconds = take_turns(large, options.rounds)
    peak = 20 * 2 * 2048**3 / large_seconds["peak"]
    flops = LARGE_MEMBERS * LARGE_EXAMPLES * training_flops(LARGE)
    figures = {
        "11 students of 30 units: one after another / cohort": seconds["one after another"]
        / seconds["cohort"],
        "11 students of 30 units: textbook / cohort": textbook / seconds["cohort"],
        "10 networks of 800 units: one after another / cohort": large_seconds["one after another"]
        / large_seconds["cohort"],
        f"peak {dtype}, GFLOP/s": peak / 1e9,
        "10 networks of 800 units: cohort, fraction of the peak": flops
        / large_seconds["cohort"]
        / peak,
        "10 networks of 800 units: one after another, fraction of the peak": flops
        / large_seconds["one after another"]
        / peak,
    }
    for name, value in figures.items():
        print(f"{name:68} {value:10.3f}")
    if options.out:
        content = {"figures": figures, "batch_sizes": [SMALL_BATCH, LARGE_BATCH]}
        write_json(options.out, content | {"machine": asdict(this_machine())})


if __name__ == "__main__":
    main()
