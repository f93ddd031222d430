"""The cost of a model: its weights, size on disk and speed."""

import contextlib
import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
import safetensors.torch
import threadpoolctl
import torch
from torch import nn

from attar.comparison.candidates import Candidate
from attar.comparison_records import Speed
from attar.data import Batch, ExampleSet
from attar.modes import evaluation_mode
from attar.precision import Precision, autocast
from attar.teachers import Ensemble, Teacher

BATCH = 256
_ROUNDS, _CALLS = 20, 10  # latency is measured in rounds of some calls a model, in turn
_MOST_SECONDS, _FEWEST_ROUNDS = 3.0, 3  # for a model and a number of threads

Call = Callable[[], object]


def count_parameters(teacher: Teacher) -> int | None:
    """Return the number of a model's weights; None if unknown."""
    if isinstance(teacher, Ensemble):
        return _total([count_parameters(member) for member in teacher.teachers])
    if isinstance(network := getattr(teacher, "network", None), nn.Module):
        return sum(parameter.numel() for parameter in network.parameters())
    return getattr(teacher, "weights", None)  # of an ONNX file


def measure_size(teacher: Teacher) -> int | None:
    """Return a model's size on disk in bytes; None if unknown.

    This is the size of the safetensors file of a torch module, of the pickle of a classifier with
    the interface of scikit-learn, and of an ONNX file with its external weights.
    """
    if isinstance(teacher, Ensemble):
        return _total([measure_size(member) for member in teacher.teachers])
    if isinstance(network := getattr(teacher, "network", None), nn.Module):
        weights = network.state_dict()
        copies = {name: each.detach().cpu().contiguous().clone() for name, each in weights.items()}
        return len(safetensors.torch.save(copies))
    if (model := getattr(teacher, "model", None)) is not None:
        with contextlib.suppress(Exception):  # not all classifiers can be pickled
            return len(pickle.dumps(model))
        return None
    return getattr(teacher, "size_bytes", None)


def measure_speeds(
    candidates: Sequence[Candidate], test_set: ExampleSet
) -> dict[str, tuple[Speed, ...]]:
    """Measure each model's first network, with one thread and with torch's number of threads.

    The models take turns, so that other load on the machine affects all of them. The first call of
    each turn is not timed. Stored scores have no speed and are left out.

    Returns:
        The speeds by name of the model: with one thread, then with torch's number if it is larger.
    """
    asked = [each for each in candidates if each.networks[0].teacher.reads_inputs]
    before = torch.get_num_threads()
    speeds: dict[str, list[Speed]] = {each.name: [] for each in asked}
    for threads in sorted({1, before}):
        for name, speed in _measure(asked, test_set, threads).items():
            speeds[name].append(speed)
    return {name: tuple(found) for name, found in speeds.items()}


def _measure(
    candidates: Sequence[Candidate], test_set: ExampleSet, threads: int
) -> dict[str, Speed]:
    one = test_set.batch(torch.tensor([0]))
    many = test_set.batch(torch.arange(BATCH) % len(test_set))
    with ExitStack() as stack:
        stack.enter_context(_threads(threads))
        alone, together = (
            {
                each.name: stack.enter_context(_calls(each.networks[0].teacher, batch, threads))
                for each in candidates
            }
            for batch in (one, many)
        )
        latencies = _take_turns(alone, calls=_CALLS)
        durations = _take_turns(together, calls=1)
    return {
        name: Speed(
            threads=threads,
            median_ms=1e3 * float(np.median(latencies[name])),
            p95_ms=1e3 * float(np.quantile(latencies[name], 0.95)),
            examples_per_second=BATCH / float(np.median(durations[name])),
            batch_size=BATCH,
            repeats=len(latencies[name]),
        )
        for name in alone
    }


def _take_turns(calls_of: dict[str, Call], *, calls: int) -> dict[str, list[float]]:
    """Time the calls in rounds, each model in turn; return seconds by name of the model."""
    seconds: dict[str, list[float]] = {name: [] for name in calls_of}
    spent = dict.fromkeys(calls_of, 0.0)
    for turn in range(_ROUNDS):
        for name, call in calls_of.items():
            if turn >= _FEWEST_ROUNDS and spent[name] > _MOST_SECONDS:
                continue
            started = time.perf_counter()
            call()  # untimed: loads the weights into the cache
            for _ in range(calls):
                begin = time.perf_counter()
                call()
                seconds[name].append(time.perf_counter() - begin)
            spent[name] += time.perf_counter() - started
    return seconds


@contextmanager
def _calls(teacher: Teacher, batch: Batch, threads: int) -> Iterator[Call]:
    """Yield the function to time, with as little overhead as possible."""
    if isinstance(teacher, Ensemble):
        with ExitStack() as stack:
            each = [stack.enter_context(_calls(one, batch, threads)) for one in teacher.teachers]
            yield lambda: [call() for call in each]
        return
    if hasattr(teacher, "with_threads"):  # an ONNX file
        teacher = teacher.with_threads(threads)
    network = getattr(teacher, "network", None)
    first = next(network.parameters(), None) if isinstance(network, nn.Module) else None
    if not isinstance(network, nn.Module) or (first is not None and first.device.type != "cpu"):
        yield lambda: teacher.logits(batch)
        return
    precision: Precision = getattr(teacher, "precision", "float32")
    with evaluation_mode(network):

        def call() -> object:
            with torch.inference_mode(), autocast(network, precision):
                return network(batch.inputs)

        yield call


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Set the number of threads of torch and of the BLAS under scikit-learn."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpoolctl.threadpool_limits(count, "blas"):
            yield
    finally:
        torch.set_num_threads(before)


def _total(numbers: Sequence[int | None]) -> int | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None
