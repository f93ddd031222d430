"""Networks of the same architecture, trained together as one module."""

import copy
import re
from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from attar.cohorts.layers import StackedMlp, is_mlp
from attar.cohorts.vmapped import StackedNetworks
from attar.errors import AttarError
from attar.modes import frozen_layers, train_except

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


class Cohort(nn.Module):
    """Networks of the same architecture that are trained together.

    `attar.TrainingRun` trains a cohort like a single network, with a loss that sums over the
    members, such as `attar.losses.member_distillation_loss`. Gradients, clipping, max-norm and
    dropout masks are separate for each member, so each is trained as it would be alone. All members
    see the same batches in the same order, which depends on the seed of the run.

    Networks made by `attar.mlp` have a fast path, in which the first layers of all members are one
    matrix product. Other networks run under `torch.func.vmap`, which refuses networks with
    data-dependent control flow, stored activations, or in-place changes of shared tensors. Their
    random numbers must come from torch; otherwise all members get the same numbers.

    Args:
        networks: The members, at least one; they are copied. They must have the same layers, but
            may have different weights.

    Raises:
        AttarError: If there is no network, or the architectures differ.

    Example:
        >>> from attar import mlp
        >>> networks = [mlp(4, [8], 3, generator=torch.Generator().manual_seed(i)) for i in (0, 1)]
        >>> cohort = Cohort(networks)
        >>> cohort(torch.zeros(5, 4)).shape  # [members, batch, classes]
        torch.Size([2, 5, 3])
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        """Check that the networks fit together, and stack them."""
        super().__init__()
        _check_alike(networks)
        self._count = len(networks)
        self._template = (copy.deepcopy(networks[0]),)  # in a tuple: not registered as a submodule
        if all(is_mlp(network) for network in networks):
            self.networks: StackedMlp | StackedNetworks = StackedMlp(
                cast(Sequence[nn.Sequential], networks)
            )
        else:
            self.networks = StackedNetworks(networks)
        if not networks[0].training:
            self.eval()  # otherwise each layer keeps its mode: some may be frozen

    def forward(self, inputs: Tensor) -> Shaped[Tensor, "members batch *rest"]:
        """Return the logits `[members, batch, classes]` of all members for inputs `[batch, ...]`.

        Networks that answer `[batch, positions, classes]` make it `[members, batch, positions,
        classes]`.

        Raises:
            AttarError: If `torch.func` cannot run such networks together; it says why.
        """
        logits: Tensor = self.networks(inputs)
        return logits

    def __len__(self) -> int:
        return self._count

    @property
    def stacked_members(self) -> int:
        """Number of members, for `attar.training`."""
        return self._count

    def project_members(self) -> None:
        """Shorten the weight vectors that are longer than their layer's max-norm."""
        self.networks.project()

    @torch.no_grad()
    def member(self, index: int) -> nn.Module:
        """Take a member out: an ordinary network with copies of its weights and buffers.

        Raises:
            AttarError: If there is no such member.
        """
        if not 0 <= index < len(self):
            raise AttarError(f"expected a member in 0..{len(self) - 1}, got {index}")
        network = copy.deepcopy(self._template[0])
        if self.training:
            train_except(network, frozen_layers(network))
        else:
            network.eval()
        own = dict(network.named_parameters()) | dict(network.named_buffers())
        for name, tensors in self.networks.stacked().items():
            own[name].data = tensors[index].detach().clone()
        return network

    def members(self) -> list[nn.Module]:
        """Take all members out, in order."""
        return [self.member(index) for index in range(len(self))]


def _check_alike(networks: Sequence[nn.Module]) -> None:
    if not networks:
        raise AttarError("expected one network or more, got an empty cohort")
    first = _describe(networks[0])
    for place, network in enumerate(networks):
        if not isinstance(network, nn.Module):
            raise AttarError(f"expected torch modules, got {type(network).__name__} at {place}")
        if place and any(network is earlier for earlier in networks[:place]):
            raise AttarError(f"expected networks of their own, got one twice, at {place}; copy it")
        found = _describe(network)
        if found != first:
            differing = next((a, b) for a, b in zip(first, found, strict=False) if a != b)
            raise AttarError(
                f"expected networks of one architecture, got {differing[0]} in the first, "
                f"{differing[1]} at {place}; make them with one function"
            )


def _describe(network: nn.Module) -> list[str]:
    """Say all that the members have to share: layers, sizes, types, which parameters learn."""
    layers = [
        f"{name or 'network'}: {_ADDRESS.sub('', repr(layer).splitlines()[0])}"
        f"{'' if layer.training == network.training else ' in another mode than the network'}"
        for name, layer in network.named_modules()
    ]
    tensors = [
        f"{name} {list(tensor.shape)} {tensor.dtype} {tensor.device} "
        f"{'learning' if tensor.requires_grad else 'fixed'}"
        for kind in (network.named_parameters(), network.named_buffers())
        for name, tensor in kind
    ]
    return [*layers, *tensors, "its end"]
