"""A generalist's and its specialists' answers for a batch, combined into one distribution."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from attar.errors import AttarError, ShapeError
from attar.specialists.solving import AtomProblem, Direction, mix, solve_atoms

TOLERANCE, MOST_STEPS = 1e-6, 10_000
_ROUNDING = 1e-2  # of a sum of probabilities that may be bfloat16
_AT_ONCE = 16  # examples whose classes fit into a processor's cache


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
    steps: int  # of the solver; 0 if no specialists of an example overlap
    gradient: float  # largest entry left in the gradient by the totals of q's atoms


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
        The logarithms of q, float32 or wider. q sums to 1 within 1e-6, however little probability
        the generalist gives to the classes that no specialist knows.

    Raises:
        ShapeError: If an answer does not have a column for each of its classes and the dustbin.
        AttarError: If classes, rows, probabilities or an option are out of range, or the solver
            does not come that far.

    Example:
        >>> four = torch.tensor([[0.25, 0.25, 0.25, 0.25]]).log()
        >>> says = torch.tensor([[0.75, 0.05, 0.2]])  # class 0, class 2, all others
        >>> answer = SpecialistAnswer(torch.tensor([0, 2]), torch.tensor([0]), says)
        >>> combine(four, [answer]).log_probabilities.exp()  # (.25 + .75) / 2, ...
        tensor([[0.5000, 0.1750, 0.1500, 0.1750]])

    Source: Hinton et al. (2015), sec. 5.4, eq. 5.
    """
    for answer in answers:
        _check_shape(answer, generalist_logits.shape[1])
        _check_content(answer, *generalist_logits.shape)
    return combine_unchecked(
        generalist_logits,
        answers,
        direction=direction,
        tolerance=tolerance,
        most_steps=most_steps,
    )


