"""The result of a comparison of models: frozen records, from which reports are made.

Rates are fractions. A mean is None if no number can represent it: the negative log-likelihood of
a model that gives a true class no probability, and everything that is computed from probabilities
if one of the outputs is not a number.
"""

import json
import re
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import TypeAdapter, ValidationError

from attar.errors import FolderError
from attar.files import write_atomically
from attar.records import Machine, read_json, seal, unseal

FORMAT = 2  # 1 had no checksum, no balanced accuracy, and "no difference" instead of "undecided"
NO_ANSWER = -1  # the prediction if a model's output is not a number

Outcome = Literal["better", "worse", "undecided", "equivalent"]
Role = Literal["teacher", "baseline", "student", "control"]
TeacherStanding = Literal["better", "not shown", "not better"]
Test = Literal["exact McNemar", "paired bootstrap"]

RecordT = TypeVar("RecordT", bound="ComparisonRecord")

_NUMBERS = re.compile(r"\[\s+(?:-?[\d.eE+-]+|null)(?:,\s+(?:-?[\d.eE+-]+|null))*\s+\]")


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval, at one minus the comparison's level."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The examples with a confidence above `low` and up to `high`."""

    low: float
    high: float
    examples: int
    mean_confidence: float | None  # of the most probable class; None where the bin is empty
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of a network with its teacher on some of the examples."""

    examples: int
    agreement: float | None  # fraction with the teacher's most probable class; None without any
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
    balanced_accuracy: float  # mean recall over the classes that have examples
    top5_accuracy: float | None  # None where there are five classes or fewer
    nll: float | None  # mean negative log-likelihood of the true class, nats
    brier: float | None  # mean squared distance of the probabilities from the truth, 0 to 2
    ece: float | None  # expected calibration error over the reliability bins
    not_a_number: int  # examples without probabilities (NaN, +inf), all counted as errors
    class_errors: tuple[int, ...]  # by true class
    reliability: tuple[ReliabilityBin, ...]
    with_teacher: TeacherAgreement | None  # None for the teacher itself, and without a teacher
    fingerprint: str
    predictions: tuple[int, ...] = field(repr=False)  # one per example; `NO_ANSWER` if not a number


@dataclass(frozen=True, slots=True)
class Speed:
    """Speed of one network with a number of threads."""

    threads: int
    median_ms: float  # latency of a batch of one example
    p95_ms: float  # the 95th percentile of that
    examples_per_second: float  # throughput of batches of `batch_size`, median
    batch_size: int
    repeats: int  # measurements behind the median and the percentile of the latency


@dataclass(frozen=True, slots=True)
class GapClosed:
    """Share of the gap between the baseline's errors and the teacher's that a model closes."""

    share: float  # 0: as many errors as the baseline, 1: as many as the teacher
    interval: Interval | None  # None if the gap is not shown; the share then means nothing


@dataclass(frozen=True, slots=True)
class ModelResult:
    """A model: the measurements of each of its seeds, and its cost."""

    name: str
    role: Role
    networks: tuple[NetworkResult, ...]  # one per seed
    parameters: int | None  # of the first seed; None if they can't be counted
    size_bytes: int | None  # on disk, of the first seed
    speeds: tuple[Speed, ...]  # one thread, then all; empty if not measured
    gap_closed: GapClosed | None  # None if there is no gap, baseline or teacher

    def values(self, measure: str) -> tuple[float, ...] | None:
        """Return a measure for each seed, by its field's name; None if a seed has none."""
        found = [getattr(network, measure) for network in self.networks]
        return None if None in found else tuple(found)

    def mean(self, measure: str) -> float | None:
        """Return a measure's mean over the seeds; None if a seed has none."""
        values = self.values(measure)
        return None if values is None else statistics.fmean(values)

    def sd(self, measure: str) -> float | None:
        """Return a measure's sample standard deviation over seeds; None if fewer than two."""
        values = self.values(measure)
        return None if values is None or len(values) < 2 else statistics.stdev(values)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the error rate of a model differs from that of another one.

    `better` and `worse` are significant differences. `equivalent` means that the difference is
    significantly smaller than the margin. `undecided` is every other case; it is no evidence that
    the models are equally good.
    """

    model: str
    other: str
    outcome: Outcome  # of `model`, against `other`
    p_value: float  # after Holm's correction; compared with the level
    raw_p_value: float  # before it
    test: Test
    difference: float  # error rate of `model` minus that of `other`; below 0 is better
    interval: Interval  # of the difference, for this pair alone
    only_model_right: float  # examples that only `model` gets right, mean over seeds
    only_other_right: float
    equivalence_p_value: float | None = None  # after Holm's correction; None without a margin
    within_margin: bool = False  # significantly; possible with `better` and `worse`, too


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonRecord:
    """Several models on one labeled set: measurements, costs and verdicts."""

    format: int = FORMAT
    class_names: tuple[str, ...]
    hard_targets: tuple[int, ...] = field(repr=False)  # of the test examples, in order
    level: float  # probability of at least one false BETTER or WORSE over all pairs
    margin: float | None = None  # difference of error rates; smaller ones can be EQUIVALENT
    teacher: str | None  # its name
    baseline: str | None  # the name of the student without distillation
    models: tuple[ModelResult, ...]
    verdicts: tuple[Verdict, ...]  # one per compared pair
    settings: dict[str, Any]  # of the comparison
    data: str  # the test set's fingerprint
    machine: Machine
    made_at: str  # UTC, ISO 8601
    command: str | None = None  # that made the record, if any

    @property
    def examples(self) -> int:
        """Number of test examples."""
        return len(self.hard_targets)

    @property
    def class_examples(self) -> tuple[int, ...]:
        """Number of test examples of each class."""
        return count_classes(self.hard_targets, len(self.class_names))

    @property
    def teacher_standing(self) -> TeacherStanding | None:
        """Whether the teacher makes fewer errors than the student trained without it.

        `not better`: it does not. `not shown`: it makes fewer, but not significantly fewer. None
        without teacher or baseline, or if it makes fewer and the pair was not compared.
        """
        if self.teacher is None or self.baseline is None:
            return None
        teacher, baseline = (
            self.model(name).mean("errors") or 0.0 for name in (self.teacher, self.baseline)
        )
        if teacher >= baseline:
            return "not better"
        verdict = self.verdict(self.teacher, self.baseline)
        if verdict is None:
            return None
        return "better" if verdict.outcome == "better" else "not shown"

    def recalls(self, name: str) -> tuple[float | None, ...]:
        """Return the recall of each class by a model, mean over its seeds.

        None for a class without examples; `KeyError` if there is no such model.
        """
        networks = self.model(name).networks
        return tuple(
            1 - statistics.fmean(errors) / examples if examples else None
            for *errors, examples in zip(
                *(network.class_errors for network in networks), self.class_examples, strict=True
            )
        )

    def model(self, name: str) -> ModelResult:
        """Return a model by its name; `KeyError` if there is none."""
        found = [model for model in self.models if model.name == name]
        if not found:
            raise KeyError(name)
        return found[0]

    def verdict(self, model: str, other: str) -> Verdict | None:
        """Return the verdict on `model` against `other`; None if the pair was not compared."""
        for each in self.verdicts:
            if (each.model, each.other) == (model, other):
                return each
            if (each.other, each.model) == (model, other):
                return reverse(each)
        return None

    def save(self, path: Path | str) -> None:
        """Write the record as JSON, with a checksum.

        Raises:
            FolderError: If the file cannot be written; an earlier file is then unchanged.
        """
        content = seal(asdict(self))
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        # Lists of numbers in one line each; a string has no line break of its own.
        text = _NUMBERS.sub(lambda found: re.sub(r"\s+", " ", found[0]), text)
        write_atomically(Path(path), (text + "\n").encode())

    @classmethod
    def read(cls: type[RecordT], path: Path | str) -> RecordT:
        """Read a record written by `save`, in format 1 or 2.

        Raises:
            FolderError: If the file cannot be read, is damaged, or is not a comparison.
        """
        path = Path(path)
        content = read_json(path)
        if "checksum" in content:
            content = unseal(content, path)
        elif content.get("format") == 1:
            content = _upgrade(content, path)
        else:
            raise _not_a_comparison(path, "it has no checksum")
        if content.get("format") != FORMAT:
            raise FolderError(
                f"{path} has format {content.get('format')}, but this release reads formats 1 to "
                f"{FORMAT}; use a newer release of attar, or compare the models again"
            )
        try:
            return TypeAdapter(cls).validate_python(content)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            raise _not_a_comparison(path, f"{place}: {first['msg']}") from error


def _not_a_comparison(path: Path, why: str) -> FolderError:
    return FolderError(f"{path} is not a comparison ({why}); compare the models again")


def _upgrade(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return a record of format 1 as one of this format."""
    try:
        counts = count_classes(content["hard_targets"], len(content["class_names"]))
        for model in content["models"]:
            for network in model["networks"]:
                network["balanced_accuracy"] = mean_recall(network["class_errors"], counts)
        for verdict in content["verdicts"]:
            if verdict["outcome"] == "no difference":
                verdict["outcome"] = "undecided"
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise _not_a_comparison(path, repr(error)) from error
    return content | {"format": FORMAT}


