"""Dropout at a tenth of the usual cost on a CPU."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from attar.errors import AttarError

_LEVELS = 256  # values of a random byte


class Dropout(nn.Module):
    """Sets each unit to zero with a given probability, and scales up the rest, while training.

    A unit is kept where a random byte reaches a threshold, so the probability is rounded to a
    multiple of 1/256 (0.1 becomes 26/256); the scale is that of the rounded one, so that the
    expected value of a unit does not change. `torch.nn.Dropout` draws a Bernoulli number for each
    unit, which on a CPU takes ten times as long.

    Random bytes come from torch's default generator, as they do for `torch.nn.Dropout`;
    `attar.training` seeds it at every step and gives it back as it was.

    Source: Hinton et al. (2012), arXiv:1207.0580, used in Hinton et al. (2015), sec. 3.
    """

    def __init__(self, probability: float) -> None:
        """Take the probability that a unit is dropped, 0 <= probability < 1."""
        super().__init__()
        if not 0 <= probability < 1:
            raise AttarError(f"expected a dropout probability in [0, 1), got {probability}")
        self.probability = probability
        self._threshold = min(round(probability * _LEVELS), _LEVELS - 1)

    def forward(self, inputs: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Drop units of `inputs` in training mode; return them as they are in evaluation mode."""
        if not self.training or self._threshold == 0:
            return inputs
        scale = torch.empty(inputs.shape, dtype=inputs.dtype)
        # Straight into the inputs' type: torch's boolean tensors are several times slower here.
        torch.ge(_random_bytes(inputs.shape), self._threshold, out=scale)
        scale *= _LEVELS / (_LEVELS - self._threshold)
        return inputs * scale.to(inputs.device)

    def extra_repr(self) -> str:
        """Show the probability when the module is printed."""
        return f"probability={self.probability}"


def _random_bytes(shape: torch.Size) -> UInt8[Tensor, "*shape"]:
    """Draw bytes from NumPy's quickest generator, seeded by torch's default one."""
    seed = int(torch.randint(2**62, ()))
    words = np.random.SFC64(seed).random_raw((shape.numel() + 7) // 8)
    return torch.from_numpy(words.view(np.uint8))[: shape.numel()].view(shape)