def combine_unchecked(
    generalist_logits: Float[Tensor, "batch classes"],
    answers: Sequence[SpecialistAnswer],
    *,
    direction: Direction,
    tolerance: float,
    most_steps: int,
) -> Combination:
    """Combine answers whose classes, rows and probabilities are known to be in order."""
    for answer in answers:
        _check_shape(answer, generalist_logits.shape[1])
    dtype = torch.promote_types(generalist_logits.dtype, torch.float32)
    log_q = generalist_logits.detach().to(dtype, copy=True)  # large, so changed in place
    layouts = [_lay_out(log_q, answers, *each) for each in _find_patterns(answers, len(log_q))]
    for layout in layouts:
        log_q[layout.rows[:, None], layout.touched] = -torch.inf
    rest = _take_rest(log_q)
    parts = [_weigh(layout, answers, rest, direction) for layout in layouts]
    of_rest, shifts = -rest.log_sums, []  # where no specialist is active: the log-softmax
    steps, gradient = 0, 0.0
    if parts:
        solved = solve_atoms(
            _pad(parts), direction=direction, tolerance=tolerance, most_steps=most_steps
        )
        steps, gradient = solved.steps, solved.gradient
        log_totals = solved.log_totals.split([len(part.rows) for part in parts])
        shifts = [part.shifts(each) for part, each in zip(parts, log_totals, strict=True)]
    for part, shift in zip(parts, shifts, strict=True):
        of_rest[part.rows] = shift[:, -1] + part.rest_peaks
    log_q.add_(of_rest.to(dtype).unsqueeze(1))
    for part, shift in zip(parts, shifts, strict=True):
        of_touched = part.log_mixed + shift[:, part.atom_of]
        log_q[part.rows[:, None], part.touched] = of_touched.to(dtype)
    return Combination(log_q, steps, gradient)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Examples with the same active specialists, and the atoms of these."""

    rows: Tensor  # of the batch [rows]
    specialists: Sequence[int]
    touched: Tensor  # classes that a specialist knows, ascending [touched]
    places: Sequence[Tensor]  # of each specialist's classes among the touched
    atom_of: Tensor  # of each touched class [touched]
    knows: Tensor  # [specialists, atoms]; the last atom is of all classes not touched
    logits: Tensor  # the generalist's, of touched classes [rows, touched]


@dataclass(frozen=True, slots=True)
class _Part:
    """What the examples of a layout weigh in its atoms."""

    rows: Tensor
    touched: Tensor
    atom_of: Tensor
    knows: Tensor
    log_mixed: Tensor  # what q is in proportion to within an atom [rows, touched]
    log_weights: Tensor  # of each atom [rows, atoms]
    dustbins: Tensor  # [rows, specialists]
    rest_peaks: Tensor  # largest log p of the classes not touched [rows]

    def shifts(self, log_totals: Tensor) -> Tensor:
        """Return, for each atom, log q less the logarithm of what it is in proportion to."""
        shifts = log_totals[:, : self.log_weights.shape[1]] - self.log_weights
        return torch.where(self.log_weights > -torch.inf, shifts, 0.0)


@dataclass(frozen=True, slots=True)
class _Rest:
    """What the logits of classes that no active specialist knows amount to: peak + log-sum."""

    peaks: Tensor  # the largest [batch]
    log_sums: Tensor  # log of the sum of exp(logit - peak) [batch]


def _find_patterns(
    answers: Sequence[SpecialistAnswer], batch: int
) -> Iterator[tuple[list[int], Tensor]]:
    """Yield each set of specialists that are active together, and the examples they are for."""
    if not answers:
        return
    active = torch.zeros(batch, len(answers), dtype=torch.bool)
    for place, answer in enumerate(answers):
        active[answer.rows, place] = True
    patterns, of_pattern = active.unique(dim=0, return_inverse=True)
    for place, pattern in enumerate(patterns):
        if specialists := pattern.nonzero().squeeze(1).tolist():
            yield specialists, (of_pattern == place).nonzero().squeeze(1)


def _lay_out(
    logits: Tensor, answers: Sequence[SpecialistAnswer], specialists: Sequence[int], rows: Tensor
) -> _Layout:
    """Find the atoms of specialists that are active together."""
    groups = [answers[each].classes for each in specialists]
    touched, place = torch.cat(groups).unique(return_inverse=True)
    places = place.split([len(group) for group in groups])
    member = torch.zeros(len(groups), len(touched), dtype=torch.int64)
    atom_of = torch.zeros_like(touched)
    for own, its in zip(member, places, strict=True):
        own[its] = 1
        atom_of = (2 * atom_of + own).unique(return_inverse=True)[1]
    knows = torch.zeros(len(groups), int(atom_of.max()) + 2, dtype=torch.bool)
    knows[:, atom_of] = member.bool()
    of_touched = logits[rows[:, None], touched].double()
    return _Layout(rows, specialists, touched, places, atom_of, knows, of_touched)


def _take_rest(logits: Tensor) -> _Rest:
    """Sum up the logits of each row, touched ones being -inf, and subtract the largest in place.

    Their probabilities are summed themselves: 1 less those of the touched classes would be nothing
    but rounding where a generalist is sure of one of these. And relative to the largest, float32
    has more digits of them.
    """
    peaks, sums = [], []
    for rows in logits.split(_AT_ONCE):
        peak = rows.amax(dim=1, keepdim=True)
        rows.sub_(torch.where(peak.isfinite(), peak, 0.0))
        peaks.append(peak.squeeze(1))
        sums.append(rows.exp().sum(dim=1))
    return _Rest(torch.cat(peaks).double(), torch.cat(sums).double().log())


def _weigh(
    layout: _Layout, answers: Sequence[SpecialistAnswer], rest: _Rest, direction: Direction
) -> _Part:
    """Weigh the atoms, with the generalist's log p of all classes."""
    rows, atom_of = layout.rows, layout.atom_of
    said = [_of_rows(answers[each], rows) for each in layout.specialists]  # each [rows, outputs]
    own = [p[:, : len(place)] for p, place in zip(said, layout.places, strict=True)]
    dustbins = [p[:, len(place) :].sum(1) for p, place in zip(said, layout.places, strict=True)]

    peaks, of_rest = rest.peaks[rows], (rest.peaks + rest.log_sums)[rows]
    log_norm = torch.logaddexp(layout.logits.logsumexp(dim=1), of_rest)  # [rows]
    log_generalist = layout.logits - log_norm.unsqueeze(1)
    log_mixed = mix(log_generalist, own, layout.places, direction=direction)
    # The log-sum-exp of each atom's classes; the last atom has none of these.
    largest = log_mixed.new_full((len(rows), layout.knows.shape[1]), -torch.inf)
    largest.scatter_reduce_(1, atom_of.expand_as(log_mixed), log_mixed, "amax")
    largest = torch.where(largest.isfinite(), largest, 0.0)
    sums = torch.zeros_like(largest)
    sums.index_add_(1, atom_of, (log_mixed - largest[:, atom_of]).exp())
    log_weights = largest + sums.log()
    log_weights[:, -1] = of_rest - log_norm
    return _Part(
        rows,
        layout.touched,
        atom_of,
        layout.knows,
        log_mixed,
        log_weights,
        torch.stack(dustbins, dim=1),
        peaks - log_norm,
    )


