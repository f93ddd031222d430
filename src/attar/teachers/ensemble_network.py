"""Networks that answer together, as one network."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.errors import AttarError
from attar.losses import Mean, check_mean, mean_logits


class EnsembleNetwork(nn.Module):
    """An ensemble: its logits are those of a mean of its members' probabilities at temperature 1.

    As a teacher (`attar.as_teacher`, `attar.label`) its members' logits are kept apart, so that
    the student's loss can take either mean at any temperature.

    Args:
        networks: The members, one or more, each from inputs to logits `[batch, classes]`.
        mean: `arithmetic`, of the probabilities, or `geometric`, which is the softmax of the mean
            logits.

    Raises:
        AttarError: If there is no member, one is an ensemble, or the mean is none of these.

    Example:
        >>> ensemble = EnsembleNetwork([nn.Linear(4, 3), nn.Linear(4, 3)], mean="arithmetic")
        >>> ensemble(torch.zeros(2, 4)).shape
        torch.Size([2, 3])

    Source: Hinton et al. (2015), sec. 2 and 3; both means are named in sec. 1.
    """

    def __init__(self, networks: Iterable[nn.Module], *, mean: Mean = "arithmetic") -> None:
        """Check the members, and hold them as they are."""
        super().__init__()
        self.networks = nn.ModuleList(networks)
        if not len(self.networks):
            raise AttarError("expected one member or more, got an empty ensemble")
        if any(isinstance(network, EnsembleNetwork) for network in self.networks):
            raise AttarError(
                "expected single networks as members, got an ensemble; list all of their members"
            )
        check_mean(mean)
        self.mean: Mean = mean

    def __len__(self) -> int:
        return len(self.networks)

    def forward(self, inputs: Tensor) -> Float[Tensor, "batch classes"]:
        """Ask all members, and answer with the logits of the mean."""
        return mean_logits(torch.stack([each(inputs) for each in self.networks]), mean=self.mean)

    def extra_repr(self) -> str:
        """Show the mean when the module is printed."""
        return f"mean={self.mean}"
