"""Losses straight on sparse soft targets; no teacher matrix `[batch, classes]` is ever built.

Where the tail has no draws it is one class to the student as to the teacher: "none of the k
largest". The gradient this gives is that of the dense loss with the tail's mass shared out as the
student itself shares it, so it moves the tail as a whole and leaves its inner order alone. Where
there are draws, they stand for the tail, and the gradient is on average the dense one.
"""

from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

from attar.errors import AttarError, ShapeError, check_not_negative
from attar.losses.checks import at_least_float32, check_scores, hard_cross_entropy
from attar.losses.dense import PerClass, PerExample
from attar.losses.soft_targets import SparseTargets, to_probabilities

_BLOCK = 2**18  # logits that fit into a processor's cache
_SMALL = 1e-30  # below, a float32 loses digits


def sparse_soft_cross_entropy(
    logits: PerClass, targets: SparseTargets, *, temperature: float
) -> PerExample:
    """Measure how well the student predicts sparse soft targets.

    Args:
        logits: The student's, shape `[..., classes]`, in nats.
        targets: The teacher's k largest classes and its tail, from a store.
        temperature: T >= 1 of both softmaxes.

    Returns:
        -sum p · log q in nats, shape `[...]`: over the k largest and the tail as one class, or with
        draws over the k largest and the draws, each by its weight.

    Raises:
        AttarError: If T < 1, or the logits are not floating-point, or (ShapeError) don't fit.

    Example:
        >>> indices, teacher_logits = torch.tensor([[2]]), torch.zeros(1, 1)
        >>> tail, slopes = torch.tensor([[0.6931]]), torch.zeros(1, 2)  # two more logits of 0
        >>> targets = SparseTargets(indices, teacher_logits, tail, slopes, betas=(1.0,), classes=3)
        >>> sparse_soft_cross_entropy(torch.zeros(1, 3), targets, temperature=1.0)  # 1/3, 2/3
        tensor([0.6365])

    Source: Hinton et al. (2015), sec. 2, the first objective function; the draws are after
    Anshumann et al. (2025), arXiv:2503.16870.
    """
    check_scores(logits=logits)
    if logits.shape[-1] != targets.classes or logits.shape[:-1] != targets.indices.shape[:-1]:
        rows = [*targets.indices.shape[:-1], targets.classes]
        found = f"expected logits {rows} for these soft targets, got {list(logits.shape)}"
        raise ShapeError(f"{found}; do both use one class list?")
    p = to_probabilities(targets, temperature=temperature)
    weights = torch.cat([p.largest, p.draws], dim=-1)
    tail = None if targets.draws or not targets.betas else p.tail.flatten()
    loss: Tensor = _SparseCrossEntropy.apply(  # type: ignore[no-untyped-call]
        logits.flatten(end_dim=-2), targets.indices.flatten(end_dim=-2),
        weights.flatten(end_dim=-2), tail, temperature,
    )  # fmt: skip
    return loss.reshape(logits.shape[:-1])


def sparse_distillation_loss(
    logits: PerClass,
    targets: SparseTargets,
    hard_targets: Int64[Tensor, "*batch"],
    *,
    temperature: float,
    soft_weight: float,
    hard_weight: float,
) -> PerExample:
    """Weigh agreement with a teacher given by sparse soft targets against the true classes.

    Args:
        logits: The student's, shape `[..., classes]`, in nats.
        targets: The teacher's k largest classes and its tail, from a store.
        hard_targets: True class indices, shape `[...]`, `int64`; -1 for an unlabeled example.
        temperature: T >= 1 of the soft term; the hard term is always at 1.
        soft_weight: Factor of T² times the soft cross-entropy, >= 0.
        hard_weight: Factor of the hard cross-entropy, >= 0.

    Returns:
        The weighted sum in nats, shape `[...]`.

    Raises:
        AttarError: As `distillation_loss`, and if T < 1.

    Source: Hinton et al. (2015), sec. 2, the weighted average of two objective functions.
    """
    check_not_negative(soft_weight=soft_weight, hard_weight=hard_weight)
    if soft_weight == 0 and hard_weight == 0:
        raise AttarError("expected soft_weight > 0 or hard_weight > 0, got 0 for both; raise one")
    if soft_weight == 0:
        return hard_weight * hard_cross_entropy(logits, hard_targets)
    soft = sparse_soft_cross_entropy(logits, targets, temperature=temperature)
    # Soft-target gradients shrink as 1/T²; T² brings them back (Hinton et al. 2015, sec. 2).
    soft = soft_weight * temperature**2 * soft
    if hard_weight == 0:
        return soft
    return soft + hard_weight * hard_cross_entropy(logits, hard_targets)


