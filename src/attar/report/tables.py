"""The tables of the report: formatted numbers in rows for the template."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from attar.comparison_records import (
    NO_ANSWER,
    Agreement,
    ComparisonRecord,
    ModelResult,
    Role,
    count_confusions,
    reverse,
)
from attar.comparison_records.sentences import tell_gap, write_count, write_p_value
from attar.files import write_size
from attar.report.sentences import count, percent, points, shorten

MOST_CLASSES = 30  # in the table of classes
MOST_CONFUSIONS = 12  # classes in a confusion matrix

_RANK: dict[Role, int] = {"student": 0, "control": 1, "baseline": 2, "teacher": 3}


@dataclass(frozen=True, slots=True)
class VerdictRow:
    """One verdict, in words."""

    model: str
    other: str
    outcome: str  # BETTER and so on
    kind: str  # for its color
    is_within: bool  # BETTER or WORSE, and within the margin
    difference: str
    interval: str
    p_value: str
    equivalence_p_value: str
    test: str
    discordant: str


def verdict_rows(record: ComparisonRecord) -> list[VerdictRow]:
    """Format all verdicts, with the student before the teacher or baseline."""
    rank = {model.name: _RANK[model.role] for model in record.models}
    verdicts = [
        reverse(each) if rank[each.model] > rank[each.other] else each for each in record.verdicts
    ]
    return [
        VerdictRow(
            model=verdict.model,
            other=verdict.other,
            outcome=verdict.outcome.upper(),
            kind=verdict.outcome,
            is_within=verdict.within_margin and verdict.outcome != "equivalent",
            difference=points(verdict.difference),
            interval=f"{points(verdict.interval.low)} to {points(verdict.interval.high)}",
            p_value=write_p_value(verdict.p_value),
            equivalence_p_value="–"
            if verdict.equivalence_p_value is None
            else write_p_value(verdict.equivalence_p_value),
            test=verdict.test,
            discordant=f"{count(verdict.only_model_right)} : {count(verdict.only_other_right)}",
        )
        for verdict in verdicts
    ]


def quality_columns(record: ComparisonRecord) -> list[tuple[str, list[str]]]:
    """Format the measurements, one list per column; empty columns are left out."""

    def written(measure: str, digits: int) -> list[str]:
        return [_spread(model, measure, digits) for model in record.models]

    columns = [
        ("errors", [count(m.mean("errors"), m.sd("errors")) for m in record.models]),
        ("accuracy", [percent(model.mean("accuracy")) for model in record.models]),
        ("balanced accuracy", [percent(m.mean("balanced_accuracy")) for m in record.models]),
        ("top 5", [percent(model.mean("top5_accuracy")) for model in record.models]),
        ("NLL, nats", written("nll", 4)),
        ("Brier", written("brier", 4)),
        ("ECE", [percent(model.mean("ece")) for model in record.models]),
        ("gap closed", [_gap(record, model) for model in record.models]),
    ]
    if any(network.not_a_number for model in record.models for network in model.networks):
        answers = [sum(each.not_a_number for each in model.networks) for model in record.models]
        columns.append(("no answer", [f"{number:,}" for number in answers]))
    return [(name, cells) for name, cells in columns if set(cells) != {"–"}]


def cost_columns(record: ComparisonRecord) -> list[tuple[str, list[str]]]:
    """Format the models' costs, one list per column."""
    models = record.models
    columns = [
        ("parameters", [f"{m.parameters:,}" if m.parameters else "–" for m in models]),
        ("on disk", [_size(model) for model in models]),
    ]
    for place in range(max((len(model.speeds) for model in models), default=0)):
        speeds = [model.speeds[place] if place < len(model.speeds) else None for model in models]
        first = next(speed for speed in speeds if speed)
        on = f"{first.threads} thread{'s' * (first.threads != 1)}"
        columns += [
            (f"median ms, {on}", [f"{each.median_ms:.3g}" if each else "–" for each in speeds]),
            (f"95% below, {on}", [f"{each.p95_ms:.3g}" if each else "–" for each in speeds]),
            (
                f"examples/s by {first.batch_size}, {on}",
                [f"{each.examples_per_second:,.0f}" if each else "–" for each in speeds],
            ),
        ]
    return [(name, cells) for name, cells in columns if set(cells) != {"–"}]


def _spread(model: ModelResult, measure: str, digits: int) -> str:
    mean, sd = model.mean(measure), model.sd(measure)
    if mean is None:
        return "–"
    return f"{mean:.{digits}f}" + (f"\xa0±\xa0{sd:.{digits}f}" if sd is not None else "")


