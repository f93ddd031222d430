"""What a comparison of models leaves behind: frozen records that a report is made from.

Rates are fractions. A mean that no number can stand for is None: the negative log-likelihood of a
model that gives a true class no probability at all, and everything made of probabilities where an
answer is not a number.
"""

import json
import re
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from attar.errors import FolderError, file_error
from attar.files import write_atomically
from attar.records import Machine

FORMAT = 1
NO_ANSWER = -1  # the prediction where a model's answer is not a number

Outcome = Literal["better", "no difference", "worse"]
Role = Literal["teacher", "baseline", "student", "control"]
Test = Literal["exact McNemar", "paired bootstrap"]

RecordT = TypeVar("RecordT", bound="ComparisonRecord")  # itself, or what extends it

_NUMBERS = re.compile(r"\[\s+(?:-?[\d.eE+-]+|null)(?:,\s+(?:-?[\d.eE+-]+|null))*\s+\]")


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval, at one minus the comparison's level."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The examples that a network is about equally sure of: above `low`, up to `high`."""

    low: float
    high: float
    examples: int
    mean_confidence: float | None  # of the most probable class; None where the bin is empty
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far a network says what its teacher says, on some of the examples."""

    examples: int
    agreement: float | None  # fraction with the teacher's most probable class; None of none
    kl_nats: float | None  # mean of KL(teacher || network) at temperature 1


@dataclass(frozen=True, slots=True)
class TeacherAgreement:
    """Agreement with the teacher on all examples, and split by whether the teacher is right."""

    everywhere: Agreement
    teacher_right: Agreement
    teacher_wrong: Agreement


@dataclass(frozen=True, slots=True)
class NetworkResult:
    """One network on the test set: a model, or one seed of it."""

    errors: int
    accuracy: float
    top5_accuracy: float | None  # None where there are five classes or fewer
    nll: float | None  # mean negative log-likelihood of the true class, nats
    brier: float | None  # mean squared distance of the probabilities from the truth, 0 to 2
    ece: float | None  # expected calibration error over the reliability bins
    not_a_number: int  # examples without probabilities (NaN, +inf), all counted as errors
    class_errors: tuple[int, ...]  # by true class
    reliability: tuple[ReliabilityBin, ...]
    with_teacher: TeacherAgreement | None  # None of the teacher, and where there is none
    fingerprint: str
    predictions: tuple[int, ...] = field(repr=False)  # one an example; `NO_ANSWER` for none


@dataclass(frozen=True, slots=True)
class Speed:
    """How quick one network is, with a number of threads."""

    threads: int
    median_ms: float  # latency of a batch of one example
    p95_ms: float  # the 95th percentile of that
    examples_per_second: float  # throughput of batches of `batch_size`, median
    batch_size: int
    repeats: int  # that the median and the percentile of the latency are from


@dataclass(frozen=True, slots=True)
class GapClosed:
    """Which share of the way from the baseline's errors to the teacher's a model goes."""

    share: float  # 0: as many errors as the baseline, 1: as the teacher
    interval: Interval | None  # None where the gap itself is not sure to be there


@dataclass(frozen=True, slots=True)
class ModelResult:
    """A model: what was measured, for each of its seeds, and what it costs."""

    name: str
    role: Role
    networks: tuple[NetworkResult, ...]  # one a seed
    parameters: int | None  # of the first seed; None where they can't be counted
    size_bytes: int | None  # on disk, of the first seed
    speeds: tuple[Speed, ...]  # one thread, then all; empty where not measured
    gap_closed: GapClosed | None  # None where there is no gap, or no baseline or teacher

    def values(self, measure: str) -> tuple[float, ...] | None:
        """Return a measure for each seed, by its field's name; None if a seed has none."""
        found = [getattr(network, measure) for network in self.networks]
        return None if None in found else tuple(found)

    def mean(self, measure: str) -> float | None:
        """Return a measure's mean over the seeds; None if a seed has none."""
        values = self.values(measure)
        return None if values is None else statistics.fmean(values)

    def sd(self, measure: str) -> float | None:
        """Return a measure's sample standard deviation over the seeds; None of fewer than two."""
        values = self.values(measure)
        return None if values is None or len(values) < 2 else statistics.stdev(values)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a model makes fewer errors than another one, beyond chance."""

    model: str
    other: str
    outcome: Outcome  # of `model`, against `other`
    p_value: float  # after Holm's correction, compared with the level
    raw_p_value: float  # before it
    test: Test
    difference: float  # error rate of `model` less that of `other`; below 0 is better
    interval: Interval  # of the difference, for this pair alone
    only_model_right: float  # examples that `model` gets right and `other` wrong, mean over seeds
    only_other_right: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonRecord:
    """Several models on one labelled set: measurements, costs and verdicts."""

    format: int = FORMAT
    class_names: tuple[str, ...]
    hard_targets: tuple[int, ...] = field(repr=False)  # of the test examples, in order
    level: float  # chance of one BETTER or WORSE or more, if all models were alike
    teacher: str | None  # its name
    baseline: str | None  # the name of the student without distillation
    models: tuple[ModelResult, ...]
    verdicts: tuple[Verdict, ...]  # one for each pair that was judged
    settings: dict[str, Any]  # of the comparison
    data: str  # the test set's fingerprint
    machine: Machine
    made_at: str  # UTC, ISO 8601
    command: str | None = None  # how to repeat it, where a command did it

    @property
    def examples(self) -> int:
        """How many test examples there are."""
        return len(self.hard_targets)

    @property
    def class_examples(self) -> tuple[int, ...]:
        """How many test examples each class has."""
        counts = np.bincount(self.hard_targets, minlength=len(self.class_names))
        return tuple(counts.tolist())

    def model(self, name: str) -> ModelResult:
        """Return a model by its name; `KeyError` if there is none."""
        found = [model for model in self.models if model.name == name]
        if not found:
            raise KeyError(name)
        return found[0]

    def verdict(self, model: str, other: str) -> Verdict | None:
        """Return the verdict on `model` against `other`; None if this pair was not judged."""
        for each in self.verdicts:
            if (each.model, each.other) == (model, other):
                return each
            if (each.other, each.model) == (model, other):
                return reverse(each)
        return None

    def save(self, path: Path | str) -> None:
        """Write the record as JSON.

        Raises:
            FolderError: If the file cannot be written; what it held before is then unharmed.
        """
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False, allow_nan=False)
        # Lists of numbers in one line each; a string has no line break of its own.
        text = _NUMBERS.sub(lambda found: re.sub(r"\s+", " ", found[0]), text)
        write_atomically(Path(path), (text + "\n").encode())

    @classmethod
    def read(cls: type[RecordT], path: Path | str) -> RecordT:
        """Read a record that `save` wrote.

        Raises:
            FolderError: If the file cannot be read, or holds none of this release.
        """
        try:
            return TypeAdapter(cls).validate_json(Path(path).read_bytes())
        except OSError as error:
            raise file_error("read", Path(path), error) from error
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            raise FolderError(
                f"{path} is no comparison of this release ({place}: {first['msg']}); "
                "compare the models again"
            ) from error


_OPPOSITE: dict[Outcome, Outcome] = {
    "better": "worse",
    "no difference": "no difference",
    "worse": "better",
}


def reverse(verdict: Verdict) -> Verdict:
    """Say the same of the other model."""
    return Verdict(
        model=verdict.other,
        other=verdict.model,
        outcome=_OPPOSITE[verdict.outcome],
        p_value=verdict.p_value,
        raw_p_value=verdict.raw_p_value,
        test=verdict.test,
        difference=-verdict.difference,
        interval=Interval(-verdict.interval.high, -verdict.interval.low),
        only_model_right=verdict.only_other_right,
        only_other_right=verdict.only_model_right,
    )


def count_confusions(
    hard_targets: Sequence[int], predictions: Sequence[int], classes: int
) -> Int64[NDArray[Any], "classes predicted"]:
    """Count the examples of each true class by predicted class; a last column is for no answer.

    Example:
        >>> count_confusions([0, 0, 1], [0, 1, NO_ANSWER], classes=2)
        array([[1, 1, 0],
               [0, 0, 1]])
    """
    counts = np.zeros((classes, classes + 1), dtype=np.int64)
    columns = np.where(np.asarray(predictions) == NO_ANSWER, classes, predictions)
    np.add.at(counts, (np.asarray(hard_targets), columns), 1)
    return counts
