"""A generalist's and its specialists' answers for a batch, combined into one distribution."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from attar.errors import ShapeError
from attar.specialists.solving import AtomProblem, Direction, mix, solve_atoms

TOLERANCE, MOST_STEPS = 1e-6, 10_000


@dataclass(frozen=True, slots=True)
class SpecialistAnswer:
    """What one specialist says of the examples for which it is active."""

    classes: Int64[Tensor, " special"]  # its own, ascending
    rows: Int64[Tensor, " active"]  # of the batch, ascending
    # The dustbin last, its correction made; a specialist of all classes has none.
    probabilities: Float[Tensor, "active outputs"]


@dataclass(frozen=True, slots=True)
class Combination:
    """The distribution q of each example, and how it was found."""

    log_probabilities: Float[Tensor, "batch classes"]
    steps: int  # of the descent
    gradient: float  # largest entry left in the gradient by the logits of q's atoms


def combine(
    generalist_logits: Float[Tensor, "batch classes"],
    answers: Sequence[SpecialistAnswer],
    *,
    direction: Direction = "KL(p, q)",
    tolerance: float = TOLERANCE,
    most_steps: int = MOST_STEPS,
) -> Combination:
    """Find, for each example, the q nearest to the generalist and its active specialists.

    Examples for which the same specialists are active are laid out together; then all of them are
    solved at once, see `attar.specialists.solving`. An example without an active specialist keeps
    the generalist's answer.

    Args:
        generalist_logits: Of all classes, in nats.
        answers: Of each specialist that is active somewhere.
        direction: Of the divergences; the paper's is KL(p, q).
        tolerance: Largest entry of the gradient with which to stop.
        most_steps: After which it is an error.

    Returns:
        The logarithms of q.

    Raises:
        ShapeError: If an answer does not have a column for each of its classes and the dustbin.
        AttarError: If an option is out of range, or the descent does not come that far.

    Example:
        >>> four = torch.tensor([[0.25, 0.25, 0.25, 0.25]]).log()
        >>> says = torch.tensor([[0.75, 0.05, 0.2]])  # class 0, class 2, all others
        >>> answer = SpecialistAnswer(torch.tensor([0, 2]), torch.tensor([0]), says)
        >>> combine(four, [answer]).log_probabilities.exp()  # (.25 + .75) / 2, ...
        tensor([[0.5000, 0.1750, 0.1500, 0.1750]])

    Source: Hinton et al. (2015), sec. 5.4, eq. 5.
    """
    return combine_in_place(
        torch.log_softmax(generalist_logits.detach(), dim=1),
        answers,
        direction=direction,
        tolerance=tolerance,
        most_steps=most_steps,
    )


def combine_in_place(
    log_p: Float[Tensor, "batch classes"],
    answers: Sequence[SpecialistAnswer],
    *,
    direction: Direction,
    tolerance: float,
    most_steps: int,
) -> Combination:
    """Do the same over the logarithms of the generalist's probabilities, which may be large."""
    for answer in answers:
        _check(answer, log_p.shape[1])
    if not any(len(answer.rows) for answer in answers):
        return Combination(log_p, steps=0, gradient=0.0)
    active = _activity(answers, len(log_p))
    patterns, of_pattern = active.unique(dim=0, return_inverse=True)
    parts = [
        _lay_out(log_p, answers, chosen, (of_pattern == place).nonzero().squeeze(1), direction)
        for place, pattern in enumerate(patterns)
        if (chosen := pattern.nonzero().squeeze(1).tolist())
    ]
    solved = solve_atoms(
        _pad(parts), direction=direction, tolerance=tolerance, most_steps=most_steps
    )
    starts = np.cumsum([0, *(len(part.rows) for part in parts)]).tolist()
    shifts = [
        part.shifts(solved.log_totals[start:stop])
        for part, start, stop in zip(parts, starts, starts[1:], strict=False)
    ]
    of_rest = log_p.new_zeros(len(log_p), 1)
    for part, shift in zip(parts, shifts, strict=True):
        of_rest[part.rows] = shift[:, -1:].to(log_p.dtype)
    log_q = log_p.add_(of_rest)
    for part, shift in zip(parts, shifts, strict=True):
        of_touched = part.log_mixed + shift[:, part.atom_of]
        log_q[part.rows[:, None], part.touched] = of_touched.to(log_q.dtype)
    return Combination(log_q, solved.steps, solved.gradient)


