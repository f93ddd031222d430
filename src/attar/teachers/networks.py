"""Teachers made from torch modules, functions and lists of teachers."""

import hashlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.answers import find_logits
from attar.errors import AttarError, ShapeError
from attar.modes import evaluation_mode
from attar.precision import Precision, autocast
from attar.teachers.fingerprints import hash_network
from attar.teachers.frames import is_frame, read_frame, stack_columns
from attar.teachers.protocol import Answers, Examples, Rest, Teacher, answers_key, to_logits


@dataclass(frozen=True)
class NetworkTeacher:
    """A torch module, run in evaluation mode on the device of its weights.

    The fingerprint covers the architecture, weights and buffers, but not the precision. The logits
    are found in its output by `attar.answers.find_logits`.
    """

    network: nn.Module
    classes: int
    answers: Answers = "logits"
    precision: Precision = "float32"
    rest: Rest | None = None  # see `to_logits`
    members: None = None
    reads_inputs: bool = True

    @property
    def name(self) -> str:
        """Name in errors."""
        return f"the network {type(self.network).__name__}"

    def logits(self, batch: Examples) -> Float[Tensor, "batch classes"]:
        """Run the network and return its logits on the CPU; its mode is unchanged.

        Raises:
            ShapeError: If the output has another shape.
            DataError: If the output has no logits, or does not match `answers`.
        """
        first = next(self.network.parameters(), None)
        inputs = batch.inputs if first is None else batch.inputs.to(first.device)
        with evaluation_mode(self.network), torch.no_grad(), autocast(self.network, self.precision):
            answer = self.network(inputs)
        return to_logits(
            find_logits(answer, self.name).cpu(),
            answers=self.answers,
            classes=self.classes,
            indices=batch.indices,
            name=self.name,
            rest=self.rest,
        )

    def fingerprint(self) -> str:
        """Hash architecture, weights and buffers."""
        return hash_network(self.network, *answers_key(self.answers, self.rest))


@dataclass(frozen=True)
class FunctionTeacher:
    """A function from inputs `[batch, *shape]` to scores `[batch, classes]`.

    It may return a tensor, an array, a table with one column per class, or any output that
    `attar.answers.find_logits` accepts.
    """

    function: Callable[[Tensor], object]
    classes: int
    version: str  # hashed in place of the code
    answers: Answers = "logits"
    rest: Rest | None = None  # see `to_logits`
    wanted_names: tuple[str, ...] | None = None  # of the transfer set's classes, for tables
    members: None = None
    reads_inputs: bool = True

    @property
    def name(self) -> str:
        """Name in errors."""
        kind = getattr(self.function, "__qualname__", type(self.function).__name__)
        return f"the function {kind}"

    def logits(self, batch: Examples) -> Float[Tensor, "batch classes"]:
        """Call the function, without gradient.

        Raises:
            ShapeError: If the output has another shape.
            DataError: If the output has no scores, or they do not match `answers`.
        """
        with torch.no_grad():
            answer = self.function(batch.inputs)
        return to_logits(
            self._find_scores(answer),
            answers=self.answers,
            classes=self.classes,
            indices=batch.indices,
            name=self.name,
            rest=self.rest,
        )

    def fingerprint(self) -> str:
        """Hash the version, because the behavior of a function cannot be hashed."""
        return hash_version(self.version, answers_key(self.answers, self.rest))

    def _find_scores(self, answer: object) -> Tensor:
        if is_frame(answer):
            name = f"the output of {self.name}"
            scores, _ = stack_columns(read_frame(answer, name), self.wanted_names, name)
            return torch.from_numpy(scores)
        if not isinstance(answer, Tensor) and hasattr(answer, "__array__"):
            return torch.from_numpy(answer.__array__().copy())
        return find_logits(answer, self.name).cpu()


class Ensemble:
    """Several teachers of the same classes, whose logits are stored separately.

    The arithmetic or geometric mean can then be taken at any temperature and with any weights,
    without running the teachers again.

    Args:
        teachers: The members; at least one, none of them an ensemble.

    Raises:
        AttarError: If there is no member, or one is an ensemble.
        ShapeError: If the members have different numbers of classes.
    """

    def __init__(self, teachers: Sequence[Teacher]) -> None:
        """Check that the members fit together."""
        if not teachers:
            raise AttarError("expected at least one member, got an empty ensemble")
        nested = [index for index, each in enumerate(teachers) if each.members is not None]
        if nested:
            raise AttarError(
                f"expected single teachers as members, got an ensemble at {nested[0]}; "
                "list its members instead"
            )
        counts = [each.classes for each in teachers]
        if len(set(counts)) > 1:
            raise ShapeError(f"expected members of the same classes, got {counts} classes")
        self.teachers = tuple(teachers)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.teachers[0].classes

    @property
    def members(self) -> int:
        """Number of members."""
        return len(self.teachers)

    @property
    def reads_inputs(self) -> bool:
        """Whether all members use the inputs."""
        return all(each.reads_inputs for each in self.teachers)

    def logits(self, batch: Examples) -> Float[Tensor, "members batch classes"]:
        """Run each member."""
        answers = [each.logits(batch) for each in self.teachers]
        widest = max((each.dtype for each in answers), key=lambda dtype: dtype.itemsize)
        return torch.stack([each.to(widest) for each in answers])  # [members, batch, classes]

    def fingerprint(self) -> str:
        """Hash the members' fingerprints, in order."""
        return hash_members([each.fingerprint() for each in self.teachers])


def check_one_input(function: Callable[..., object], name: str) -> None:
    """Raise `AttarError` if a function, or a module's `forward`, cannot be called with one tensor.

    Functions without a signature are accepted.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(None)
    except TypeError as error:
        raise AttarError(
            f"expected {name} to take one tensor of inputs, got {signature} ({error}); wrap it in "
            "a function or module with one input, or pass its logits for the set instead"
        ) from error


def hash_members(fingerprints: Sequence[str]) -> str:
    """Hash an ensemble by its members' fingerprints, in order."""
    return hash_version("\n".join(["ensemble", *fingerprints]))


def hash_version(version: str, read: tuple[object, ...] = ("logits",)) -> str:
    """Hash a version text and the options for reading the outputs."""
    how = "" if read == ("logits",) else f"{read} "
    return hashlib.sha256(f"{how}version:{version}".encode()).hexdigest()
