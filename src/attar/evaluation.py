"""Measure a network on a labeled set."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from attar.answers import find_logits
from attar.data import ExampleSet
from attar.errors import DataError, ShapeError
from attar.metrics import is_error, negative_log_likelihood
from attar.modes import evaluation_mode
from attar.precision import Precision, autocast
from attar.teachers.hugging_face import as_network

_BATCH = 1000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Errors, accuracy and NLL of a network on a labeled set."""

    examples: int
    errors: int
    accuracy: float  # a fraction
    nll: float  # mean negative log-likelihood of the true class, nats


def compute_logits(
    network: nn.Module,
    transfer_set: ExampleSet,
    *,
    view: int = 0,
    precision: Precision = "float32",
) -> Float[Tensor, "*members examples classes"]:
    """Return the logits of a network, in evaluation mode, for all examples of a set, in order.

    Args:
        network: Maps inputs `[batch, ...]` to logits `[batch, classes]`, or to an output in which
            `attar.answers.find_logits` finds them; a cohort to `[members, batch, classes]`. The
            modes of its layers are not changed.
        transfer_set: The examples.
        view: Number of the view; 0 is the plain example.
        precision: Precision of matrix products; logits are at least float32.

    Returns:
        Logits, shape `[examples, classes]`, or `[members, examples, classes]`.
    """
    parts = map_logits(network, transfer_set, lambda logits, _: logits, view, precision)
    return torch.cat(parts, dim=-2)


def map_logits(
    network: nn.Module,
    transfer_set: ExampleSet,
    function: Callable[[Tensor, Tensor], T],
    view: int = 0,
    precision: Precision = "float32",
) -> list[T]:
    """Apply a function to the logits of each batch, without storing the logits of all examples.

    Args:
        network: As for `compute_logits`.
        transfer_set: The examples.
        function: Logits `[*members, batch, classes]` and indices `[batch]` -> anything.
        view: Number of the view; 0 is the plain example.
        precision: Precision of matrix products.
    """
    results = []
    first, name = next(network.parameters(), None), f"the network {type(network).__name__}"
    network = as_network(network, transfer_set.class_names)
    with evaluation_mode(network), torch.inference_mode(), autocast(network, precision):
        for indices in torch.arange(len(transfer_set)).split(_BATCH):
            batch = transfer_set.batch(indices, view)
            batch = batch if first is None else batch.to(first.device)
            logits = find_logits(network(batch.inputs), name)
            logits = logits if logits.dtype == torch.float64 else logits.float()
            results.append(function(logits, indices))
    return results


def evaluate(
    network: nn.Module, test_set: ExampleSet, *, precision: Precision = "float32"
) -> Evaluation:
    """Measure the network on the plain examples of a labeled set.

    Raises:
        DataError: If an example has no hard target, or its class is not in the network.
    """
    check_labeled(test_set)
    hard_targets = test_set.hard_targets.cpu()

    def measure(logits: Tensor, indices: Tensor) -> Tensor:
        return _errors_and_nll(logits.cpu(), hard_targets[indices])

    return _summarise(torch.cat(map_logits(network, test_set, measure, precision=precision)))


def evaluate_members(
    cohort: nn.Module, test_set: ExampleSet, *, precision: Precision = "float32"
) -> tuple[Evaluation, ...]:
    """Measure each member of a cohort, as `evaluate` does.

    Raises:
        DataError: If an example has no hard target, or its class is not in the network.
    """
    check_labeled(test_set)
    hard_targets = test_set.hard_targets.cpu()

    def measure(logits: Tensor, indices: Tensor) -> Tensor:  # [members, batch, 2]
        return torch.stack([_errors_and_nll(each, hard_targets[indices]) for each in logits.cpu()])

    measured = torch.cat(map_logits(cohort, test_set, measure, precision=precision), dim=1)
    return tuple(_summarise(each) for each in measured)


def measure_logits(
    logits: Float[Tensor, "examples classes"], hard_targets: Int64[Tensor, " examples"]
) -> Evaluation:
    """Measure logits against the true classes.

    Raises:
        DataError: If a hard target is out of range of the logits.
        ShapeError: If the logits are from several networks.
    """
    return _summarise(_errors_and_nll(logits, hard_targets))


def _errors_and_nll(logits: Tensor, hard_targets: Tensor) -> Tensor:
    """Return error (0 or 1) and -log q of the true class per example, `[examples, 2]`."""
    if logits.ndim != 2:
        found = f"expected logits [examples, classes], got {list(logits.shape)}"
        raise ShapeError(f"{found}; try attar.evaluate_members for a cohort")
    classes, largest = logits.shape[1], int(hard_targets.max())
    if largest >= classes:
        raise DataError(
            f"expected hard targets in 0..{classes - 1}, the range of the logits, got {largest}"
        )
    nll = negative_log_likelihood(logits, hard_targets)
    return torch.stack([is_error(logits, hard_targets).double(), nll], dim=1)


def _summarise(measured: Tensor) -> Evaluation:
    errors, examples = int(measured[:, 0].sum()), len(measured)
    return Evaluation(
        examples=examples,
        errors=errors,
        accuracy=1 - errors / examples,
        nll=float(measured[:, 1].mean()),
    )


def check_labeled(test_set: ExampleSet) -> None:
    """Raise `DataError` unless every example has a hard target."""
    hard_targets = test_set.hard_targets
    if (hard_targets < 0).any():
        first = int((hard_targets < 0).nonzero()[0])
        raise DataError(
            f"expected a hard target for every test example, but example {first} has none"
        )
