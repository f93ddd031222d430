"""What all losses share: checks at their doors, the arithmetic's type, the hard term."""

import torch
from torch import Tensor

from attar.errors import AttarError, ShapeError, check_same_shape

UNLABELED = -1  # hard target of an example whose class is unknown


def hard_cross_entropy(logits: Tensor, hard_targets: Tensor) -> Tensor:
    """Return -log q of the true class at temperature 1; 0 for an unlabeled example."""
    check_hard_targets(hard_targets, logits)
    z, targets = at_least_float32(logits), hard_targets
    if z.ndim != 2:  # cross_entropy wants classes second; a view of a view costs time in each step
        z, targets = z.reshape(-1, z.shape[-1]), targets.reshape(-1)
    losses = torch.nn.functional.cross_entropy(z, targets, ignore_index=UNLABELED, reduction="none")
    return losses.view(hard_targets.shape) if losses.shape != hard_targets.shape else losses


def at_least_float32(tensor: Tensor) -> Tensor:
    """Promote float16 and bfloat16 to float32; leave the wider types."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def log_softmax(logits: Tensor, *, temperature: float) -> Tensor:
    """Return log q, in float32 at least."""
    return torch.log_softmax(at_least_float32(logits) / temperature, dim=-1)


def check_scores(**tensors: Tensor) -> None:
    """Raise unless the tensors, given by name, are floats of one shape with one class or more."""
    check_same_shape(**tensors)
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            found = f"expected floating-point {name}, got {tensor.dtype}"
            raise AttarError(f"{found}; try {name}.float(), or are these hard targets?")
        if tensor.ndim == 0 or tensor.shape[-1] == 0:
            found = f"expected one class at least, got {name} {list(tensor.shape)}"
            raise ShapeError(f"{found}; classes are the last axis")


def check_hard_targets(hard_targets: Tensor, logits: Tensor) -> None:
    """Raise unless there is one class index, or -1, for each row of logits."""
    if hard_targets.dtype != torch.int64:
        found = f"expected hard_targets of torch.int64, got {hard_targets.dtype}"
        raise AttarError(f"{found}; try hard_targets.long()")
    if hard_targets.shape != logits.shape[:-1]:
        found = f"got hard_targets {list(hard_targets.shape)}, logits {list(logits.shape)}"
        raise ShapeError(f"expected one hard target per row of logits, {found}; are they one-hot?")
    if hard_targets.numel() == 0:
        return
    lowest, highest = (int(bound) for bound in hard_targets.aminmax())
    if lowest < UNLABELED or highest >= logits.shape[-1]:
        found = f"expected hard_targets from 0 to {logits.shape[-1] - 1}, got {lowest} to {highest}"
        raise AttarError(f"{found}; the mark of an unlabeled example is {UNLABELED}")
