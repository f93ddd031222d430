"""Soft targets as a store keeps them: logits, from which the reader takes any temperature.

The tail is everything outside the classes that are written out. Its log-sum-exp at β = 1/T,

    L(β) = log sum over the tail of exp(β v),

is convex in β, is log(tail classes) at β = 0, and has the slope L'(β) = mean of v over the tail at
that temperature. Value and slope are kept at a few β; in between stands the chord less half the
harmonic mean of its distances to the tangents at both ends. That lies between the chord and the
tangents, as L does; it is convex, and exact where L is linear or quadratic.

Source of the interpolant: Delbourgo & Gregory (1985), "Shape preserving piecewise rational
interpolation", SIAM J. Sci. Stat. Comput. 6, their convex rational cubic.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from attar.errors import AttarError, check_positive

_COLUMNS = ("indices", "logits", "tail", "tail_slopes")  # the tensors of sparse soft targets
BETA_SLACK = 1e-9  # 1/T in floating point may miss a β by this much


@dataclass(frozen=True, slots=True)
class DenseTargets:
    """The logits of every class, each example's largest being 0."""

    logits: Float[Tensor, "*batch classes"]

    def to(self, device: torch.device) -> "DenseTargets":
        """Move them to a device."""
        return DenseTargets(self.logits.to(device))


@dataclass(frozen=True, slots=True)
class SparseTargets:
    """The logits of the largest classes, and the tail: what all others amount to.

    The last `draws` columns, if there are any, are classes that were drawn from the tail with
    replacement, each with the probability that the teacher gives it within the tail at
    `draw_temperature`. They describe the tail without bias, and belong to it.
    """

    indices: Int64[Tensor, "*batch k"]
    logits: Float[Tensor, "*batch k"]  # relative to the example's largest
    tail: Float[Tensor, "*batch betas"]  # L at each β
    tail_slopes: Float[Tensor, "*batch knots"]  # L' at β = 0 and at each β
    betas: tuple[float, ...]  # ascending, the last is 1; none if no class is left for the tail
    classes: int
    draws: int = 0
    draw_temperature: float = 1.0

    @property
    def largest(self) -> int:
        """How many columns are the largest classes; the others are draws."""
        return self.indices.shape[-1] - self.draws

    @property
    def tail_classes(self) -> int:
        """How many classes the tail has."""
        return self.classes - self.largest

    def member(self, position: int) -> "SparseTargets":
        """Choose one along the first axis, which is the members' where a batch has several."""
        return self._choose(position)

    def rows(self, rows: slice) -> "SparseTargets":
        """Choose some examples of a batch."""
        return self._choose(rows)

    def _choose(self, position: int | slice) -> "SparseTargets":
        return replace(self, **{name: getattr(self, name)[position] for name in _COLUMNS})

    def to(self, device: torch.device) -> "SparseTargets":
        """Move them to a device."""
        return replace(self, **{name: getattr(self, name).to(device) for name in _COLUMNS})


SoftTargetBatch = DenseTargets | SparseTargets


@dataclass(frozen=True, slots=True)
class SparseProbabilities:
    """Sparse soft targets at one temperature."""

    largest: Float[Tensor, "*batch k"]
    tail: Float[Tensor, "*batch"]  # of all classes outside the k largest together
    draws: Float[Tensor, "*batch draws"]  # weights of the draws, on average together the tail's


def interpolate_tail(targets: SparseTargets, *, temperature: float) -> Float[Tensor, "*batch"]:
    """Return the tail's log-sum-exp at a temperature, relative to the example's largest logit.

    Args:
        targets: With a tail, or without: then the result is -inf.
        temperature: T >= 1.

    Raises:
        AttarError: If T < 1, at which the store says nothing about the tail.

    Example:
        >>> indices, logits = torch.tensor([[0]]), torch.zeros(1, 1)
        >>> tail, slopes = torch.tensor([[math.log(2) - 3.0]]), torch.full((1, 2), -3.0)
        >>> targets = SparseTargets(indices, logits, tail, slopes, betas=(1.0,), classes=3)
        >>> interpolate_tail(targets, temperature=2.0)  # two classes of logit -3: log 2 - 3/2
        tensor([-0.8069])
    """
    check_positive(temperature=temperature)
    beta = 1.0 / temperature
    if beta > 1 + BETA_SLACK:
        found = f"expected temperature >= 1 for sparse soft targets, got {temperature}"
        raise AttarError(f"{found}; label with a dense store to go below")
    if not targets.betas:
        return targets.logits.new_full(targets.logits.shape[:-1], -math.inf)
    knots = (0.0, *targets.betas)
    left = max(0, sum(knot <= beta + BETA_SLACK for knot in knots[:-1]) - 1)
    width = knots[left + 1] - knots[left]
    position = min((beta - knots[left]) / width, 1.0)  # 0 at the left knot, 1 at the right
    end = targets.tail[..., left]
    start = targets.tail[..., left - 1] if left else math.log(targets.tail_classes)
    rise = end - start
    above_left = position * (rise - width * targets.tail_slopes[..., left])  # chord over tangent
    above_right = (1 - position) * (width * targets.tail_slopes[..., left + 1] - rise)
    chord = end - (1 - position) * rise
    return chord - _half_harmonic_mean(above_left.clamp(min=0), above_right.clamp(min=0))


def to_probabilities(targets: SparseTargets, *, temperature: float) -> SparseProbabilities:
    """Turn sparse soft targets into probabilities at a temperature.

    The k largest and the tail sum to 1. The draws' weights are importance weights: the tail's sum
    of anything is, on average over the draws, the sum of it over the draws times their weights.

    Raises:
        AttarError: If T < 1.
    """
    log_tail = interpolate_tail(targets, temperature=temperature)  # [...]
    logits, drawn = targets.logits.split([targets.largest, targets.draws], dim=-1)
    log_total = torch.logsumexp(torch.cat([logits / temperature, log_tail[..., None]], -1), dim=-1)
    weights = drawn
    if targets.draws:
        # p at T over draws · (probability with which the class was drawn), both in logarithms.
        proposal = interpolate_tail(targets, temperature=targets.draw_temperature)[..., None]
        log_drawn = drawn / targets.draw_temperature - proposal
        log_p = drawn / temperature - log_total[..., None]
        weights = (log_p - log_drawn).exp() / targets.draws
    return SparseProbabilities(
        largest=(logits / temperature - log_total[..., None]).exp(),
        tail=(log_tail - log_total).exp(),
        draws=weights,
    )


def _half_harmonic_mean(a: Tensor, b: Tensor) -> Tensor:
    """Return 1 / (1/a + 1/b); 0 where both are 0."""
    return a * b / (a + b).clamp(min=torch.finfo(a.dtype).tiny)
