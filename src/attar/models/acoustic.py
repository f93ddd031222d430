"""Acoustic networks: windows of frames in, logits of tied states out."""

import torch
from torch import nn

from attar.errors import AttarError
from attar.models.mlp import mlp

PAPER_LAYERS, PAPER_UNITS, PAPER_STATES = 8, 2560, 14_000  # Hinton et al. (2015), sec. 4


def acoustic_dnn(
    states: int,
    layers: int = PAPER_LAYERS,
    units: int = PAPER_UNITS,
    *,
    inputs: int,
    generator: torch.Generator,
    hidden_dropout: float = 0.0,
) -> nn.Sequential:
    """Make the acoustic model of a hybrid recognizer: rectified linear units, a softmax of states.

    Args:
        states: Tied HMM states to tell apart.
        layers: Hidden layers.
        units: Units in each.
        inputs: Numbers in a window: frames of context times features of a frame.
        generator: Draws the initial weights.
        hidden_dropout: Probability that a hidden unit is dropped.

    Returns:
        A network in training mode that maps windows `[batch, inputs]` to logits `[batch, states]`.

    Raises:
        AttarError: If a size is not positive or the probability is out of range.

    Example:
        >>> network = acoustic_dnn(9, 2, 16, inputs=26 * 40, generator=torch.Generator())
        >>> network(torch.zeros(5, 26 * 40)).shape
        torch.Size([5, 9])

    Source: Hinton et al. (2015), sec. 4: 8 layers of 2560 units, 14,000 states.
    """
    if layers < 1:
        raise AttarError(f"expected one hidden layer or more, got {layers}")
    return mlp(inputs, [units] * layers, states, generator=generator, hidden_dropout=hidden_dropout)
