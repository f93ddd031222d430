"""The losses that `attar reproduce losses` compares, each as one function of one form."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from attar.data import Batch
from attar.losses import (
    correlation_distance,
    decoupled_divergence,
    kl_divergence_with_teacher_logits,
    standardized_kl_divergence,
    transformed_teacher_divergence,
)
from attar.training import LossFn

DKD_TARGET_WEIGHT, DKD_OTHER_WEIGHT = 1.0, 8.0
HARD, HINTON = "hard targets", "Hinton: T² · KL"
SoftLoss = Callable[[Tensor, Tensor, Tensor, float], Tensor]  # logits, teacher's, hard targets, T


def _hinton(logits: Tensor, teacher_logits: Tensor, _: Tensor, temperature: float) -> Tensor:
    kl = kl_divergence_with_teacher_logits(logits, teacher_logits, temperature=temperature)
    return temperature**2 * kl


def _standardized(logits: Tensor, teacher_logits: Tensor, _: Tensor, temperature: float) -> Tensor:
    return standardized_kl_divergence(logits, teacher_logits, temperature=temperature)


def _decoupled(
    logits: Tensor, teacher_logits: Tensor, hard_targets: Tensor, temperature: float
) -> Tensor:
    return decoupled_divergence(
        logits,
        teacher_logits,
        hard_targets,
        temperature=temperature,
        target_weight=DKD_TARGET_WEIGHT,
        other_weight=DKD_OTHER_WEIGHT,
    )


def _correlation(logits: Tensor, teacher_logits: Tensor, _: Tensor, temperature: float) -> Tensor:
    return correlation_distance(
        logits, teacher_logits, temperature=temperature, inter_weight=1.0, intra_weight=1.0
    )


def _transformed(
    logits: Tensor, teacher_logits: Tensor, _: Tensor, temperature: float, *, weighted: bool
) -> Tensor:
    return transformed_teacher_divergence(
        logits, teacher_logits, temperature=temperature, weighted=weighted
    )


SOFT_LOSSES: dict[str, SoftLoss] = {
    HINTON: _hinton,
    "standardized logits": _standardized,
    "DKD": _decoupled,
    "DIST": _correlation,
    "TTM": partial(_transformed, weighted=False),
    "WTTM": partial(_transformed, weighted=True),
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a student learns with."""

    loss: str
    temperature: float
    soft_weight: float


def describe_cohort_loss(members: Sequence[Candidate | None], teacher: str) -> dict[str, Any]:
    """Say what the loss of a cohort depends on: its numbers, and the teacher by its hash."""
    return {
        "function": f"{cohort_loss.__module__}.{cohort_loss.__qualname__}",
        "teacher": teacher,
        "members": [None if each is None else asdict(each) for each in members],
        "DKD": {"target_weight": DKD_TARGET_WEIGHT, "other_weight": DKD_OTHER_WEIGHT},
    }


def cohort_loss(members: Sequence[Candidate | None], teacher_logits: Tensor) -> LossFn:
    """Make the loss of a cohort, each member with its own; None has hard targets alone.

    The teacher's logits are of all training examples in their order; so are a batch's indices.
    """

    def loss_fn(logits: Tensor, batch: Batch) -> Tensor:
        v = teacher_logits[batch.indices]
        wide = batch.hard_targets.expand(len(logits), -1)  # [members, batch]
        total = nn.functional.cross_entropy(logits.transpose(1, 2), wide, reduction="none")
        total = total.mean(dim=1).sum()
        for z, each in zip(logits, members, strict=True):
            if each is not None:
                soft = SOFT_LOSSES[each.loss](z, v, batch.hard_targets, each.temperature)
                total = total + each.soft_weight * soft.mean()
        return total

    return loss_fn
