"""What a teacher is, and how its answers become logits."""

import math
from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from attar.errors import AttarError, DataError, ShapeError

Answers = Literal["logits", "probabilities"]  # what a model answers with

# What becomes of the part that probabilities lack to a sum of 1: each row is divided by its sum, or
# the class at this position gets it.
Rest = int | Literal["renormalize"]

# What log 0 becomes: finite in float16, in which logits are stored, and still without any mass
# (exactly 0 in float32) at every temperature up to 96, as exp(-10000 / 96) underflows.
ZERO_LOGIT = -10_000.0

_ROUNDING = 1e-2  # how far probabilities may be from summing to 1: float16, or two decimals
_SUSPICION = 1e-4  # logits whose rows sum to 1 this closely, none negative, are probabilities
_FLAT_ROWS = 8  # so many rows without a negative score, all with sums in 0.5..1, are as well


@runtime_checkable
class Examples(Protocol):
    """What a teacher is asked about; `attar.data.Batch` is one."""

    @property
    def inputs(self) -> Tensor:
        """Shape `[batch, *shape]`, as a network takes them."""

    @property
    def indices(self) -> Tensor:
        """Positions in the transfer set, `[batch]`, int64."""


@runtime_checkable
class Teacher(Protocol):
    """Anything that answers examples with logits, and can say which teacher it is."""

    @property
    def classes(self) -> int:
        """How many classes it tells apart."""

    @property
    def members(self) -> int | None:
        """How many members its logits come from; None for a single teacher, without that axis."""

    @property
    def reads_inputs(self) -> bool:
        """Whether it looks at the inputs; if not, it knows the plain examples alone, no views."""

    def logits(self, batch: Examples) -> Float[Tensor, "*members batch classes"]:
        """Answer `[batch, classes]`, or `[members, batch, classes]`, in nats, without gradient."""

    def fingerprint(self) -> str:
        """Hash by SHA-256 what decides its answers."""


def to_logits(
    scores: Tensor,
    *,
    answers: Answers,
    classes: int,
    indices: Tensor,
    name: str,
    rest: Rest | None = None,
) -> Float[Tensor, "batch classes"]:
    """Check what a model answered, and turn it into logits.

    A probability p becomes log p, and log 0 becomes `ZERO_LOGIT`. Logits stay as they are, even
    where they are not finite: who stores them stops there.

    Args:
        scores: The answer, expected in `[batch, classes]`.
        answers: What it is.
        classes: How many classes the transfer set has.
        indices: The examples that were asked about, for the errors.
        name: Who answered, for the errors.
        rest: What to do with probabilities that sum to less than 1; by default they are an error.

    Returns:
        Logits `[batch, classes]`, float64 if the answer was, float32 else, without gradient.

    Raises:
        ShapeError: If the answer has another shape.
        DataError: If the answer is not what `answers` says.
    """
    _check_shape(list(scores.shape), answers, classes, len(indices), name)
    scores = scores.detach()
    scores = scores if scores.dtype == torch.float64 else scores.float()
    if answers == "logits":
        _check_no_probabilities(scores, name)
        return scores
    _check_probabilities(scores, indices, name, rest)
    scores = scores.clamp(min=0)
    if rest == "renormalize":
        scores = scores / scores.sum(dim=1, keepdim=True)
    elif rest is not None:
        missing = 1 - scores.sum(dim=1)  # [batch]
        scores[:, rest] += missing.where(missing > _SUSPICION, 0)  # less is rounding
    return scores.log().clamp(min=ZERO_LOGIT)


def check_class_count(found: int, *, classes: int, name: str) -> None:
    """Raise `ShapeError` if a teacher is known to tell another number of classes apart."""
    if found != classes:
        raise ShapeError(
            f"expected a teacher of the transfer set's {classes} classes, "
            f"got one of {found}: {name}; {_class_remedy()}"
        )


def find_classes(
    names: Sequence[str], class_names: Sequence[str] | None, *, name: str, remedy: str
) -> tuple[int, ...]:
    """Return where each class of the transfer set stands among the classes of a teacher.

    Classes are matched by name. They are matched by position where there is nothing to compare:
    the transfer set or the teacher calls its classes "0", "1", ...

    Args:
        names: Names of the teacher's classes, in its order.
        class_names: Names of the transfer set's classes; None if they are not known.
        name: The teacher, for the errors.
        remedy: What to do about other names, for the errors.

    Raises:
        ShapeError: If the number of classes differs, and the names have nothing in common.
        DataError: If only some of the names match, or none of them.
    """
    names = list(names)
    wanted = names if class_names is None else list(class_names)
    if sorted(names) == sorted(wanted):
        places = {label: place for place, label in enumerate(names)}
        return tuple(places[label] for label in wanted)
    numbers = [str(place) for place in range(len(wanted))]
    if set(names).isdisjoint(wanted) or numbers in (names, wanted):
        check_class_count(len(names), classes=len(wanted), name=name)
    if numbers in (names, wanted):
        return tuple(range(len(names)))
    theirs, ours = set(names), set(wanted)
    missing = [label for label in wanted if label not in theirs]
    extra = [label for label in names if label not in ours]
    raise DataError(
        f"expected the transfer set's classes {wanted[:5]}, got {names[:5]} in {name}, which "
        f"lacks {missing[:5]} and has {extra[:5]}; {remedy}"
    )


