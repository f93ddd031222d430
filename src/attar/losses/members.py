"""The distillation loss of many students at once, each with its own temperature and weights."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from attar.errors import AttarError, ShapeError, check_not_negative, check_positive
from attar.losses.checks import at_least_float32, check_scores, hard_cross_entropy
from attar.losses.dense import expectation


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberWeights:
    """What one member of a cohort learns with, as `distillation_loss` has it.

    Raises:
        AttarError: If T <= 0, a weight is negative or both are zero.
    """

    temperature: float  # of the soft term, > 0
    soft_weight: float  # factor of T² times the soft cross-entropy, >= 0
    hard_weight: float  # factor of the hard cross-entropy, >= 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_positive(temperature=self.temperature)
        check_not_negative(soft_weight=self.soft_weight, hard_weight=self.hard_weight)
        if self.soft_weight == 0 and self.hard_weight == 0:
            raise AttarError("expected soft_weight > 0 or hard_weight > 0, got 0 for both")


def member_distillation_loss(
    logits: Float[Tensor, "members batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    hard_targets: Int64[Tensor, " batch"],
    members: Sequence[MemberWeights],
) -> Float[Tensor, "members batch"]:
    """Weigh, for each member of a cohort, agreement with one teacher against the true classes.

    Each row is the `distillation_loss` of that member; a term that no member needs is skipped.

    Args:
        logits: The students', shape `[members, batch, classes]`, in nats, as a cohort gives them.
        teacher_logits: The teacher's, shape `[batch, classes]`, not yet divided by a temperature.
        hard_targets: True class indices, shape `[batch]`; -1 for an unlabeled example.
        members: Temperature and weights of each.

    Returns:
        The weighted sums in nats, shape `[members, batch]`. Train on their mean over the batch,
        summed over the members: then each has the gradient that it would have alone.

    Raises:
        AttarError: If a dtype is wrong, a hard target is neither a class nor -1, or (ShapeError)
            shapes don't fit.

    Example:
        >>> logits, teacher_logits = torch.tensor([[[0.0, 2.1972]]] * 2), torch.zeros(1, 2)
        >>> options = {"soft_weight": 1.0, "hard_weight": 0.5}
        >>> both = [MemberWeights(temperature=T, **options) for T in (2.0, 4.0)]
        >>> member_distillation_loss(logits, teacher_logits, torch.tensor([1]), both)
        tensor([[ 3.4006],
                [11.8373]])

    Source: Hinton et al. (2015), sec. 2, the weighted average of two objective functions.
    """
    check_scores(logits=logits)
    check_scores(teacher_logits=teacher_logits)
    if logits.shape != (len(members), *teacher_logits.shape):
        raise ShapeError(
            f"expected logits [members, batch, classes] of {len(members)} members and "
            f"teacher_logits [batch, classes], got {list(logits.shape)} and "
            f"{list(teacher_logits.shape)}; do both use one class list?"
        )

    def column(name: str) -> Tensor:
        values = [getattr(member, name) for member in members]
        return at_least_float32(logits.new_tensor(values))[:, None]  # [members, 1]

    temperature = column("temperature")
    soft_weight, hard_weight = column("soft_weight"), column("hard_weight")
    loss = at_least_float32(logits.new_zeros(logits.shape[:-1]))  # [members, batch]
    if any(member.soft_weight for member in members):
        each = temperature[..., None]  # [members, 1, 1]
        p = torch.softmax(at_least_float32(teacher_logits.detach()) / each, dim=-1)
        soft = -expectation(p, torch.log_softmax(at_least_float32(logits) / each, dim=-1))
        # Soft-target gradients shrink as 1/T²; T² brings them back (Hinton et al. 2015, sec. 2).
        loss = loss + soft_weight * temperature**2 * soft
    if any(member.hard_weight for member in members):
        shared = hard_targets.expand(len(members), -1)  # [members, batch]
        loss = loss + hard_weight * hard_cross_entropy(logits, shared)
    return loss
