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
    """Keeps one `[batch, classes]` matrix; backward writes the gradient over it.

    The matrix is e, the exponentials of the student's tail, or of all classes where there is no
    tail. By eq. 2 the gradient of the k largest is (q - p) / T. That of the tail is
    e / sum e · (q of the tail - p of the tail) / T: its mass shared out as the student does. Both
    e and the logarithm of the tail's mass are computed from the tail alone, so they hold however
    small that mass is. A draw of weight w adds -w/T to its class.
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
        excluded = None if tail is None else indices
        e, largest, sums = _exponentials(z, excluded, temperature)
        chosen = z.gather(-1, indices)  # [batch, k]
        # Relative to the row's largest logit: far from 0 a float32 has few digits behind the point.
        shift = largest if tail is None else torch.maximum(largest, chosen.amax(-1))  # [batch]
        scaled = (chosen - shift.unsqueeze(-1)) / temperature
        log_sum = sums.log() + (largest - shift) / temperature
        log_total = log_sum if tail is None else torch.logaddexp(log_sum, scaled.logsumexp(-1))
        log_q = scaled - log_total.unsqueeze(-1)  # [batch, k]
        loss = -torch.where(weights == 0, 0.0, weights * log_q).sum(-1)
        row_scale, values = weights.sum(-1), -weights  # [batch], [batch, k]
        if tail is not None:
            log_rest = log_sum - log_total  # [batch]
            loss = loss - torch.where(tail == 0, 0.0, tail * log_rest)
            weight = row_scale + tail
            values = weight.unsqueeze(-1) * log_q.exp() - weights
            row_scale = weight * log_rest.exp() - tail
        row_scale = row_scale / (sums * temperature)
        ctx.save_for_backward(logits, indices, row_scale, values / temperature)
        ctx.e = e if ctx.needs_input_grad[0] else None
        ctx.temperature, ctx.has_tail = temperature, tail is not None
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, loss_gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """Write the gradient over e."""
        logits, indices, row_scale, values = ctx.saved_tensors
        gradient, ctx.e = ctx.e, None
        if gradient is None:  # backward for the second time
            z = at_least_float32(logits.detach())
            gradient, *_ = _exponentials(z, indices if ctx.has_tail else None, ctx.temperature)
        gradient.mul_((loss_gradient * row_scale).unsqueeze(-1))
        gradient.scatter_add_(-1, indices, loss_gradient.unsqueeze(-1) * values)
        return gradient.to(logits.dtype), None, None, None, None


def _exponentials(
    z: Tensor, excluded: Tensor | None, temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return exp((z - m)/T) of the classes that are not excluded, m being their largest logit.

    It works on as many rows at a time as fit into a processor's cache.

    Args:
        z: Logits `[batch, classes]`.
        excluded: Classes to leave out, `[batch, k]`; their exponential is 0.
        temperature: T.

    Returns:
        Exponentials `[batch, classes]`; m, `[batch]`; the exponentials' sums, `[batch]`, 1 or more.
    """
    e, largest, sums = torch.empty_like(z), z.new_empty(len(z)), z.new_empty(len(z))
    rows = max(1, _BLOCK // z.shape[-1])
    for start in range(0, len(z), rows):
        part = slice(start, start + rows)
        block = e[part].copy_(z[part])
        if excluded is not None:
            block.scatter_(-1, excluded[part], -torch.inf)
        torch.amax(block, dim=-1, out=largest[part])
        block.sub_(largest[part].unsqueeze(-1))
        if temperature != 1:
            block.div_(temperature)
        torch.sum(block.exp_(), dim=-1, out=sums[part])
    impossible = largest == -torch.inf  # the student rules out all of these classes
    if impossible.any():
        e[impossible], sums[impossible] = 0.0, 1.0
    return e, largest, sums