def _of_rows(answer: SpecialistAnswer, rows: Tensor) -> Tensor:
    return answer.probabilities[torch.searchsorted(answer.rows, rows)].double()


def _pad(parts: Sequence[_Part]) -> AtomProblem:
    """Lay the parts one below the other; see `AtomProblem` for what a part lacks."""
    rows = sum(len(part.rows) for part in parts)
    atoms = max(part.log_weights.shape[1] for part in parts)
    specialists = max(part.dustbins.shape[1] for part in parts)
    log_weights = torch.full((rows, atoms), -torch.inf, dtype=torch.float64)
    dustbins = torch.zeros(rows, specialists, dtype=torch.float64)
    knows = torch.zeros(rows, specialists, atoms, dtype=torch.bool)
    active = torch.zeros(rows, specialists, dtype=torch.bool)
    start = 0
    for part in parts:
        here = slice(start, start + len(part.rows))
        log_weights[here, : part.log_weights.shape[1]] = part.log_weights
        dustbins[here, : part.dustbins.shape[1]] = part.dustbins
        knows[here, : part.knows.shape[0], : part.knows.shape[1]] = part.knows
        active[here, : part.dustbins.shape[1]] = True
        start = here.stop
    return AtomProblem(log_weights, dustbins, knows, active)


def _check_shape(answer: SpecialistAnswer, classes: int) -> None:
    special, outputs = len(answer.classes), answer.probabilities.shape[1]
    expected = special if special == classes else special + 1
    if outputs != expected or len(answer.rows) != len(answer.probabilities):
        raise ShapeError(
            f"expected probabilities [{len(answer.rows)}, {expected}] of a specialist of {special} "
            f"of {classes} classes, got {list(answer.probabilities.shape)}; is its dustbin missing?"
        )


def _check_content(answer: SpecialistAnswer, batch: int, classes: int) -> None:
    """Raise `AttarError` unless classes and rows ascend within range and p sums to 1."""
    for name, values, size in (("classes", answer.classes, classes), ("rows", answer.rows, batch)):
        if len(values) and (
            int(values[0]) < 0 or int(values[-1]) >= size or (values[1:] <= values[:-1]).any()
        ):
            raise AttarError(
                f"expected {name} of a specialist's answer in 0..{size - 1}, ascending, "
                f"got {values.tolist()[:5]}...; sort them, with their probabilities"
            )
    p = answer.probabilities
    if not ((p >= 0).all() and ((p.double().sum(dim=1) - 1).abs() < _ROUNDING).all()):
        raise AttarError(
            "expected a specialist's probabilities, which sum to 1 with the dustbin's, got others; "
            "take the softmax of its logits"
        )
