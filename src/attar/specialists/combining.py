"""A generalist's and its specialists' answers for a batch, combined into one distribution."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from attar.errors import ShapeError
from attar.specialists.solving import AtomProblem, Direction, mix_atom, solve_atoms

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
    log_p = torch.log_softmax(generalist_logits, dim=1)  # [batch, classes]
    classes = log_p.shape[1]
    for answer in answers:
        _check(answer, classes)
    if not any(len(answer.rows) for answer in answers):
        return Combination(log_p, steps=0, gradient=0.0)
    active = _activity(answers, len(log_p))
    patterns, of_pattern = active.unique(dim=0, return_inverse=True)
    parts = [
        _lay_out(log_p, answers, pattern, rows, direction)
        for place, pattern in enumerate(patterns)
        if pattern.any() and len(rows := (of_pattern == place).nonzero().squeeze(1))
    ]
    solved = solve_atoms(
        _pad(parts), direction=direction, tolerance=tolerance, most_steps=most_steps
    )
    log_q = log_p.clone()
    start = 0
    for part in parts:
        totals = solved.log_totals[start : start + len(part.rows), : part.weights.shape[1]]
        part.write(log_q, totals)
        start += len(part.rows)
    return Combination(log_q, solved.steps, solved.gradient)


@dataclass(frozen=True, slots=True)
class _Part:
    """Examples with the same active specialists."""

    rows: Tensor  # of the batch [rows]
    touched: Tensor  # classes that a specialist knows [touched]
    atom_of: Tensor  # of each touched class [touched]
    knows: Tensor  # [specialists, atoms]; the last atom is of all classes not touched
    mixed: Tensor  # of each touched class [rows, touched]
    weights: Tensor  # of each atom [rows, atoms]
    dustbins: Tensor  # [rows, specialists]

    def write(self, log_q: Tensor, log_totals: Tensor) -> None:
        """Put q of these examples into the batch's, which holds the generalist's log p."""
        tiny = torch.finfo(torch.float64).tiny
        shift = log_totals - self.weights.clamp(min=tiny).log()  # [rows, atoms]
        log_q[self.rows] += shift[:, -1:].to(log_q.dtype)
        of_touched = self.mixed.clamp(min=tiny).log() + shift[:, self.atom_of]
        log_q[self.rows[:, None], self.touched] = of_touched.to(log_q.dtype)


def _lay_out(
    log_p: Tensor,
    answers: Sequence[SpecialistAnswer],
    pattern: Tensor,
    rows: Tensor,
    direction: Direction,
) -> _Part:
    """Find the atoms of one set of active specialists, and what its examples weigh in them."""
    chosen = [answers[place] for place in pattern.nonzero().squeeze(1).tolist()]
    is_own = torch.zeros(len(chosen), log_p.shape[1], dtype=torch.bool)
    for place, answer in enumerate(chosen):
        is_own[place, answer.classes] = True
    touched = is_own.any(dim=0).nonzero().squeeze(1)
    knows, atom_of = is_own[:, touched].unique(dim=1, return_inverse=True)
    said = []
    for answer in chosen:
        p = answer.probabilities[torch.searchsorted(answer.rows, rows)].double()
        said.append(p)
    # The generalist's p may have underflowed in exp: its own logarithms know better, later.
    p_generalist = log_p[rows][:, touched].double().exp()
    mixed = torch.empty_like(p_generalist)
    weights = p_generalist.new_zeros(len(rows), knows.shape[1] + 1)
    for atom in range(knows.shape[1]):
        columns = (atom_of == atom).nonzero().squeeze(1)
        sources = [p_generalist[:, columns]]
        for knowing, answer, p in zip(knows[:, atom].tolist(), chosen, said, strict=True):
            if knowing:
                sources.append(p[:, torch.searchsorted(answer.classes, touched[columns])])
        mixed[:, columns] = mix_atom(torch.stack(sources), direction=direction)
        weights[:, atom] = mixed[:, columns].sum(dim=1)
    if len(touched) < log_p.shape[1]:
        weights[:, -1] = (1 - p_generalist.sum(dim=1)).clamp(min=1e-12)
    dustbins = torch.stack(
        [
            p[:, -1] if p.shape[1] > len(answer.classes) else p.new_zeros(len(p))
            for answer, p in zip(chosen, said, strict=True)
        ],
        dim=1,
    )
    knows = torch.cat([knows, knows.new_zeros(len(chosen), 1)], dim=1)
    return _Part(rows, touched, atom_of, knows, mixed, weights, dustbins)


def _pad(parts: Sequence[_Part]) -> AtomProblem:
    """Lay the parts one below the other; what a part lacks in atoms or specialists is 0."""
    rows = sum(len(part.rows) for part in parts)
    atoms = max(part.weights.shape[1] for part in parts)
    specialists = max(part.dustbins.shape[1] for part in parts)
    weights = torch.zeros(rows, atoms, dtype=torch.float64)
    dustbins = torch.zeros(rows, specialists, dtype=torch.float64)
    knows = torch.zeros(rows, specialists, atoms, dtype=torch.bool)
    active: Bool[Tensor, "rows specialists"] = torch.zeros(rows, specialists, dtype=torch.bool)
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
