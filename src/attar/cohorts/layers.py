"""Stacked layers of multilayer perceptrons: the fast path of a cohort.

Activations are `[members, units, batch]`, the batch last. So the first layer of all members is one
product, [members · units, inputs] × [inputs, batch], whose result already has the shape that the
next one's batched product wants, and no gradient is ever transposed in memory.
"""

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.models import Dropout, MaxNormLinear

_LINEAR = (nn.Linear, MaxNormLinear)
_LAYERS = (*_LINEAR, nn.ReLU, Dropout, nn.Dropout)  # exactly these: a subclass may do anything

Hidden = Float[Tensor, "inputs batch"] | Float[Tensor, "members units batch"]  # shared, or of each


class StackedLinear(nn.Module):
    """The linear layers of all members at one place."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        """Stack the weights `[members, outputs, inputs]`, and the biases `[members, outputs]`."""
        super().__init__()
        first = layers[0]
        self.weight = stack([layer.weight for layer in layers])
        self.bias = None if first.bias is None else stack([layer.bias for layer in layers])
        self.max_norm = first.max_norm if isinstance(first, MaxNormLinear) else None

    def forward(self, hidden: Hidden) -> Float[Tensor, "members outputs batch"]:
        """Multiply what all members share in one wide product, what each has in a batched one."""
        if hidden.ndim == 3:
            if self.bias is None:
                return torch.bmm(self.weight, hidden)
            return torch.baddbmm(self.bias.unsqueeze(2), self.weight, hidden)
        wide = self.weight.flatten(0, 1)  # [members * outputs, inputs]
        if self.bias is None:
            products = torch.mm(wide, hidden)
        else:
            products = torch.addmm(self.bias.reshape(-1, 1), wide, hidden)
        return products.view(*self.weight.shape[:2], -1)

    @torch.no_grad()
    def project(self) -> None:
        """Shorten every unit's weight vector that is longer than its layer's `max_norm`."""
        if self.max_norm is not None:
            lengths = torch.linalg.vector_norm(self.weight, dim=-1, keepdim=True)
            self.weight.mul_((self.max_norm / lengths).clamp_(max=1))


class StackedMlp(nn.Module):
    """Multilayer perceptrons, stacked layer by layer."""

    def __init__(self, networks: Sequence[nn.Sequential]) -> None:
        """Take networks of one architecture, for which `is_mlp` holds."""
        super().__init__()
        self.members = len(networks)
        self.flattens = isinstance(networks[0][0], nn.Flatten)
        # At the members' own places, so that parameters have the members' own names.
        stacked: list[nn.Module] = []
        for layers in zip(*networks, strict=True):
            stacked.append(_stack_layers(layers, after=stacked[-1] if stacked else None))
            stacked[-1].train(layers[0].training)
        self.layers = nn.ModuleList(stacked)

    def forward(
        self, inputs: Float[Tensor, "batch *shape"]
    ) -> Float[Tensor, "members *rows classes"]:
        """Show all members the same batch."""
        rows = inputs.flatten(1) if self.flattens else inputs  # [*batch, inputs]
        hidden = rows.reshape(-1, rows.shape[-1]).T  # [inputs, batch]
        for layer in self.layers:
            if isinstance(layer, Dropout | nn.Dropout) and self.training and hidden.ndim == 2:
                hidden = hidden.expand(self.members, -1, -1)  # each member drops inputs of its own
            hidden = layer(hidden)
        if hidden.ndim == 2:  # no layer told the members apart
            hidden = hidden.expand(self.members, -1, -1)
        return hidden.transpose(1, 2).reshape(self.members, *rows.shape[:-1], -1)

    def stacked(self) -> dict[str, Tensor]:
        """Return the stacked tensors by the names that they have in a member."""
        return dict(self.layers.named_parameters())

    def project(self) -> None:
        """Shorten the weight vectors that are longer than their layer's `max_norm`."""
        for layer in self.layers:
            if isinstance(layer, StackedLinear):
                layer.project()


def is_mlp(network: nn.Module) -> bool:
    """Tell whether a network is built as `attar.mlp` builds them, so that `StackedMlp` fits."""
    if type(network) is not nn.Sequential or not len(network) or _has_hooks(network):
        return False
    layers = list(network)
    if type(layers[0]) is nn.Flatten and (layers[0].start_dim, layers[0].end_dim) == (1, -1):
        layers = layers[1:]
    names = [name for name, _ in network.named_parameters(remove_duplicate=False)]
    return (
        all(type(layer) in _LAYERS for layer in layers)
        and any(type(layer) in _LINEAR for layer in layers)
        and len(names) == len(list(network.parameters()))  # no weights are tied
    )


def stack(tensors: Sequence[Tensor]) -> nn.Parameter:
    """Copy the members' tensors into one parameter, that learns if they do."""
    return nn.Parameter(
        torch.stack([tensor.detach() for tensor in tensors]), requires_grad=tensors[0].requires_grad
    )


def _stack_layers(layers: tuple[nn.Module, ...], *, after: nn.Module | None) -> nn.Module:
    first = layers[0]
    if isinstance(first, nn.Linear):
        return StackedLinear(cast(tuple[nn.Linear, ...], layers))
    if isinstance(first, Dropout):
        return Dropout(first.probability)
    if isinstance(first, nn.Dropout):
        return nn.Dropout(first.p)
    if isinstance(first, nn.Flatten):
        return nn.Identity()
    # In place only where nobody else holds the tensor: neither the caller nor the layer before.
    return nn.ReLU(inplace=isinstance(after, StackedLinear))


def _has_hooks(network: nn.Module) -> bool:
    return any(
        each._forward_hooks or each._forward_pre_hooks or each._backward_hooks
        for each in network.modules()
    )