def parse_rest(rest: str | None, class_names: Sequence[str] | None, classes: int) -> Rest | None:
    """Read the option `rest` of `as_teacher`: "renormalize", or "class:" and a class's name.

    Raises:
        AttarError: If it is neither, or there is no such class.
    """
    if rest is None:
        return None
    if rest == "renormalize":
        return "renormalize"
    names = list(class_names or map(str, range(classes)))
    kind, _, wanted = rest.partition(":")
    if kind != "class":
        raise AttarError(f'expected rest="renormalize" or rest="class:<name>", got {rest!r}')
    if wanted not in names:
        raise AttarError(f"expected rest= to name one of the classes {names[:5]}, got {wanted!r}")
    return names.index(wanted)


def answers_key(answers: Answers, rest: Rest | None) -> tuple[object, ...]:
    """Return what a fingerprint has to hold of how scores become logits."""
    return (answers,) if rest is None else (answers, rest)


def _class_remedy() -> str:
    return "do both use one class list? a function may pick and order the teacher's columns"


def _check_shape(shape: list[int], answers: Answers, classes: int, rows: int, name: str) -> None:
    if shape == [rows, classes]:
        return
    if classes == 2 and shape in ([rows], [rows, 1]):
        both = "[torch.zeros_like(z), z]" if answers == "logits" else "[1 - p, p]"
        what = "logit z" if answers == "logits" else "probability p"
        raise ShapeError(
            f"expected {answers} of the transfer set's 2 classes, got one score for each example "
            f"{shape} from {name}; if it is the {what} of class 1, wrap it in a function or module "
            f"that returns torch.cat({both}, 1), each of shape [batch, 1]"
        )
    if len(shape) == 2 and shape[0] == rows:
        raise ShapeError(
            f"expected {answers} for the transfer set's {classes} classes, "
            f"got {shape[1]} from {name}; {_class_remedy()}"
        )
    advice = "wrap it in a function that returns that"
    if len(shape) > 2 and classes in shape:
        advice = (
            "does it classify each token or pixel, instead of each example? such models are "
            "distilled with attar.TrainingRun and a loss of your own"
        )
    raise ShapeError(
        f"expected an answer [batch, classes] of {[rows, classes]}, got {shape} from {name}; "
        f"{advice}"
    )


def _check_probabilities(scores: Tensor, indices: Tensor, name: str, rest: Rest | None) -> None:
    sums = scores.sum(dim=1)  # [batch]
    good = (scores >= -_ROUNDING).all(dim=1) & (sums <= 1 + _ROUNDING)  # NaN is not good
    if rest is None:
        good &= sums >= 1 - _ROUNDING
    elif rest == "renormalize":
        good &= sums > 0
    if good.all():
        return
    row = int((~good).nonzero()[0])
    smallest, largest, total = (
        float(each) for each in (scores[row].min(), scores[row].max(), sums[row])
    )
    raise DataError(
        f"expected probabilities that sum to 1 from {name}, got a sum of {total:.4g} with a "
        f"smallest of {smallest:.4g} and a largest of {largest:.4g} for example "
        f"{int(indices[row])}; {_probability_remedy(smallest, largest, total)}"
    )


def _probability_remedy(smallest: float, largest: float, total: float) -> str:
    if math.isnan(total):
        return "NaN is no probability: look for a missing value or a division by zero"
    if smallest < -_ROUNDING:
        return 'if these are logits, say as_teacher(..., answers="logits")'
    if largest > 1 + _ROUNDING:
        return (
            "if these are counts or percentages, divide each row by its sum; if they are logits, "
            'say as_teacher(..., answers="logits")'
        )
    if total > 1:
        return (
            "is this a multi-label model with a sigmoid for each class? attar.label and "
            "attar.distill take classifiers with one true class for each example; distill such a "
            "model with attar.TrainingRun and a loss of your own"
        )
    if total == 0:
        return 'no class has any probability; leave the example out, or say rest="class:<name>"'
    return (
        'if small ones were cut off, say as_teacher(..., rest="renormalize"), which divides each '
        'row by its sum, or rest="class:<name>", which gives the missing part to that class'
    )


def _check_no_probabilities(scores: Tensor, name: str) -> None:
    if scores.shape[1] < 2 or not len(scores) or not (scores >= 0).all():
        return
    sums = scores.sum(dim=1)  # [batch]
    if ((sums - 1).abs() <= _SUSPICION).all():
        raise DataError(
            f"expected logits from {name}, got rows that sum to 1 with nothing below 0; "
            'try as_teacher(..., answers="probabilities"), or leave out its softmax'
        )
    if len(scores) >= _FLAT_ROWS and ((sums >= 0.5) & (sums <= 1 + _SUSPICION)).all():
        raise DataError(
            f"expected logits from {name}, got rows with nothing below 0 and sums from "
            f"{float(sums.min()):.3g} to {float(sums.max()):.3g}; if these are probabilities of "
            'which small ones were cut off, say as_teacher(..., answers="probabilities", '
            'rest="renormalize") or rest="class:<name>"'
        )
