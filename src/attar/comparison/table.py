"""A comparison for the terminal: verdicts first, then the tables."""

from collections.abc import Callable, Sequence
from functools import partial
from io import StringIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from attar.comparison_records import Agreement, ComparisonRecord, ModelResult, Verdict, tell, warn
from attar.comparison_records.sentences import (
    tell_errors,
    tell_gap,
    tell_margin,
    write_count,
    write_p_value,
)
from attar.report.tables import class_rows

_WIDTH = 110
_MOST_CLASSES = 10  # in the table of classes


def write_tables(record: ComparisonRecord) -> str:
    """Write the comparison as text for a page of fixed width."""
    text = StringIO()
    console = Console(file=text, width=_WIDTH, no_color=True, legacy_windows=False)
    for sentence in (*tell(record), *warn(record)):
        console.print(_plain(sentence, shorten=False))
    console.print()
    console.print(_results(record))
    if any(_with_teacher(model, "everywhere", "agreement") for model in record.models):
        console.print(_agreement(record))
    if record.verdicts:
        console.print(_verdicts(record))
    console.print(_classes(record))
    if any(model.parameters or model.size_bytes or model.speeds for model in record.models):
        console.print(_costs(record))
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def _results(record: ComparisonRecord) -> Table:
    models = record.models
    seeds = max(len(model.networks) for model in models)
    over = "" if seeds == 1 else f", means over up to {seeds} seeds, ± standard deviation"
    table = _table(f"{record.examples:,} test example{'s' * (record.examples > 1)}{over}", "model")
    columns: list[tuple[str, Callable[[ModelResult], str]]] = [
        ("errors", _errors),
        ("accuracy", lambda model: _mean(model, "accuracy", ".2%")),
        ("balanced", lambda model: _mean(model, "balanced_accuracy", ".2%")),
        ("top 5", lambda model: _mean(model, "top5_accuracy", ".2%")),
        ("NLL", lambda model: _mean(model, "nll", ".4f")),
        ("Brier", lambda model: _mean(model, "brier", ".4f")),
        ("ECE", lambda model: _mean(model, "ece", ".2%")),
        ("gap closed", lambda model: (tell_gap(record, model) or ("",))[0]),
    ]
    _fill(table, models, columns)
    return table


def _agreement(record: ComparisonRecord) -> Table:
    title = (
        f"agreement with {record.teacher}: on all examples, where it is right, where it is wrong"
    )
    table = _table(title, "model")
    columns: list[tuple[str, Callable[[ModelResult], str]]] = []
    for measure, told in (("agreement", "agrees"), ("kl_nats", "KL")):
        columns += [
            (f"{told}{where}", partial(_with_teacher, split=split, measure=measure))
            for split, where in (
                ("everywhere", ""),
                ("teacher_right", ", right"),
                ("teacher_wrong", ", wrong"),
            )
        ]
    held = [each for each in record.models if any(one.with_teacher for one in each.networks)]
    _fill(table, held, columns)
    return table


