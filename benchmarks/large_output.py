"""What 15,000 classes cost in training: `python benchmarks/large_output.py`.

Prints, and with `--out FILE` writes as JSON: a training step of the convolutional network on hard,
dense and sparse soft targets, as a multiple of the step on hard targets, in processor time
and in the most memory that its tensors take at once; with the output layer as autograd does it
and through `attar.losses.output_layer_loss`; what the step's time goes to; and what specialists
cost at inference, from `combined_inference.py`. Kinds take turns.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from combined_inference import measure_untrained
from made_logits import Table, encoded, make_logits
from torch import Tensor, nn

from attar.data import Batch, Distortion
from attar.losses import DenseTargets, SparseTargets, distillation_loss, sparse_distillation_loss
from attar.models import conv_net
from attar.precision import keep_freed_memory
from attar.records import this_machine, write_json
from attar.training import LargeOutput, LossFn, fit, hard_target_loss, through_output_layer

CLASSES, SIDE, BATCH = 15_000, 32, 256
SOFT_ONLY = {"temperature": 2.0, "soft_weight": 1.0, "hard_weight": 0.0}


def dense_loss(logits: Tensor, batch: Batch, targets: DenseTargets) -> Tensor:
    """On the teacher's logits of all classes."""
    v = targets.logits[batch.indices]
    return distillation_loss(logits, v, batch.hard_targets, **SOFT_ONLY).mean()


def sparse_loss(logits: Tensor, batch: Batch, targets: SparseTargets) -> Tensor:
    """On its 32 largest logits and the tail; the rows stand in the order of the batch."""
    first = int(batch.indices[0])
    rows = targets.rows(slice(first, first + len(batch.indices)))
    return sparse_distillation_loss(logits, rows, batch.hard_targets, **SOFT_ONLY).mean()


def make_losses() -> dict[str, LossFn]:
    """Make the loss on each kind of target."""
    v = make_logits("peaked", BATCH, CLASSES)
    sparse = encoded(v, k=32)
    return {
        "hard": hard_target_loss,
        "dense": lambda logits, batch: dense_loss(logits, batch, DenseTargets(v)),
        "sparse": lambda logits, batch: sparse_loss(logits, batch, sparse),
    }


def make_step(loss_fn: LossFn, *, large: bool) -> Callable[[], None]:
    """Make an action that does one step of training, always on the same images."""
    generator = torch.Generator().manual_seed(0)
    network = conv_net(SIDE, CLASSES, generator=generator)
    images = torch.rand(BATCH, SIDE, SIDE, generator=generator)
    targets = torch.randint(CLASSES, (BATCH,), generator=generator)
    batch = Batch(images, targets, torch.arange(BATCH))
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    trained: nn.Module = LargeOutput(network.trunk, network.output) if large else network
    loss_fn = through_output_layer(network.output, loss_fn) if large else loss_fn

    def step() -> None:
        for _ in fit(trained, [batch], loss_fn, optimizer, step_seed=int):
            pass

    return step


def seconds_in_turn(actions: dict[str, Callable[[], object]], turns: int) -> dict[str, list[float]]:
    """Processor time of each action, in every turn."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(turns + 1):
        for name, action in actions.items():
            start = time.process_time()
            action()
            if turn:  # the first warms up
                times[name].append(time.process_time() - start)
    return times


def peak_bytes(action: Callable[[], object]) -> int:
    """Return the most memory that tensors made by an action take at once."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        action()
    now = peak = 0
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return peak


def steps(turns: int) -> Table:
    """Compare time and memory of the steps with those of the plain one on hard targets."""
    actions = {
        f"{kind}, {'one matrix' if large else 'plain'}": make_step(loss_fn, large=large)
        for large in (False, True)
        for kind, loss_fn in make_losses().items()
    }
    times = seconds_in_turn(actions, turns)
    memory = {name: peak_bytes(action) for name, action in actions.items()}
    table: Table = {}
    of_hard = next(iter(actions))
    for name, taken in times.items():
        ratios = [a / b for a, b in zip(taken, times[of_hard], strict=True)]
        table[name] = {
            "milliseconds": 1000 * statistics.median(taken),
            "time / hard": statistics.median(ratios),
            "matrices": memory[name] / (BATCH * CLASSES * 4),
            "memory / hard": memory[name] / memory[of_hard],
        }
    return table


def shares(turns: int) -> dict[str, float]:
    """Tell what a step on hard targets spends its time on, in milliseconds of processor time."""
    generator = torch.Generator().manual_seed(0)
    network = conv_net(SIDE, CLASSES, generator=generator)
    pixels = torch.randint(256, (BATCH, SIDE, SIDE), generator=generator).to(torch.uint8)
    images, ids = pixels.float() / 255, torch.arange(BATCH)
    features = network.trunk(images).detach().requires_grad_()
    gradient, weight = torch.randn(BATCH, CLASSES, generator=generator), network.output.weight
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    nn.functional.cross_entropy(network(images), ids).backward()

    def trunk() -> None:
        answered = network.trunk(images)
        answered.backward(torch.ones_like(answered))

    def output() -> None:
        nn.functional.cross_entropy(network.output(features), ids).backward()

    def products() -> None:
        with torch.no_grad():
            _ = features @ weight.t(), gradient @ weight, gradient.t() @ features

    actions: dict[str, Callable[[], object]] = {
        "trunk, forward and backward": trunk,
        "output layer and loss": output,
        "of these, its three products": products,
        "optimizer": optimizer.step,
        "views": lambda: Distortion()(pixels, ids, 1),
    }
    times = seconds_in_turn(actions, turns)
    return {name: 1000 * statistics.median(taken) for name, taken in times.items()}


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--turns", type=int, default=12)
    arguments = parser.parse_args()
    keep_freed_memory()
    results = {
        "steps": steps(arguments.turns),
        "shares, ms": shares(arguments.turns),
        "combined inference": measure_untrained(arguments.turns),
    }
    for name, figures in results["steps"].items():
        print(f"{name:20}", ", ".join(f"{key} {value:.3g}" for key, value in figures.items()))
    for name, milliseconds in results["shares, ms"].items():
        print(f"{name:30} {milliseconds:.1f} ms")
    for name, value in results["combined inference"].items():
        print(f"{name:60} {value:.3g}")
    if arguments.out:
        write_json(arguments.out, results | {"machine": asdict(this_machine())})


if __name__ == "__main__":
    main()
