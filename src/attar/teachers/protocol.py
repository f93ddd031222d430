"""What a teacher is, and how its answers become logits."""

from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from attar.errors import DataError, ShapeError

Answers = Literal["logits", "probabilities"]  # what a model answers with

# What log 0 becomes: finite in float16, in which logits are stored, and still without any mass
# (exactly 0 in float32) at every temperature up to 96, as exp(-10000 / 96) underflows.
ZERO_LOGIT = -10_000.0

_ROUNDING = 1e-2  # how far probabilities may be from summing to 1: float16, or two decimals
_SUSPICION = 1e-4  # logits whose rows sum to 1 this closely, none negative, are probabilities


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
    scores: Tensor, *, answers: Answers, classes: int, indices: Tensor, name: str
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

    Returns:
        Logits `[batch, classes]`, float64 if the answer was, float32 else, without gradient.

    Raises:
        ShapeError: If the answer has another shape.
        DataError: If the answer is not what `answers` says.
    """
    shape = list(scores.shape)
    if len(shape) == 2 and shape[0] == len(indices) and shape[1] != classes:
        raise ShapeError(
            f"expected logits for the transfer set's {classes} classes, "
            f"got {shape[1]} from {name}; {_class_remedy()}"
        )
    if shape != [len(indices), classes]:
        raise ShapeError(
            f"expected an answer [batch, classes] of {[len(indices), classes]}, "
            f"got {shape} from {name}; wrap it in a function that returns that"
        )
    scores = scores.detach()
    scores = scores if scores.dtype == torch.float64 else scores.float()
    if answers == "logits":
        _check_no_probabilities(scores, name)
        return scores
    _check_probabilities(scores, indices, name)
    return scores.clamp(min=0).log().clamp(min=ZERO_LOGIT)


def check_class_count(found: int, *, classes: int, name: str) -> None:
    """Raise `ShapeError` if a teacher is known to tell another number of classes apart."""
    if found != classes:
        raise ShapeError(
            f"expected a teacher of the transfer set's {classes} classes, "
            f"got one of {found}: {name}; {_class_remedy()}"
        )


def _class_remedy() -> str:
    return "do both use one class list? a function may pick and order the teacher's columns"


def _check_probabilities(scores: Tensor, indices: Tensor, name: str) -> None:
    sums = scores.sum(dim=1)  # [batch]
    good = ((sums - 1).abs() <= _ROUNDING) & (scores >= -_ROUNDING).all(dim=1)  # NaN is not good
    if good.all():
        return
    row = int((~good).nonzero()[0])
    smallest, total = float(scores[row].min()), float(sums[row])
    raise DataError(
        f"expected probabilities that sum to 1 from {name}, got a sum of {total:.4g} "
        f"with a smallest of {smallest:.4g} for example {int(indices[row])}; "
        'try as_teacher(..., answers="logits")'
    )


def _check_no_probabilities(scores: Tensor, name: str) -> None:
    if scores.shape[1] < 2 or not (scores >= 0).all():
        return
    if ((scores.sum(dim=1) - 1).abs() <= _SUSPICION).all():
        raise DataError(
            f"expected logits from {name}, got rows that sum to 1 with nothing below 0; "
            'try as_teacher(..., answers="probabilities"), or leave out its softmax'
        )