@dataclass(frozen=True, slots=True)
class _Part:
    """Examples with the same active specialists."""

    rows: Tensor  # of the batch [rows]
    touched: Tensor  # classes that a specialist knows, ascending [touched]
    atom_of: Tensor  # of each touched class [touched]
    knows: Tensor  # [specialists, atoms]; the last atom is of all classes not touched
    log_mixed: Tensor  # what q is in proportion to within an atom [rows, touched]
    weights: Tensor  # of each atom [rows, atoms]
    dustbins: Tensor  # [rows, specialists]

    def shifts(self, log_totals: Tensor) -> Tensor:
        """Return, for each atom, log q less the logarithm of what it is in proportion to."""
        tiny = torch.finfo(torch.float64).tiny
        return log_totals[:, : self.weights.shape[1]] - self.weights.clamp(min=tiny).log()


def _lay_out(
    log_p: Tensor,
    answers: Sequence[SpecialistAnswer],
    chosen: Sequence[int],
    rows: Tensor,
    direction: Direction,
) -> _Part:
    """Find the atoms of one set of active specialists, and what its examples weigh in them."""
    groups = [answers[each].classes for each in chosen]
    said = [_of_rows(answers[each], rows) for each in chosen]  # each [rows, outputs]
    touched, place = torch.cat(groups).unique(return_inverse=True)
    places = place.split([len(group) for group in groups])
    member = torch.zeros(len(chosen), len(touched), dtype=torch.int64)
    atom_of = torch.zeros_like(touched)
    for own, its in zip(member, places, strict=True):
        own[its] = 1
        atom_of = (2 * atom_of + own).unique(return_inverse=True)[1]
    atoms = int(atom_of.max()) + 1
    knows = torch.zeros(len(chosen), atoms + 1, dtype=torch.bool)
    knows[:, atom_of] = member.bool()

    log_generalist = log_p[rows[:, None], touched].double()
    own_said = [p[:, : len(group)] for p, group in zip(said, groups, strict=True)]
    log_mixed = mix(log_generalist, own_said, places, direction=direction)
    weights = log_mixed.new_zeros(len(rows), atoms + 1)
    weights.index_add_(1, atom_of, log_mixed.exp())
    if len(touched) < log_p.shape[1]:
        weights[:, -1] = (1 - log_generalist.exp().sum(dim=1)).clamp(min=1e-12)
    dustbins = [p[:, len(group) :].sum(dim=1) for p, group in zip(said, groups, strict=True)]
    return _Part(rows, touched, atom_of, knows, log_mixed, weights, torch.stack(dustbins, dim=1))


def _of_rows(answer: SpecialistAnswer, rows: Tensor) -> Tensor:
    return answer.probabilities[torch.searchsorted(answer.rows, rows)].double()


def _pad(parts: Sequence[_Part]) -> AtomProblem:
    """Lay the parts one below the other; what a part lacks in atoms or specialists is 0."""
    rows = sum(len(part.rows) for part in parts)
    atoms = max(part.weights.shape[1] for part in parts)
    specialists = max(part.dustbins.shape[1] for part in parts)
    weights = torch.zeros(rows, atoms, dtype=torch.float64)
    dustbins = torch.zeros(rows, specialists, dtype=torch.float64)
    knows = torch.zeros(rows, specialists, atoms, dtype=torch.bool)
    active = torch.zeros(rows, specialists, dtype=torch.bool)
    start = 0
    for part in parts:
        here = slice(start, start + len(part.rows))
        weights[here, : part.weights.shape[1]] = part.weights
        dustbins[here, : part.dustbins.shape[1]] = part.dustbins
        knows[here, : part.knows.shape[0], : part.knows.shape[1]] = part.knows
        active[here, : part.dustbins.shape[1]] = True
        start = here.stop
    return AtomProblem(weights, dustbins, knows, active)


def _activity(answers: Sequence[SpecialistAnswer], batch: int) -> Bool[Tensor, "batch answers"]:
    active = torch.zeros(batch, len(answers), dtype=torch.bool)
    for place, answer in enumerate(answers):
        active[answer.rows, place] = True
    return active


def _check(answer: SpecialistAnswer, classes: int) -> None:
    special, outputs = len(answer.classes), answer.probabilities.shape[1]
    expected = special if special == classes else special + 1
    if outputs != expected or len(answer.rows) != len(answer.probabilities):
        raise ShapeError(
            f"expected probabilities [{len(answer.rows)}, {expected}] of a specialist of {special} "
            f"of {classes} classes, got {list(answer.probabilities.shape)}; is its dustbin missing?"
        )
