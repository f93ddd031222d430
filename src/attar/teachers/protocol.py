"""The protocol of teachers, and the conversion of their outputs to logits."""

import math
from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from attar.errors import AttarError, DataError, ShapeError

Answers = Literal["logits", "probabilities"]  # the output of a model

# How to treat probabilities that sum to less than 1: divide each row by its sum, or add the missing
# part to the class at this position.
Rest = int | Literal["renormalize"]

# The value of log 0: finite in float16, in which logits are stored, and with probability exactly 0
# in float32 at every temperature up to 96, because exp(-10000 / 96) underflows.
ZERO_LOGIT = -10_000.0

_ROUNDING = 1e-2  # tolerance of sums of probabilities: float16, or two decimals
_SUSPICION = 1e-4  # logits whose rows sum to 1 this closely, none negative, are probabilities
_FLAT_ROWS = 8  # this many nonnegative rows with sums in 0.5..1 are probabilities, too


@runtime_checkable
class Examples(Protocol):
    """Examples passed to a teacher, such as `attar.data.Batch`."""

    @property
    def inputs(self) -> Tensor:
        """Inputs of a network, `[batch, *shape]`."""

    @property
    def indices(self) -> Tensor:
        """Positions in the transfer set, `[batch]`, int64."""


@runtime_checkable
class Teacher(Protocol):
    """Anything that returns logits for examples and has a fingerprint."""

    @property
    def classes(self) -> int:
        """Number of classes."""

    @property
    def members(self) -> int | None:
        """Number of members; None for a single teacher, whose logits have no such axis."""

    @property
    def reads_inputs(self) -> bool:
        """Whether it uses the inputs; if not, it covers only the plain examples, no views."""

    def logits(self, batch: Examples) -> Float[Tensor, "*members batch classes"]:
        """Return `[batch, classes]` or `[members, batch, classes]`, in nats, without gradient."""

    def fingerprint(self) -> str:
        """Return a SHA-256 hash of everything that affects its outputs."""


def to_logits(
    scores: Tensor,
    *,
    answers: Answers,
    classes: int,
    indices: Tensor,
    name: str,
    rest: Rest | None = None,
) -> Float[Tensor, "batch classes"]:
    """Check the output of a model and convert it to logits.

    A probability p becomes log p, and log 0 becomes `ZERO_LOGIT`. Logits are returned unchanged,
    even if they are not finite; storing them raises an error.

    Args:
        scores: The output, expected as `[batch, classes]`.
        answers: Kind of the output.
        classes: Number of classes of the transfer set.
        indices: Positions of the examples, for errors.
        name: Name of the model, for errors.
        rest: How to treat probabilities that sum to less than 1; by default they are an error.

    Returns:
        Logits `[batch, classes]` without gradient; float64 if the output was, else float32.

    Raises:
        ShapeError: If the output has another shape.
        DataError: If the output does not match `answers`.
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
    """Raise `ShapeError` if a teacher has another number of classes."""
    if found != classes:
        raise ShapeError(
            f"expected a teacher of the transfer set's {classes} classes, "
            f"got one of {found}: {name}; {_class_remedy()}"
        )


def find_classes(
    names: Sequence[str], class_names: Sequence[str] | None, *, name: str, remedy: str
) -> tuple[int, ...]:
    """Return the position of each class of the transfer set among the classes of a teacher.

    Classes are matched by name. They are matched by position if the classes of the transfer set or
    the teacher are named "0", "1", ...

    Args:
        names: Names of the teacher's classes, in its order.
        class_names: Names of the transfer set's classes; None if unknown.
        name: Name of the teacher, for errors.
        remedy: Advice in case of different names, for errors.

    Raises:
        ShapeError: If the number of classes differs, and no names match.
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
    """Return the options for converting scores to logits, for fingerprints."""
    return (answers,) if rest is None else (answers, rest)


def _class_remedy() -> str:
    return "do both use the same class list? wrap the teacher in a function that selects columns"


def _check_shape(shape: list[int], answers: Answers, classes: int, rows: int, name: str) -> None:
    if shape == [rows, classes]:
        return
    if classes == 2 and shape in ([rows], [rows, 1]):
        both = "[torch.zeros_like(z), z]" if answers == "logits" else "[1 - p, p]"
        what = "logit z" if answers == "logits" else "probability p"
        raise ShapeError(
            f"expected {answers} of the transfer set's 2 classes, got one score per example "
            f"{shape} from {name}; if it is the {what} of class 1, wrap it in a function or module "
            f"that returns torch.cat({both}, 1), each of shape [batch, 1]"
        )
    if len(shape) == 2 and shape[0] == rows:
        raise ShapeError(
            f"expected {answers} for the transfer set's {classes} classes, "
            f"got {shape[1]} from {name}; {_class_remedy()}"
        )
    advice = "wrap it in a function that returns this shape"
    if len(shape) > 2 and classes in shape:
        advice = (
            "does it classify each token or pixel instead of each example? to distill such models, "
            "use attar.TrainingRun with a custom loss"
        )
    raise ShapeError(
        f"expected an output [batch, classes] of shape {[rows, classes]}, got {shape} from {name}; "
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
        f"expected probabilities that sum to 1 from {name}, got a sum of {total:.4g}, minimum "
        f"{smallest:.4g} and maximum {largest:.4g} for example {int(indices[row])}; "
        f"{_probability_remedy(smallest, largest, total)}"
    )


def _probability_remedy(smallest: float, largest: float, total: float) -> str:
    if math.isnan(total):
        return "NaN is not a probability: look for a missing value or a division by zero"
    if smallest < -_ROUNDING:
        return 'if these are logits, pass as_teacher(..., answers="logits")'
    if largest > 1 + _ROUNDING:
        return (
            "if these are counts or percentages, divide each row by its sum; if they are logits, "
            'pass as_teacher(..., answers="logits")'
        )
    if total > 1:
        return (
            "is this a multi-label model with one sigmoid per class? attar.label and attar.distill "
            "support classifiers with one true class per example; to distill such a model, use "
            "attar.TrainingRun with a custom loss"
        )
    if total == 0:
        return 'all probabilities are 0; remove the example, or pass rest="class:<name>"'
    return (
        'if small ones are missing, pass as_teacher(..., rest="renormalize"), which divides each '
        'row by its sum, or rest="class:<name>", which adds the missing part to that class'
    )


def _check_no_probabilities(scores: Tensor, name: str) -> None:
    if scores.shape[1] < 2 or not len(scores) or not (scores >= 0).all():
        return
    sums = scores.sum(dim=1)  # [batch]
    if ((sums - 1).abs() <= _SUSPICION).all():
        raise DataError(
            f"expected logits from {name}, got nonnegative rows that sum to 1; "
            'pass as_teacher(..., answers="probabilities"), or remove its softmax'
        )
    if len(scores) >= _FLAT_ROWS and ((sums >= 0.5) & (sums <= 1 + _SUSPICION)).all():
        raise DataError(
            f"expected logits from {name}, got nonnegative rows with sums from "
            f"{float(sums.min()):.3g} to {float(sums.max()):.3g}; if these are probabilities "
            'without the small ones, pass as_teacher(..., answers="probabilities", '
            'rest="renormalize") or rest="class:<name>"'
        )