class _SparseCrossEntropy(torch.autograd.Function):
    """Only q is `[batch, classes]`; backward writes the gradient over it.

    By eq. 2 the gradient of the k largest is (q - p) / T, the tail's q/T · (1 - p/q of the tail):
    its mass shared out as the student does. A draw of weight w adds -w/T to its class.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        logits: Tensor,  # [batch, classes]
        indices: Tensor,  # [batch, k]
        weights: Tensor,  # [batch, k]
        tail: Tensor | None,  # [batch]; None if the weights are all there is
        temperature: float,
    ) -> Tensor:
        """Return -sum of weights · log q, less tail · log of the student's tail, `[batch]`."""
        z = at_least_float32(logits.detach())
        weights = weights.to(z.dtype)
        q = _softmax(z, temperature)
        chosen = q.gather(-1, indices)  # [batch, k]
        log_q = _log_q(z, indices, chosen, temperature)  # [batch, k]
        loss = -torch.where(weights == 0, 0.0, weights * log_q).sum(-1)
        row_scale, values = weights.sum(-1), -weights  # [batch], [batch, k]
        if tail is not None:
            rest = q.scatter_(-1, indices, 0.0).sum(-1)  # [batch], the student's tail
            loss = loss - torch.xlogy(tail, rest)
            weight = row_scale + tail
            values = weight.unsqueeze(-1) * chosen - weights
            row_scale = weight - tail / rest.clamp(min=torch.finfo(rest.dtype).tiny)
        ctx.save_for_backward(logits, indices, row_scale / temperature, values / temperature)
        ctx.q = q if ctx.needs_input_grad[0] else None
        ctx.temperature, ctx.cut = temperature, tail is not None
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, loss_gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """Write the gradient over q."""
        logits, indices, row_scale, values = ctx.saved_tensors
        gradient, ctx.q = ctx.q, None
        if gradient is None:  # backward for the second time
            gradient = _softmax(at_least_float32(logits.detach()), ctx.temperature)
            if ctx.cut:
                gradient.scatter_(-1, indices, 0.0)
        gradient.mul_((loss_gradient * row_scale).unsqueeze(-1))
        gradient.scatter_add_(-1, indices, loss_gradient.unsqueeze(-1) * values)
        return gradient.to(logits.dtype), None, None, None, None


def _softmax(z: Tensor, temperature: float) -> Tensor:
    """Return q; some rows at a time, so that z/T needs little memory."""
    q = torch.empty_like(z)
    rows = max(1, _BLOCK // z.shape[-1])
    for part, into in zip(z.split(rows), q.split(rows), strict=True):
        torch.softmax(part / temperature, dim=-1, out=into)
    return q


def _log_q(z: Tensor, indices: Tensor, chosen: Tensor, temperature: float) -> Tensor:
    """Return log q at the indices, where q itself, which is `chosen`, may be 0 by underflow."""
    scaled = z.gather(-1, indices) / temperature  # [batch, k]
    largest, place = scaled.max(-1, keepdim=True)
    known = chosen.gather(-1, place)  # [batch, 1]
    log_total = largest - known.log()
    if (known < _SMALL).any():  # the student rules out all of the teacher's classes
        log_total = (z / temperature).logsumexp(-1, keepdim=True)
    return scaled - log_total
