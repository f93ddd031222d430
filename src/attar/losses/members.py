"""The distillation loss of many students at once, each with its own temperature and weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from attar.errors import AttarError, ShapeError, check_not_negative, check_positive
from attar.losses.checks import UNLABELED, at_least_float32, check_hard_targets, check_scores
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
    teacher_logits: Float[Tensor, "*members batch classes"],
    hard_targets: Int64[Tensor, " batch"],
    members: Sequence[MemberWeights],
) -> Float[Tensor, "members batch"]:
    """Weigh, for each member of a cohort, agreement with a teacher against the true classes.

    Each row is the `distillation_loss` of that member; a term that no member needs is skipped.

    Args:
        logits: The students', shape `[members, batch, classes]`, in nats, as a cohort gives them.
        teacher_logits: Not yet divided by a temperature: those of one teacher for all, shape
            `[batch, classes]`, or of one for each member, `[members, batch, classes]`.
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
                [11.7391]])

    Source: Hinton et al. (2015), sec. 2, the weighted average of two objective functions.
    """
    check_scores(logits=logits)
    check_scores(teacher_logits=teacher_logits)
    batch = teacher_logits.shape[-2:]
    if logits.shape != (len(members), *batch) or teacher_logits.shape not in (batch, logits.shape):
        raise ShapeError(
            f"expected logits [members, batch, classes] of {len(members)} members and "
            f"teacher_logits of as many or of one, got {list(logits.shape)} and "
            f"{list(teacher_logits.shape)}; do both use one class list?"
        )

    if any(member.hard_weight for member in members):
        check_hard_targets(hard_targets, logits[0])
    columns = [[each.temperature, each.soft_weight, each.hard_weight] for each in members]
    loss: Tensor = _MemberLoss.apply(  # type: ignore[no-untyped-call]
        at_least_float32(logits).transpose(1, 2).contiguous(),
        at_least_float32(teacher_logits.detach()).mT.contiguous(),
        hard_targets,
        columns,
    )
    return loss


class _MemberLoss(torch.autograd.Function):
    """The losses, with their gradients by z written out.

    Of small networks the loss is a large part of a step. Here it takes a third of the time that
    autograd takes: the classes are the axis before the last, as a cohort has them, along which
    torch's softmax is quick even for few classes, and no exponential is taken twice.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        z: Tensor,  # [members, classes, batch]
        v: Tensor,  # [classes, batch], or of each member
        hard_targets: Tensor,  # [batch]
        columns: list[list[float]],  # temperature, soft weight and hard weight of each member
    ) -> Tensor:
        # Each [members, 1, 1].
        temperature, soft_weight, hard_weight = z.new_tensor(columns).T[..., None, None]
        loss, slope = z.new_zeros(z.shape[0], z.shape[2]), torch.zeros_like(z)
        if soft_weight.any():
            log_q = torch.log_softmax(z / temperature, dim=1)
            p = torch.softmax(v / temperature, dim=1)
            # Soft-target gradients shrink as 1/T²; T² brings them back (Hinton 2015, sec. 2).
            factor = soft_weight * temperature**2
            loss -= factor.squeeze(2) * expectation(p, log_q, dim=1)
            slope = log_q.exp_().sub_(p).mul_(factor / temperature)  # eq. 2: (q - p) / T
        if hard_weight.any():
            log_q = torch.log_softmax(z, dim=1)
            weight = hard_weight * (hard_targets != UNLABELED)  # [members, 1, batch]
            true = hard_targets.clamp(min=0).expand(len(z), 1, -1)  # [members, 1, batch]
            log_q_true = log_q.gather(1, true).masked_fill(weight == 0, 0.0)
            loss -= (weight * log_q_true).squeeze(1)
            minus_one = z.new_tensor(-1.0).expand(true.shape)
            slope += weight * log_q.exp_().scatter_add_(1, true, minus_one)  # q less 1 where true
        ctx.save_for_backward(slope)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: ANN401
        """Give z its gradient; the teacher is a constant."""
        (slope,) = ctx.saved_tensors
        return slope * gradient.unsqueeze(1), None, None, None