def _verdicts(record: ComparisonRecord) -> Table:
    count = len(record.verdicts)
    corrected = f", {count} pairs, Holm's correction" if count > 1 else ""
    margin = f", margin {tell_margin(record)}" if record.margin is not None else ""
    table = _table(f"verdicts at level {record.level:g}{margin}{corrected}", "model")
    table.add_column("verdict", no_wrap=True)
    table.add_column("other")
    p_values = ["p"] if record.margin is None else ["p", "p equiv."]
    for name in (*p_values, "right alone", "difference, points"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in record.verdicts:
        equivalence = each.equivalence_p_value
        table.add_row(
            _plain(each.model),
            _outcome(each),
            _plain(each.other),
            write_p_value(each.p_value),
            *([] if equivalence is None else [write_p_value(equivalence)]),
            f"{write_count(each.only_model_right)} : {write_count(each.only_other_right)}",
            _difference(each),
        )
    return table


def _outcome(verdict: Verdict) -> str:
    """Return the outcome; adds "within" if the difference is also within the margin."""
    name = verdict.outcome.upper()
    return f"{name}, within" if verdict.within_margin and name != "EQUIVALENT" else name


def _classes(record: ComparisonRecord) -> Table:
    """Show the recall of every class, or of those with most errors."""
    rows = class_rows(record, most=_MOST_CLASSES)
    classes = len(record.class_names)
    title = "recall by class"
    if len(rows) < classes:
        title = f"recall of the {len(rows)} classes with most errors, of {classes:,}"
    table = _table(title, "class")
    for name in ("examples", *(model.name for model in record.models)):
        table.add_column(_plain(name), justify="right")
    for row in rows:
        recalls = ("" if each is None else f"{each:.2%}" for each in row.recalls)
        table.add_row(_plain(row.name), f"{row.examples:,}", *recalls)
    return table


def _costs(record: ComparisonRecord) -> Table:
    threads = sorted({speed.threads for model in record.models for speed in model.speeds})
    table = _table("costs", "model")
    columns: list[tuple[str, Callable[[ModelResult], str]]] = [
        ("parameters", lambda model: "" if model.parameters is None else f"{model.parameters:,}"),
        ("MB", _megabytes),
    ]
    for count in threads:
        told = f"{count} thread" + "s" * (count > 1)
        columns += [
            (f"ms, {told}", partial(_latency, threads=count)),
            (f"examples/s, {told}", partial(_throughput, threads=count)),
        ]
    _fill(table, record.models, columns)
    if threads:
        table.caption_justify = "left"
        table.caption = "ms: latency of one example, median / 95th percentile; "
        table.caption += f"examples/s: in batches of {_batch_size(record)}"
    return table


def _fill(
    table: Table,
    models: Sequence[ModelResult],
    columns: list[tuple[str, Callable[[ModelResult], str]]],
) -> None:
    """Add the columns in which any model has a value."""
    cells = {name: [write(model) for model in models] for name, write in columns}
    shown = {name: column for name, column in cells.items() if any(column)}
    for name in shown:
        table.add_column(name, justify="right")
    for place, model in enumerate(models):
        table.add_row(_plain(model.name), *(column[place] for column in shown.values()))


def _table(title: str, first: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="", box=box.SIMPLE_HEAD)
    table.add_column(first)
    return table


def _mean(model: ModelResult, measure: str, form: str) -> str:
    mean = model.mean(measure)
    return _why_none(model, measure) if mean is None else format(mean, form)


def _errors(model: ModelResult) -> str:
    sd = model.sd("errors")
    return tell_errors(model) + ("" if sd is None else f" ± {sd:,.1f}")


def _why_none(model: ModelResult, measure: str) -> str:
    if measure == "top5_accuracy":
        return ""
    return "NaN" if any(network.not_a_number for network in model.networks) else "∞"


def _with_teacher(model: ModelResult, split: str, measure: str) -> str:
    found = [network.with_teacher for network in model.networks]
    parts: list[Agreement] = [getattr(each, split) for each in found if each is not None]
    values = [getattr(each, measure) for each in parts if each.examples]
    if not values:
        return ""
    if None in values:
        return _why_none(model, measure)
    mean = sum(values) / len(values)
    return f"{mean:.2%}" if measure == "agreement" else f"{mean:.4f}"


def _difference(verdict: Verdict) -> str:
    low, high = verdict.interval.low, verdict.interval.high
    text = f"{100 * verdict.difference:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})"
    return text.replace("-", "−")


def _megabytes(model: ModelResult) -> str:
    if model.size_bytes is None:
        return ""
    return f"{model.size_bytes / 1e6:,.{2 if model.size_bytes > 1e5 else 4}f}"


def _latency(model: ModelResult, threads: int) -> str:
    found = [speed for speed in model.speeds if speed.threads == threads]
    return f"{found[0].median_ms:,.3g} / {found[0].p95_ms:,.3g}" if found else ""


def _throughput(model: ModelResult, threads: int) -> str:
    found = [speed for speed in model.speeds if speed.threads == threads]
    return f"{found[0].examples_per_second:,.0f}" if found else ""


def _batch_size(record: ComparisonRecord) -> int:
    return next(model.speeds[0].batch_size for model in record.models if model.speeds)


def _plain(text: str, *, shorten: bool = True) -> Text:
    """Show text without markup and without control characters."""
    shown = "".join(letter if letter.isprintable() else "�" for letter in text)
    return Text(shown if len(shown) <= 60 or not shorten else shown[:59] + "…")
