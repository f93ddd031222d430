"""What training has to know of networks whose parameters are stacked, one slice a member."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn


@runtime_checkable
class Stacked(Protocol):
    """A network that is several: each parameter's first axis counts the members."""

    @property
    def stacked_members(self) -> int:
        """How many members there are."""

    def project_members(self) -> None:
        """Bring each member's weights back into their bounds, as `MaxNormLinear.project` does."""


def count_stacked_members(network: nn.Module) -> int | None:
    """Return how many networks this one is; None for one that is not stacked."""
    return network.stacked_members if isinstance(network, Stacked) else None


def member_norms(gradients: Sequence[Tensor]) -> Float[Tensor, " members"]:
    """Return the length of each member's gradient.

    Args:
        gradients: Of all parameters, each `[members, ...]`.
    """
    norms = [torch.linalg.vector_norm(each.flatten(1), dim=1) for each in gradients]
    lengths: Tensor = torch.linalg.vector_norm(torch.stack(norms), dim=0)
    return lengths


def clip_members(
    gradients: Sequence[Tensor], *, clip_norm: float, norms: Float[Tensor, " members"]
) -> None:
    """Shorten, in place, the gradients of those members that are longer than `clip_norm`."""
    # As torch.nn.utils.clip_grads_with_norm_ has it for one network.
    factors = (clip_norm / (norms + 1e-6)).clamp(max=1.0)  # [members]
    for gradient in gradients:
        gradient.mul_(factors.view(-1, *[1] * (gradient.ndim - 1)))