_OPPOSITE: dict[Outcome, Outcome] = {
    "better": "worse",
    "worse": "better",
    "undecided": "undecided",
    "equivalent": "equivalent",
}


def reverse(verdict: Verdict) -> Verdict:
    """Return the verdict with the two models exchanged."""
    return replace(
        verdict,
        model=verdict.other,
        other=verdict.model,
        outcome=_OPPOSITE[verdict.outcome],
        difference=-verdict.difference,
        interval=Interval(-verdict.interval.high, -verdict.interval.low),
        only_model_right=verdict.only_other_right,
        only_other_right=verdict.only_model_right,
    )


def count_classes(hard_targets: Sequence[int], classes: int) -> tuple[int, ...]:
    """Count the examples of each class."""
    return tuple(np.bincount(hard_targets, minlength=classes).tolist())


def mean_recall(class_errors: Sequence[int], class_examples: Sequence[int]) -> float:
    """Return the balanced accuracy: the mean recall over the classes that have examples.

    Example:
        >>> mean_recall([0, 2, 0], [98, 2, 0])  # all of the large class right, none of the rare one
        0.5
    """
    pairs = zip(class_errors, class_examples, strict=True)
    return statistics.fmean(1 - errors / examples for errors, examples in pairs if examples)


def count_confusions(
    hard_targets: Sequence[int], predictions: Sequence[int]
) -> Counter[tuple[int, int]]:
    """Count the examples of each pair of true and predicted class that occurs.

    Counts of several networks can be added. The predicted class is `NO_ANSWER` if a model's output
    is not a number.

    Example:
        >>> dict(count_confusions([0, 0, 1], [0, 1, NO_ANSWER]))
        {(0, 0): 1, (0, 1): 1, (1, -1): 1}
    """
    return Counter(zip(hard_targets, predictions, strict=True))
