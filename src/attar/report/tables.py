"""The report's tables: numbers of the record, written out, in rows for the template."""

from dataclasses import dataclass

import numpy as np

from attar.comparison_records import (
    Agreement,
    ComparisonRecord,
    ModelResult,
    Role,
    count_confusions,
    reverse,
)
from attar.comparison_records.sentences import write_p_value
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
    difference: str
    interval: str
    p_value: str
    test: str
    discordant: str


def verdict_rows(record: ComparisonRecord) -> list[VerdictRow]:
    """Write out all verdicts, students first where they meet teacher or baseline."""
    rank = {model.name: _RANK[model.role] for model in record.models}
    verdicts = [
        reverse(each) if rank[each.model] > rank[each.other] else each for each in record.verdicts
    ]
    return [
        VerdictRow(
            model=verdict.model,
            other=verdict.other,
            outcome=verdict.outcome.upper(),
            kind=verdict.outcome.replace(" ", "-"),
            difference=points(verdict.difference),
            interval=f"{points(verdict.interval.low)} to {points(verdict.interval.high)}",
            p_value=write_p_value(verdict.p_value),
            test=verdict.test,
            discordant=f"{count(verdict.only_model_right)} : {count(verdict.only_other_right)}",
        )
        for verdict in verdicts
    ]


def quality_columns(record: ComparisonRecord) -> list[tuple[str, list[str]]]:
    """Write out what was measured, one list a column; columns without any number stay out."""

    def written(measure: str, digits: int) -> list[str]:
        return [_spread(model, measure, digits) for model in record.models]

    columns = [
        ("errors", [count(m.mean("errors"), m.sd("errors")) for m in record.models]),
        ("accuracy", [percent(model.mean("accuracy")) for model in record.models]),
        ("top 5", [percent(model.mean("top5_accuracy")) for model in record.models]),
        ("NLL, nats", written("nll", 4)),
        ("Brier", written("brier", 4)),
        ("ECE", [percent(model.mean("ece")) for model in record.models]),
        ("gap closed", [_gap(model) for model in record.models]),
    ]
    if any(network.not_a_number for model in record.models for network in model.networks):
        answers = [sum(each.not_a_number for each in model.networks) for model in record.models]
        columns.append(("no answer", [f"{number:,}" for number in answers]))
    return [(name, cells) for name, cells in columns if set(cells) != {"–"}]


def cost_columns(record: ComparisonRecord) -> list[tuple[str, list[str]]]:
    """Write out what the models cost, one list a column."""
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


def _gap(model: ModelResult) -> str:
    gap = model.gap_closed
    if gap is None:
        return "–"
    interval = gap.interval
    between = f" ({interval.low:.0%}\xa0to\xa0{interval.high:.0%})" if interval else ""
    return f"{gap.share:.0%}{between}"


def agreement_rows(record: ComparisonRecord) -> list[tuple[int, list[str]]]:
    """Write out how far models agree with the teacher: the model's place, and six cells."""
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
    errors: list[tuple[str, float]]  # as text, and as a fraction of the largest in the table


def class_rows(record: ComparisonRecord) -> list[ClassRow]:
    """Write out errors by class, mean over seeds: of all classes, or of those with most errors."""
    errors = np.array(
        [np.mean([each.class_errors for each in model.networks], axis=0) for model in record.models]
    )  # [models, classes]
    chosen = np.arange(len(record.class_names))
    if len(chosen) > MOST_CLASSES:
        chosen = np.argsort(-errors.max(axis=0), kind="stable")[:MOST_CLASSES]
    most, examples = max(1.0, float(errors.max())), record.class_examples
    return [
        ClassRow(
            name=record.class_names[index],
            examples=examples[index],
            errors=[
                (f"{each:,.1f}".removesuffix(".0"), float(each / most)) for each in errors[:, index]
            ],
        )
        for index in chosen.tolist()
    ]


@dataclass(frozen=True, slots=True)
class Confusions:
    """Which classes one model takes for which, all its seeds together."""

    place: int  # of the model
    columns: list[str]  # what was answered
    rows: list[tuple[str, list[tuple[int, float]]]]  # true class; counts, with their shade 0..1
    cut: bool  # whether there are more classes


def confusions(record: ComparisonRecord, place: int) -> Confusions:
    """Count a model's confusions: of all classes, or of those that are confused most."""
    classes = len(record.class_names)
    counts = sum(
        count_confusions(record.hard_targets, network.predictions, classes)
        for network in record.models[place].networks
    )
    assert not isinstance(counts, int)  # a model has a network
    wrong = counts.copy()  # [classes, classes + 1]
    wrong[np.arange(classes), np.arange(classes)] = 0
    weight = wrong.sum(axis=1) + wrong.sum(axis=0)[:classes]
    shown = np.sort(np.argsort(-weight, kind="stable")[:MOST_CONFUSIONS])
    silent = counts[:, classes].any()
    columns = [*shown.tolist(), *([classes] if silent else [])]
    most = max(1, int(wrong[np.ix_(shown, columns)].max()))
    names = [*map(shorten, record.class_names), "no answer"]
    return Confusions(
        place=place,
        columns=[names[column] for column in columns],
        rows=[
            (
                names[row],
                [
                    (int(counts[row, column]), float(wrong[row, column] / most))
                    for column in columns
                ],
            )
            for row in shown.tolist()
        ],
        cut=len(shown) < classes,
    )
