"""The distribution q that agrees best with the generalist and all active specialists: eq. 5.

It minimizes KL(p of the generalist, q) + sum over specialists KL(p of it, q), where a specialist
sees of q the probabilities of its own classes and the sum of all others, its dustbin.

Classes that the same specialists know, an *atom*, enter every sum together. So within an atom q is
known at once: in proportion to a, the sum of what generalist and those specialists say of a class.
What is left are the totals of the atoms, two for one specialist and seldom more than ten, instead
of the logits of 15,000 classes; and all examples of a batch are solved together.

Weights come as logarithms, and the solution leaves as logarithms: the classes that no specialist
knows may have a total of 1e-30 and still decide the answer, as their dustbins raise them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attar.errors import AttarError, check_positive

Direction = Literal["KL(p, q)", "KL(q, p)"]
DIRECTIONS: tuple[Direction, ...] = ("KL(p, q)", "KL(q, p)")

_MOST_NEWTON_STEPS = 100  # it takes 10 to 20
# Of weights and dustbins in Newton's method. Less than that is no part of q that float32 can tell
# from 0 beside 1, and makes the systems singular.
_FLOOR = 1e-16
_SHRINK, _TO_EDGE = 0.02, 0.95  # of products in a step, and of the way to the nearest zero
_LOST = 1e-6  # more of a dustbin than rounding, for classes that the generalist excludes


@dataclass(frozen=True, slots=True)
class AtomProblem:
    """Eq. 5 in the totals of atoms, for each example of a batch.

    Rows have as many atoms and specialists as the largest needs. What one lacks has a weight of 0,
    whose logarithm is -inf, and `knows` and `active` False.
    """

    log_weights: Float[Tensor, "batch atoms"]  # of KL(p, q): a summed; of KL(q, p): see `mix`
    dustbins: Float[Tensor, "batch specialists"]  # what each gives to all classes not its own
    knows: Bool[Tensor, "batch specialists atoms"]  # whether the atom's classes are its own
    active: Bool[Tensor, "batch specialists"]

    @property
    def exists(self) -> Bool[Tensor, "batch atoms"]:
        """Tell which atoms a row has."""
        return self.log_weights > -torch.inf

    @property
    def outside(self) -> Float[Tensor, "batch specialists atoms"]:
        """Return 1 where an atom's classes are in a specialist's dustbin, else 0."""
        is_outside = ~self.knows & self.active.unsqueeze(2) & self.exists.unsqueeze(1)
        return is_outside.to(self.log_weights.dtype)


@dataclass(frozen=True, slots=True)
class AtomTotals:
    """The solution: log of q summed over each atom, and how it was found."""

    log_totals: Float[Tensor, "batch atoms"]  # -inf where a row has no such atom
    steps: int
    gradient: float  # largest entry, over the batch, of the gradient by the atoms' totals


def solve_atoms(
    problem: AtomProblem, *, direction: Direction, tolerance: float, most_steps: int
) -> AtomTotals:
    """Find the totals, all examples at once.

    The gradient is that by the totals, where the multiplier of their sum is added. It says how much
    eq. 5 changes for each unit of probability, so it is as strict with an atom of 1e-30 as with one
    of 0.5. The gradient by an atom's logit, its total times that, is not: it vanishes wherever the
    total is small, also where the solution has much in that atom.

    Args:
        problem: The batch.
        direction: Of the divergences; the paper's is KL(p, q).
        tolerance: Largest entry of the gradient with which to stop, > 0.
        most_steps: After which to stop in any case.

    Raises:
        AttarError: If an option is out of range, or the gradient is still larger; or if the
            generalist excludes all classes of a dustbin that has some probability.

    Source: Hinton et al. (2015), sec. 5.4, eq. 5.
    """
    check_positive(tolerance=tolerance, most_steps=most_steps)
    if direction not in DIRECTIONS:
        raise AttarError(f"expected direction to be one of {DIRECTIONS}, got {direction!r}")
    has_classes = problem.outside.any(dim=2)
    lost = torch.where(problem.active & ~has_classes, problem.dustbins, 0.0)
    if (lost > _LOST).any():
        raise AttarError(
            "expected a generalist that gives some probability to the classes of each dustbin, got "
            f"0 for all classes of one of {float(lost.max()):.2g}; give it finite logits"
        )
    solve = _solve_forward if direction == "KL(p, q)" else _solve_reverse
    solved = solve(problem, tolerance, most_steps)
    if not solved.gradient <= tolerance:
        raise AttarError(
            f"expected a gradient of {tolerance:g} at most after {solved.steps} steps of combining "
            f"generalist and specialists, got {solved.gradient:.2g}; give more steps or a larger "
            "tolerance"
        )
    return solved


def mix(
    log_generalist: Float[Tensor, "batch touched"],
    said: Sequence[Tensor],
    places: Sequence[Tensor],
    *,
    direction: Direction,
) -> Float[Tensor, "batch touched"]:
    """Return the logarithm of what q is in proportion to within an atom.

    For KL(p, q) that is the sum of what generalist and specialists say of a class, for KL(q, p)
    the geometric mean. So where all know every class, q is their arithmetic or geometric mean.

    Args:
        log_generalist: Its log p of the classes that a specialist knows.
        said: What each specialist says of its classes, `[batch, special]`.
        places: Where each one's classes are among those.
        direction: Of the divergences.
    """
    total = log_generalist.clone()
    if direction == "KL(p, q)":
        for p, place in zip(said, places, strict=True):
            total[:, place] = torch.logaddexp(total[:, place], p.log())
        return total
    tiny = torch.finfo(log_generalist.dtype).tiny  # a probability of 0 leaves q finite
    sources = torch.ones(log_generalist.shape[1])
    for p, place in zip(said, places, strict=True):
        total[:, place] += p.clamp(min=tiny).log()
        sources[place] += 1
    return total / sources


def _solve_forward(problem: AtomProblem, tolerance: float, most_steps: int) -> AtomTotals:
    """Solve for KL(p, q).

    With weights w, dustbins d, totals q and K specialists, eq. 5 is least where, for some r and s,

        q s = w   of each atom,        s = K + 1 - sum of r over the specialists that don't know it
        r t = d   of each specialist,  t = sum of q over the atoms that it doesn't know

    With each dustbin shared out alike among its atoms, q is the solution wherever no dustbin has
    more than one atom. The other examples are solved by Newton's method.
    """
    outside, exists = problem.outside, problem.exists
    weights = problem.log_weights.exp().clamp(min=1e-300)
    has_classes = outside.any(dim=2)
    dustbins = torch.where(has_classes, problem.dustbins.clamp(min=1e-300), 0.0)
    # K + 1, but for the rounding of probabilities
    multiplier = (torch.where(exists, weights, 0.0).sum(1) + dustbins.sum(1)).unsqueeze(1)
    equations = _Equations(weights, dustbins, outside, exists, multiplier)
    q = equations.start()
    slack, gradient = equations.check(q)
    left = (gradient.amax(dim=1) > tolerance).nonzero().squeeze(1)
    steps = 0
    if len(left):
        hard = equations.of_rows(left)
        q[left], steps = hard.solve(tolerance, min(most_steps, _MOST_NEWTON_STEPS))
        slack[left], gradient[left] = hard.check(q[left])
    log_totals = q.log()
    # Newton's method took less as _FLOOR. Where next to nothing of q is left, s has its logarithm.
    is_floored = (problem.log_weights.exp() < _FLOOR) & (slack > 1e-3)
    log_totals = torch.where(is_floored, problem.log_weights - slack.log(), log_totals)
    log_totals = torch.where(exists, log_totals, -torch.inf)
    log_totals = log_totals - log_totals.logsumexp(dim=1, keepdim=True)  # rounding summed up
    return AtomTotals(log_totals, steps, float(gradient.max()))


@dataclass(frozen=True, slots=True)
class _Equations:
    """The conditions of the minimum for KL(p, q), see `_solve_forward`."""

    weights: Tensor  # w [batch, atoms]
    dustbins: Tensor  # d [batch, specialists]; 0 where there is none
    outside: Tensor  # [batch, specialists, atoms]
    exists: Tensor  # [batch, atoms]
    multiplier: Tensor  # of the sum of q [batch, 1]

    def of_rows(self, rows: Tensor) -> "_Equations":
        """Take some rows, with weights and dustbins that Newton's method can solve."""
        dustbins = self.dustbins[rows]
        return _Equations(
            self.weights[rows].clamp(min=_FLOOR),
            torch.where(dustbins > 0, dustbins.clamp(min=_FLOOR), 0.0),
            self.outside[rows],
            self.exists[rows],
            self.multiplier[rows],
        )

    def check(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """Return s of each atom, and the gradient's absolute values."""
        seen = torch.einsum("bka,ba->bk", self.outside, q)
        shares = torch.where(self.dustbins > 0, self.dustbins / seen, 0.0)
        slack = self.multiplier - torch.einsum("bk,bka->ba", shares, self.outside)
        return slack, torch.where(self.exists, slack - self.weights / q, 0.0).abs()

    def start(self) -> Tensor:
        """Share out each dustbin alike among its atoms."""
        shares = self.dustbins / self.outside.sum(dim=2).clamp(min=1)
        return (self.weights + torch.einsum("bk,bka->ba", shares, self.outside)) / self.multiplier

    def solve(self, tolerance: float, most_steps: int) -> tuple[Tensor, int]:
        """Solve by Newton's method on both kinds of products; return q and the number of steps.

        q, r and s stay positive: a step aims at no less than a part of each product, and ends
        before any of them is 0. This is the primal-dual interior-point method, in which the
        products have the targets w and d instead of 0.

        Source: Wright (1997), "Primal-Dual Interior-Point Methods", ch. 1.
        """
        q, outside = self.start(), self.outside
        is_there = self.dustbins > 0
        d = torch.where(is_there, self.dustbins, 1.0)

        def sum_outside(values: Tensor) -> Tensor:  # of specialists -> of atoms
            return torch.einsum("bk,bka->ba", torch.where(is_there, values, 0.0), outside)

        def look_outside(q: Tensor) -> Tensor:  # of atoms -> of specialists
            return torch.where(is_there, torch.einsum("bka,ba->bk", outside, q), 1.0)

        r = d / look_outside(q)
        s = (self.multiplier - sum_outside(r)).clamp(min=0.1)
        for step in range(1, most_steps + 1):
            seen = look_outside(q)
            missing = self.multiplier - s - sum_outside(r)
            for_q = torch.maximum(self.weights, _SHRINK * q * s) - q * s
            for_r = torch.maximum(d, _SHRINK * r * seen) - r * seen
            # Least squares in r, which q and s follow from: (diag(t / r) + O diag(q / s) Oᵀ) dr
            # = for_r / r - O (for_q - q missing) / s. By QR, as q / s may be 1e16.
            root = (q / s).sqrt()  # [batch, atoms]
            left = torch.cat(
                [torch.diag_embed((seen / r).sqrt()), root.unsqueeze(2) * outside.mT], dim=1
            )
            right = torch.cat(
                [for_r / (r * seen).sqrt(), root * missing - for_q / (q * s).sqrt()], dim=1
            )
            basis, triangle = torch.linalg.qr(left)
            dr = torch.linalg.solve_triangular(
                triangle, basis.mT @ right.unsqueeze(2), upper=True
            ).squeeze(2)
            ds = missing - sum_outside(dr)
            dq = (for_q - q * ds) / s
            length = torch.minimum(_way_to_zero(q, dq), _way_to_zero(s, ds))
            length = torch.minimum(length, _way_to_zero(r, torch.where(is_there, dr, 0.0)))
            length = (_TO_EDGE * length).clamp(max=1.0).unsqueeze(1)
            q, s = q + length * dq, s + length * ds
            r = torch.where(is_there, r + length * dr, 1.0)
            if not self.check(q)[1].max() > tolerance:
                return q, step
        return q, most_steps


def _way_to_zero(values: Tensor, change: Tensor) -> Tensor:
    """Return, of each row, the multiple of the change that makes the first value 0."""
    return torch.where(change < 0, -values / change, torch.inf).amin(dim=1)


def _solve_reverse(problem: AtomProblem, tolerance: float, most_steps: int) -> AtomTotals:
    """Solve for KL(q, p) by mirror descent.

    Its steps have the size 1 / (K + 1), at which each one is known to bring eq. 5 down.

    Source: Bauschke, Bolte & Teboulle (2017) for the size of the step.
    """
    outside, exists = problem.outside, problem.exists
    has_classes = outside.any(dim=2)
    log_dustbins = problem.dustbins.clamp(min=torch.finfo(outside.dtype).tiny).log()
    knowing = 1 + (problem.knows & problem.active.unsqueeze(2)).sum(dim=1)  # [batch, atoms]
    sources = 1 + problem.active.sum(dim=1, keepdim=True)
    log_weights = torch.where(exists, problem.log_weights, 0.0)
    is_outside = outside > 0
    log_q = problem.log_weights - problem.log_weights.logsumexp(dim=1, keepdim=True)
    for step in range(1, most_steps + 1):
        log_seen = torch.where(is_outside, log_q.unsqueeze(1), -torch.inf).logsumexp(dim=2)
        excess = torch.where(has_classes, log_seen - log_dustbins, 0.0)
        slope = knowing * (log_q - log_weights) + torch.einsum("bk,bka->ba", excess, outside)
        slope = torch.where(exists, slope, 0.0)
        mean = (log_q.exp() * slope).sum(dim=1, keepdim=True)
        gradient = float(torch.where(exists, slope - mean, 0.0).abs().max())
        if not gradient > tolerance:
            return AtomTotals(log_q, step, gradient)
        log_q = log_q - slope / sources
        log_q = log_q - log_q.logsumexp(dim=1, keepdim=True)
    return AtomTotals(log_q, most_steps, gradient)
