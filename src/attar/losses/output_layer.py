"""Losses of a large output layer with the memory of one `[batch, classes]` matrix.

Plain autograd keeps logits, softmax and gradient, each `[batch, classes]`. Here the logits are
overwritten with their gradient block by block, so that one matrix suffices and each block stays in
the processor's cache. The matrix products, most of the work, are not split.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from attar.errors import ShapeError
from attar.losses.checks import at_least_float32
from attar.losses.dense import PerExample

RowsLoss = Callable[[Tensor, slice], Tensor]  # logits [rows, classes], their rows -> [rows]

_BLOCK = 2**18  # logits that fit into a processor's cache


def output_layer_loss(
    features: Float[Tensor, "batch features"],
    weight: Float[Tensor, "classes features"],
    bias: Float[Tensor, " classes"],
    loss_fn: RowsLoss,
    *,
    rows: int | None = None,
) -> PerExample:
    """Apply a linear output layer and a loss, with no more memory than the logits.

    Losses and gradients are those of `loss_fn(features @ weight.T + bias, slice(0, batch))`, in
    at least float32, also under `torch.autocast`.

    Args:
        features: Inputs of the layer.
        weight: Weight of the layer.
        bias: Bias of the layer.
        loss_fn: Function of the logits of some rows and their slice that returns one number per
            row, like the losses of `attar.losses`. It must not depend on other rows. Other tensors
            that it depends on get no gradient.
        rows: Rows per block; by default as many as fit into a processor's cache.

    Returns:
        The losses, shape `[batch]`.

    Raises:
        ShapeError: If features, weight and bias do not fit, or `loss_fn` does not return one number
            per row.

    Example:
        >>> hard_targets, hidden = torch.tensor([1, 0]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> def loss_fn(logits, rows):
        ...     return nn.functional.cross_entropy(logits, hard_targets[rows], reduction="none")
        >>> from torch import nn
        >>> output_layer_loss(hidden, torch.eye(2), torch.zeros(2), loss_fn)
        tensor([1.3133, 1.3133])
    """
    shapes = [list(each.shape) for each in (features, weight, bias)]
    if features.shape[1] != weight.shape[1] or len(weight) != len(bias):
        expected = "features [batch, n], weight [classes, n], bias [classes]"
        raise ShapeError(f"expected {expected}, got {', '.join(map(str, shapes))}")
    rows = max(1, _BLOCK // len(weight)) if rows is None else rows
    with torch.autocast(features.device.type, enabled=False):
        wide = [at_least_float32(tensor) for tensor in (features, weight, bias)]
        losses: Tensor = _OutputLayerLoss.apply(*wide, loss_fn, rows)  # type: ignore[no-untyped-call]
    return losses


class _OutputLayerLoss(torch.autograd.Function):
    """Keeps one matrix: the logits, overwritten by their gradient."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        features: Tensor,  # [batch, features]
        weight: Tensor,  # [classes, features]
        bias: Tensor,  # [classes]
        loss_fn: RowsLoss,
        rows: int,
    ) -> Tensor:
        """Return the losses, `[batch]`."""
        logits = torch.addmm(bias, features, weight.t())  # [batch, classes]
        needs_gradient = any(ctx.needs_input_grad)
        losses = []
        for start in range(0, len(logits), rows):
            part = logits[start : start + rows].detach().requires_grad_(needs_gradient)
            with torch.set_grad_enabled(needs_gradient):
                loss = loss_fn(part, slice(start, start + len(part)))
            if loss.shape != part.shape[:1]:
                found = f"expected one loss for each of {len(part)} rows, got {list(loss.shape)}"
                raise ShapeError(f"{found}; leave the mean to the caller")
            if needs_gradient:
                (gradient,) = torch.autograd.grad(loss, part, torch.ones_like(loss))
                part.detach().copy_(gradient)
            losses.append(loss.detach())
        ctx.save_for_backward(features, weight)
        ctx.gradients = logits if needs_gradient else None
        return torch.cat(losses)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, loss_gradients: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """Propagate the gradients of the logits; works once, because they are scaled in place."""
        features, weight = ctx.saved_tensors
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            raise RuntimeError("output_layer_loss goes backward once; call it again")
        gradients.mul_(loss_gradients.unsqueeze(1))
        needs_features, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        with torch.autocast(gradients.device.type, enabled=False):
            return (
                gradients @ weight if needs_features else None,
                gradients.t() @ features if needs_weight else None,
                gradients.sum(dim=0) if needs_bias else None,
                None,
                None,
            )
