"""What the examples share: choosing a setting, and a fair look at what came out."""

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

import attar

Setting = TypeVar("Setting")


@dataclass(frozen=True)
class Accuracy:
    """Test accuracy over several seeds, as a fraction."""

    mean: float
    spread: float = 0.0  # standard deviation between seeds

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.spread:.3f}" if self.spread else f"{self.mean:.3f}"


def choose(
    settings: Iterable[Setting],
    make: Callable[[Setting, int], nn.Module],
    validation: attar.TransferSet,
) -> Setting:
    """Return the setting that gives the best student on validation examples, the first of equals.

    `make` takes a setting and a seed, and gives a trained student.
    """
    return max(settings, key=lambda each: attar.evaluate(make(each, 0), validation).accuracy)


def measure(
    make: Callable[[int], nn.Module], test: attar.TransferSet, seeds: int
) -> tuple[Accuracy, nn.Module]:
    """Train a student for each of several seeds, and test it; return the last one as well."""
    students = [make(seed) for seed in range(1, seeds + 1)]
    found = [attar.evaluate(student, test).accuracy for student in students]
    spread = statistics.stdev(found) if seeds > 1 else 0.0
    return Accuracy(statistics.mean(found), spread), students[-1]


def count_weights(network: nn.Module) -> int:
    """Count the parameters of a network."""
    return sum(parameter.numel() for parameter in network.parameters())


def time_in_turn(functions: dict[str, Callable[[], object]], repeats: int = 30) -> dict[str, float]:
    """Return the median milliseconds of each function on one thread.

    They are called in turn, so that what else the machine does slows all of them alike.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for _ in range(repeats + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            with torch.inference_mode():
                function()
            times[name].append(time.perf_counter() - start)
    torch.set_num_threads(threads)
    return {name: 1000 * statistics.median(found[1:]) for name, found in times.items()}
