"""The distribution q that agrees best with the generalist and all active specialists: eq. 5.

It minimizes KL(p of the generalist, q) + sum over specialists KL(p of it, q), where a specialist
sees of q the probabilities of its own classes and the sum of all others, its dustbin.

Classes that the same specialists know, an *atom*, enter every sum together. So within an atom q is
known at once: in proportion to a, the sum of what generalist and those specialists say of a class.
What is left are the logits of the atoms' totals, of two atoms for one specialist and seldom more
than ten, instead of those of 15,000 classes; and all examples of a batch are solved together.
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


@dataclass(frozen=True, slots=True)
class AtomProblem:
    """Eq. 5 in the totals of atoms, for each example of a batch.

    Rows have as many atoms and specialists as the largest needs; what one lacks has weight 0 and
    `knows` False.
    """

    weights: Float[Tensor, "batch atoms"]  # of KL(p, q): a summed; of KL(q, p): see `mix`
    dustbins: Float[Tensor, "batch specialists"]  # what each gives to all classes not its own
    knows: Bool[Tensor, "batch specialists atoms"]  # whether the atom's classes are its own
    active: Bool[Tensor, "batch specialists"]


@dataclass(frozen=True, slots=True)
class AtomTotals:
    """The solution: log of q summed over each atom, and how it was found."""

    log_totals: Float[Tensor, "batch atoms"]  # -inf where a row has no such atom
    steps: int
    gradient: float  # largest entry, over the batch, of the gradient by the atoms' logits


def solve_atoms(
    problem: AtomProblem, *, direction: Direction, tolerance: float, most_steps: int
) -> AtomTotals:
    """Find the totals by descent on their logits, all examples at once.

    The gradient of KL(p, q) by an atom's logit is (K + 1) (Q - t): Q is its total, K the number of
    specialists, and (K + 1) t what the p's claim for it if each dustbin is shared out as q has it.
    A step adds log(t / Q) to the logit, which for small steps is the gradient divided by
    (K + 1) Q. It never overshoots: it is the EM algorithm for grouped counts, and the problem is
    convex in q, so it ends at the one minimum. For KL(q, p) it is a step of mirror descent, of the
    size 1 / (K + 1) at which each step is known to bring the objective down.

    Args:
        problem: The batch.
        direction: Of the divergences; the paper's is KL(p, q).
        tolerance: Largest entry of the gradient with which to stop, > 0.
        most_steps: After which to stop in any case.

    Raises:
        AttarError: If an option is out of range, or the descent has not come that far.

    Source: Hinton et al. (2015), sec. 5.4, eq. 5; Dempster, Laird & Rubin (1977), sec. 1, for the
    grouped counts; Bauschke, Bolte & Teboulle (2017) for the size of the mirror's step.
    """
    check_positive(tolerance=tolerance, most_steps=most_steps)
    if direction not in DIRECTIONS:
        raise AttarError(f"expected direction to be one of {DIRECTIONS}, got {direction!r}")
    descend = _descend_forward if direction == "KL(p, q)" else _descend_reverse
    log_q = problem.weights.log()
    log_q = log_q - log_q.logsumexp(1, keepdim=True)  # [batch, atoms]
    gradient = torch.inf
    for step in range(1, most_steps + 1):
        log_q, gradient = descend(problem, log_q)
        if gradient <= tolerance:
            return AtomTotals(log_q, step, gradient)
    raise AttarError(
        f"expected a gradient of {tolerance:g} at most after {most_steps} steps of combining "
        f"generalist and specialists, got {gradient:.2g}; give more steps or a larger tolerance"
    )


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
    tiny = torch.finfo(log_generalist.dtype).tiny
    if direction == "KL(p, q)":
        total = log_generalist.exp()
        for p, place in zip(said, places, strict=True):
            total[:, place] += p
        return total.clamp(min=tiny).log()
    total, sources = log_generalist.clone(), torch.ones(log_generalist.shape[1])
    for p, place in zip(said, places, strict=True):
        total[:, place] += p.clamp(min=tiny).log()
        sources[place] += 1
    return total / sources


def _descend_forward(problem: AtomProblem, log_q: Tensor) -> tuple[Tensor, float]:
    """Take a step for KL(p, q); return it, and the gradient before it."""
    q = log_q.exp()
    outside = (~problem.knows).to(q.dtype)  # [batch, specialists, atoms]
    seen = torch.einsum("bka,ba->bk", outside, q).clamp(min=torch.finfo(q.dtype).tiny)
    shares = problem.dustbins / seen  # of each dustbin, for each unit of q
    sources = 1 + problem.active.sum(dim=1, keepdim=True)  # [batch, 1]: K + 1
    claims = problem.weights + q * torch.einsum("bk,bka->ba", shares, outside)
    gradient = (sources * q - claims).abs().max()
    log_q = claims.log() - sources.log()
    return log_q - log_q.logsumexp(1, keepdim=True), float(gradient)  # rounding summed up


def _descend_reverse(problem: AtomProblem, log_q: Tensor) -> tuple[Tensor, float]:
    """Take a step for KL(q, p); return it, and the gradient before it."""
    q = log_q.exp()
    is_there = problem.weights > 0
    outside = (~problem.knows & problem.active.unsqueeze(2)).to(q.dtype)
    tiny = torch.finfo(q.dtype).tiny
    seen = torch.einsum("bka,ba->bk", outside, q).clamp(min=tiny)
    excess = (seen.log() - problem.dustbins.clamp(min=tiny).log()).masked_fill(~problem.active, 0.0)
    knowing = 1 + (problem.knows & problem.active.unsqueeze(2)).sum(dim=1)  # [batch, atoms]
    own = torch.where(is_there, log_q - problem.weights.log(), 0.0)
    slope = knowing * own + torch.einsum("bk,bka->ba", excess, outside)
    sources = 1 + problem.active.sum(dim=1, keepdim=True)
    mean = (q * slope).sum(dim=1, keepdim=True)
    gradient = torch.where(is_there, q * (slope - mean), 0.0).abs().max()
    log_q = log_q - slope / sources
    return log_q - log_q.logsumexp(1, keepdim=True), float(gradient)
