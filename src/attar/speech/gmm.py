"""Gaussian mixtures with diagonal covariances: one for each tied state."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

_CHUNK = 1024  # frames at once, so that what is computed stays near the processor
_SPLIT = 0.2  # standard deviations by which two halves of a component are moved apart
_MIN_FRAMES = 10.0  # of a component: with fewer it is given up


@dataclass(frozen=True)
class Mixtures:
    """As many components for every state; those that were given up have log-weight -inf."""

    means: Float[Tensor, "states components dims"]
    variances: Float[Tensor, "states components dims"]
    log_weights: Float[Tensor, "states components"]

    def log_likelihoods(
        self, frames: Float[Tensor, "frames dims"]
    ) -> Float[Tensor, "frames states"]:
        """Compute the log-density of each frame in each state, in nats."""
        states, _, dims = self.means.shape
        precision = 1 / self.variances
        # -(x - m)²/2v = -x²/2v + xm/v - m²/2v: two matrix products for all components, of which
        # the first of all states come first, then the second, and so on.
        square = (-0.5 * precision).transpose(0, 1).reshape(-1, dims).T.contiguous()
        linear = (precision * self.means).transpose(0, 1).reshape(-1, dims).T.contiguous()
        constant = self._constants().T.reshape(-1)  # [components * states]
        result = torch.empty(len(frames), states)
        for start in range(0, len(frames), _CHUNK):
            chunk = frames[start : start + _CHUNK]
            scores = torch.addmm(constant, chunk.square(), square).addmm_(chunk, linear)
            first, *others = scores.split(states, dim=1)
            for other in others:
                first = torch.logaddexp(first, other)
            result[start : start + _CHUNK] = first
        return result

    def _constants(self) -> Float[Tensor, "states components"]:
        normalizer = self.variances.log().sum(2) + self.means.shape[2] * math.log(2 * math.pi)
        return self.log_weights - 0.5 * normalizer - 0.5 * (self.means**2 / self.variances).sum(2)

    def split(self) -> "Mixtures":
        """Make two of each component, moved apart along its standard deviations."""
        step = _SPLIT * self.variances.sqrt()
        return Mixtures(
            torch.cat([self.means + step, self.means - step], dim=1),
            torch.cat([self.variances, self.variances], dim=1),
            torch.cat([self.log_weights, self.log_weights], dim=1) - math.log(2),
        )


def single_gaussians(
    frames: Float[Tensor, "frames dims"],
    states: Int[Tensor, " frames"],
    *,
    count: int,
    floor: float,
) -> Mixtures:
    """Fit one Gaussian to the frames of each state.

    Args:
        frames: Features.
        states: The state of each frame.
        count: How many states there are; one without frames gets the Gaussian of all frames.
        floor: The least variance.
    """
    counts = torch.bincount(states, minlength=count).double()[:, None]
    sums = torch.zeros(count, frames.shape[1], dtype=torch.float64)
    sums.index_add_(0, states, frames.double())
    squares = torch.zeros_like(sums).index_add_(0, states, frames.double().square())
    empty = counts == 0
    mean = torch.where(empty, frames.double().mean(0), sums / counts.clamp(min=1))
    variance = torch.where(
        empty, frames.double().var(0, unbiased=False), squares / counts.clamp(min=1) - mean**2
    )
    return Mixtures(
        mean.float()[:, None],
        variance.clamp(min=floor).float()[:, None],
        torch.zeros(count, 1),
    )


def update_mixtures(
    mixtures: Mixtures,
    frames: Float[Tensor, "frames dims"],
    states: Int[Tensor, " frames"],
    *,
    floor: float,
) -> Mixtures:
    """Do one step of expectation-maximization, the state of each frame being known.

    A component with very few frames is given up; a state without frames stays as it is.
    """
    count, components, dims = mixtures.means.shape
    occupancy = torch.zeros(count, components)
    sums = torch.zeros(count, components, dims)
    squares = torch.zeros(count, components, dims)
    constants = mixtures._constants()
    for start in range(0, len(frames), _CHUNK):
        x = frames[start : start + _CHUNK]
        state = states[start : start + _CHUNK]
        precision = 1 / mixtures.variances[state]  # [chunk, components, dims]
        scores = constants[state] + torch.einsum("ncd,nd->nc", precision * mixtures.means[state], x)
        scores -= 0.5 * torch.einsum("ncd,nd->nc", precision, x.square())
        posteriors = scores.softmax(dim=1)  # [chunk, components]
        occupancy.index_add_(0, state, posteriors)
        sums.index_add_(0, state, posteriors[..., None] * x[:, None])
        squares.index_add_(0, state, posteriors[..., None] * x.square()[:, None])
    enough = occupancy >= torch.minimum(  # a rare state keeps its heaviest component
        torch.tensor(_MIN_FRAMES), occupancy.amax(dim=1, keepdim=True).clamp(min=1e-3)
    )
    weight = occupancy.clamp(min=1e-10)[..., None]
    means = torch.where(enough[..., None], sums / weight, mixtures.means)
    variances = torch.where(
        enough[..., None], (squares / weight - means**2).clamp(min=floor), mixtures.variances
    )
    kept = torch.where(enough, occupancy, torch.zeros(()))
    log_weights = (kept / kept.sum(1, keepdim=True).clamp(min=1e-10)).log()
    untouched = occupancy.sum(1, keepdim=True) < 1e-3
    return Mixtures(means, variances, torch.where(untouched, mixtures.log_weights, log_weights))
