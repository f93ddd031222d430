"""Multilayer perceptrons as in the paper's MNIST section."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from attar.errors import AttarError, check_positive
from attar.models.dropout import Dropout
from attar.models.stacked import Stacked


class MaxNormLinear(nn.Linear):
    """A linear layer whose units' incoming weights are kept within a ball.

    Source: Hinton et al. (2012), arXiv:1207.0580, sec. 2, used in Hinton et al. (2015), sec. 3.
    """

    def __init__(self, inputs: int, outputs: int, *, max_norm: float) -> None:
        """Take the layer's size and the longest allowed weight vector of a unit, > 0."""
        check_positive(max_norm=max_norm)
        super().__init__(inputs, outputs)
        self.max_norm = max_norm

    @torch.no_grad()
    def project(self) -> None:
        """Shorten every unit's weight vector that is longer than `max_norm` to that length."""
        lengths = torch.linalg.vector_norm(self.weight, dim=1, keepdim=True)  # [outputs, 1]
        self.weight.mul_((self.max_norm / lengths).clamp_(max=1))


def apply_max_norm(network: nn.Module) -> None:
    """Project the weights of every `MaxNormLinear` in the network, as training does each step."""
    if isinstance(network, Stacked):
        network.project_members()
        return
    for module in network.modules():
        if isinstance(module, MaxNormLinear):
            module.project()


def mlp(
    inputs: int,
    hidden: Sequence[int],
    classes: int,
    *,
    generator: torch.Generator,
    input_dropout: float = 0.0,
    hidden_dropout: float = 0.0,
    max_norm: float | None = None,
    initial_scale: float = 1.0,
) -> nn.Sequential:
    """Make a network of fully connected layers with rectified linear units.

    Args:
        inputs: Numbers per example; inputs of any shape `[batch, ...]` are flattened.
        hidden: Units in each hidden layer.
        classes: Numbers of logits.
        generator: Draws the initial weights (He et al. 2015); biases start at zero.
        input_dropout: Probability that an input is dropped.
        hidden_dropout: Probability that a hidden unit is dropped.
        max_norm: Longest allowed weight vector of a unit, hidden or output; None for no bound.
            docs/log.md compares it with leaving the output units alone.
        initial_scale: Factor on the initial weights. Below 1, hidden units have to learn their
            features, instead of making do with the random ones that they start with.

    Returns:
        A network in training mode that maps `[batch, ...]` to logits `[batch, classes]`.

    Raises:
        AttarError: If a size is not positive or a probability is out of range.

    Example:
        >>> network = mlp(784, [800, 800], 10, generator=torch.Generator().manual_seed(0))
        >>> sum(parameter.numel() for parameter in network.parameters())
        1276810

    Source: Hinton et al. (2015), sec. 3.
    """
    sizes = [inputs, *hidden, classes]
    if min(sizes) < 1:
        raise AttarError(f"expected sizes of at least 1, got {sizes} for inputs, hidden, classes")
    check_positive(initial_scale=initial_scale)
    modules: list[nn.Module] = [nn.Flatten()]
    for layer, (before, after) in enumerate(pairwise(sizes)):
        is_last = layer == len(sizes) - 2
        probability = input_dropout if layer == 0 else hidden_dropout
        if probability:
            modules.append(Dropout(probability))
        # Where the generator is; the layer's own draws are overwritten below.
        with torch.random.fork_rng(devices=[]), generator.device:
            if max_norm is None:
                linear = nn.Linear(before, after)
            else:
                linear = MaxNormLinear(before, after, max_norm=max_norm)
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu", generator=generator)
        linear.weight.detach().mul_(initial_scale)
        nn.init.zeros_(linear.bias)
        modules.append(linear)
        if not is_last:
            modules.append(nn.ReLU())
    return nn.Sequential(*modules).to(torch.get_default_device())
