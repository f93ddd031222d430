"""What an explorer is made from."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from attar.data import TransferSet
from attar.errors import AttarError, ShapeError, check_positive


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A teacher or a student, by the name that the page shows."""

    name: str
    network: nn.Module | None = None  # if it is to answer drawings in the page


@dataclass(frozen=True, slots=True, eq=False)
class ExampleSet:
    """Examples with the logits of every model."""

    name: str  # "test", "transfer"
    examples: TransferSet
    logits: Mapping[str, Tensor]  # by the model's name: [examples, classes]
    pictures: Tensor | None = None  # [examples, height, width, 1 or 3] bytes; None: the inputs
    caption: str = ""  # what a picture shows


@dataclass(frozen=True, slots=True, eq=False)
class Exploration:
    """A teacher, its students and what they say about some examples.

    Raises:
        AttarError: If there is no student or no set, two models have one name, or the sets'
            classes differ.
        ShapeError: If logits are missing or are not `[examples, classes]`.
    """

    title: str
    teacher: Model
    students: tuple[Model, ...]  # the first is the one to begin with
    sets: tuple[ExampleSet, ...]
    temperature: float  # with which the students were distilled
    facts: Mapping[str, str] = field(default_factory=dict)  # where it is from, for the page's end

    def __post_init__(self) -> None:
        """Check that everything fits together."""
        check_positive(temperature=self.temperature)
        names = [model.name for model in self.models]
        if not self.students or not self.sets or len(set(names)) < len(names):
            raise AttarError(
                "expected a set, a student and a name of its own for each model, got "
                f"{len(self.sets)} set(s) and the models {', '.join(map(repr, names))}"
            )
        for shown in self.sets:
            if shown.examples.class_names != self.class_names:
                raise AttarError(f"expected sets of the same classes, {shown.name!r} has others")
            _check_pictures(shown)
            expected = [len(shown.examples), len(self.class_names)]
            for name in names:
                found = list(shown.logits[name].shape) if name in shown.logits else None
                if found != expected:
                    raise ShapeError(
                        f"expected logits {expected} of {name!r} on {shown.name!r}, got {found}"
                    )

    @property
    def models(self) -> tuple[Model, ...]:
        """The teacher and the students."""
        return (self.teacher, *self.students)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes, in the order of the logits."""
        return self.sets[0].examples.class_names


def _check_pictures(shown: ExampleSet) -> None:
    pictures, count = shown.pictures, len(shown.examples)
    if pictures is None:
        return
    shape = list(pictures.shape)
    fits = len(shape) == 4 and shape[0] == count and shape[3] in (1, 3)
    if not fits or pictures.dtype != torch.uint8:
        expected = f"pictures of bytes [{count}, height, width, 1 or 3]"
        raise ShapeError(f"expected {expected} of {shown.name!r}, got {shape} {pictures.dtype}")