def _size(model: ModelResult) -> str:
    return write_size(model.size_bytes).replace(" ", "\xa0") if model.size_bytes else "–"


def _gap(record: ComparisonRecord, model: ModelResult) -> str:
    share, interval = tell_gap(record, model) or ("–", "")
    between = f" ({interval})".replace(" to ", "\xa0to\xa0") if interval else ""
    return f"{share}{between}"


def agreement_rows(record: ComparisonRecord) -> list[tuple[int, list[str]]]:
    """Format the agreement with the teacher: position of the model, and six cells."""
    rows = []
    for place, model in enumerate(record.models):
        split = [network.with_teacher for network in model.networks if network.with_teacher]
        if split:
            parts = (
                [each.everywhere for each in split],
                [each.teacher_right for each in split],
                [each.teacher_wrong for each in split],
            )
            rows.append((place, [cell for part in parts for cell in _agreement(part)]))
    return rows


def _agreement(parts: list[Agreement]) -> tuple[str, str]:
    shares = [part.agreement for part in parts if part.agreement is not None]
    nats = [part.kl_nats for part in parts if part.kl_nats is not None]
    return (
        percent(float(np.mean(shares))) if len(shares) == len(parts) else "–",
        f"{np.mean(nats):.4f}" if len(nats) == len(parts) else "–",
    )


@dataclass(frozen=True, slots=True)
class ClassRow:
    """The errors of every model on one class."""

    name: str
    examples: int
    errors: list[float]  # of each model, mean over its seeds
    recalls: list[float | None]  # of each model; None without examples
    shares: list[float]  # the errors as fractions of the largest number in the table

    @property
    def cells(self) -> list[tuple[str, float]]:
        """Errors and recall of each model, and the length of its bar."""
        return [
            (
                "–" if recall is None else f"{write_count(round(errors, 1))} ({recall:.0%})",
                share,
            )
            for errors, recall, share in zip(self.errors, self.recalls, self.shares, strict=True)
        ]


def class_rows(record: ComparisonRecord, *, most: int = MOST_CLASSES) -> list[ClassRow]:
    """Format errors and recall of all classes, or of the `most` with the most errors."""
    errors = np.array(
        [np.mean([each.class_errors for each in model.networks], axis=0) for model in record.models]
    )  # [models, classes]
    chosen = np.arange(len(record.class_names))
    if len(chosen) > most:
        chosen = np.argsort(-errors.max(axis=0), kind="stable")[:most]
    largest, examples = max(1.0, float(errors.max())), record.class_examples
    recalls = [record.recalls(model.name) for model in record.models]
    return [
        ClassRow(
            name=record.class_names[index],
            examples=examples[index],
            errors=errors[:, index].tolist(),
            recalls=[of_model[index] for of_model in recalls],
            shares=(errors[:, index] / largest).tolist(),
        )
        for index in chosen.tolist()
    ]


@dataclass(frozen=True, slots=True)
class Confusions:
    """The confusions of one model, over all its seeds."""

    place: int  # of the model
    columns: list[str]  # predicted classes
    rows: list[tuple[str, list[tuple[int, float]]]]  # true class; counts, with their shade 0..1
    cut: bool  # whether there are more classes


def confusions(record: ComparisonRecord, place: int) -> Confusions:
    """Count a model's confusions, of all classes or of those confused most."""
    counts: Counter[tuple[int, int]] = Counter()
    for network in record.models[place].networks:
        counts.update(count_confusions(record.hard_targets, network.predictions))
    wrong = {pair: count for pair, count in counts.items() if pair[0] != pair[1]}
    classes = len(record.class_names)
    weight = np.zeros(classes, dtype=np.int64)
    for (target, prediction), errors in wrong.items():
        weight[target] += errors
        if prediction != NO_ANSWER:
            weight[prediction] += errors
    shown = np.sort(np.argsort(-weight, kind="stable")[:MOST_CONFUSIONS]).tolist()
    has_silence = any(prediction == NO_ANSWER for _, prediction in counts)
    columns = [*shown, *([NO_ANSWER] if has_silence else [])]
    largest = max([1, *(wrong.get((row, column), 0) for row in shown for column in columns)])

    def name(index: int) -> str:
        return "no answer" if index == NO_ANSWER else shorten(record.class_names[index])

    return Confusions(
        place=place,
        columns=[name(column) for column in columns],
        rows=[
            (
                name(row),
                [
                    (counts[row, column], wrong.get((row, column), 0) / largest)
                    for column in columns
                ],
            )
            for row in shown
        ],
        cut=len(shown) < classes,
    )
