"""The mean of an ensemble's members: arithmetic, of probabilities, or geometric, of logits."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from attar.errors import AttarError

Mean = Literal["arithmetic", "geometric"]


def check_mean(mean: str) -> None:
    """Raise `AttarError` unless the mean is one of the two."""
    if mean not in get_args(Mean):
        raise AttarError(f"expected mean to be arithmetic or geometric, got {mean!r}")


def member_shares(weights: Sequence[float] | None, members: int) -> tuple[float, ...]:
    """Normalize the weights of an ensemble's members to sum 1.

    Args:
        weights: One weight >= 0 per member, not all 0; None for equal weights.
        members: Number of members.

    Raises:
        AttarError: If the weights are not of this form.

    Example:
        >>> member_shares([3, 1], 2), member_shares(None, 2)
        ((0.75, 0.25), (0.5, 0.5))
    """
    given = [1.0] * members if weights is None else list(weights)
    if len(given) != members or min(given) < 0 or not 0 < sum(given) < float("inf"):
        raise AttarError(
            f"expected one weight >= 0 for each of {members} members, not all 0, got {given}"
        )
    return tuple(weight / sum(given) for weight in given)


def mean_logits(
    logits: Float[Tensor, "members *batch classes"],
    *,
    mean: Mean,
    temperature: float = 1.0,
    shares: Sequence[float] | None = None,
) -> Float[Tensor, "*batch classes"]:
    """Return logits whose softmax at a temperature is a mean of the members' at that temperature.

    Args:
        logits: Logits of the members, shape `[members, ..., classes]`, in nats.
        mean: `arithmetic`, or `geometric` and renormalized; the geometric mean does not depend on
            temperature.
        temperature: Temperature T > 0 of the averaged probabilities.
        shares: Weights of the members, sum 1; equal by default.

    Example:
        >>> both = torch.tensor([[0.25, 0.75], [0.75, 0.25]]).log()
        >>> mean_logits(both, mean="arithmetic").softmax(0)
        tensor([0.5000, 0.5000])

    Source: Hinton et al. (2015), sec. 1, which names both means.
    """
    check_mean(mean)
    weights = logits.new_tensor(shares or [1 / len(logits)] * len(logits))  # [members]
    if mean == "geometric":
        return torch.einsum("m,m...->...", weights, logits)
    log_p = torch.log_softmax(logits / temperature, dim=-1)
    of_members = weights.log().view(-1, *[1] * (logits.ndim - 1))  # [members, 1, ...]
    return temperature * torch.logsumexp(log_p + of_members, dim=0)
