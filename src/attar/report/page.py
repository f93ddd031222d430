"""The report of a comparison: its page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attar.comparison_records import ComparisonRecord, warn
from attar.comparison_records.sentences import tell_margin
from attar.files import write_atomically
from attar.pages import make_page
from attar.report import charts
from attar.report.sentences import candidate, headline, shorten
from attar.report.tables import (
    agreement_rows,
    class_rows,
    confusions,
    cost_columns,
    quality_columns,
    verdict_rows,
)
from attar.training import Epoch


def save_report(
    record: ComparisonRecord,
    path: Path | str,
    *,
    title: str = "Did it help?",
    histories: Mapping[str, Sequence[Sequence[Epoch]]] | None = None,
    published: Mapping[str, float] | None = None,
    settings: Mapping[str, object] | None = None,
) -> None:
    """Write the report of a comparison; see `make_report`.

    Raises:
        FolderError: If the file cannot be written; what it held before is then unharmed.
    """
    page = make_report(
        record, title=title, histories=histories, published=published, settings=settings
    )
    write_atomically(Path(path), page.encode())


def make_report(
    record: ComparisonRecord,
    *,
    title: str = "Did it help?",
    histories: Mapping[str, Sequence[Sequence[Epoch]]] | None = None,
    published: Mapping[str, float] | None = None,
    settings: Mapping[str, object] | None = None,
) -> str:
    """Make the report of a comparison as one self-contained HTML page.

    Args:
        record: The comparison.
        title: Title of the page.
        histories: The epochs of each seed's training, by the model's name, for training curves.
        published: Errors reported in a paper, by the model's name, for a column of their own.
        settings: Settings of the models' training, by name.

    Returns:
        The page. It holds no script, and every name in it is escaped.
    """
    return render_page(
        title=title,
        headline=headline(record),
        command=record.command,
        settings=[*(settings or {}).items(), *comparison_settings(record)],
        machine=record.machine,
        record=record,
        **describe_comparison(record, histories=histories, published=published),
    )


def render_page(**context: Any) -> str:  # noqa: ANN401  (what the template takes)
    """Fill the template, with an experiment's numbers, a comparison, or both."""
    helpers = {"color": charts.color, "glyph": charts.glyph, "shorten": shorten}
    absent = {"experiment": None, "record": None}
    return make_page(
        __package__, "report.html", styles=("report.css",), **{**absent, **helpers, **context}
    )


def comparison_settings(record: ComparisonRecord) -> list[tuple[str, object]]:
    """List the settings of a comparison."""
    named = [(f"comparison: {name}", value) for name, value in record.settings.items()]
    return [*named, ("test set’s fingerprint", record.data)]


def describe_comparison(
    record: ComparisonRecord,
    *,
    histories: Mapping[str, Sequence[Sequence[Epoch]]] | None = None,
    published: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Prepare the template's values for a comparison."""
    histories, published = histories or {}, published or {}
    quality = quality_columns(record)
    if published:
        cells = [f"{published[m.name]:g}" if m.name in published else "–" for m in record.models]
        quality.insert(0, ("paper’s errors", cells))
    student = candidate(record) or record.models[-1]
    places = {model.name: place for place, model in enumerate(record.models)}
    compared = dict.fromkeys(([record.teacher] if record.teacher else []) + [student.name])
    rows = class_rows(record)
    return {
        "warnings": warn(record),
        "verdicts": verdict_rows(record),
        "margin": None if record.margin is None else tell_margin(record),
        "tests": sorted({verdict.test for verdict in record.verdicts}),
        "quality": quality,
        "costs": cost_columns(record),
        "agreements": agreement_rows(record),
        "classes": rows,
        "classes_cut": len(rows) < len(record.class_names),
        "confusions": [confusions(record, places[name]) for name in compared],
        "figures": {
            "errors": charts.error_bars(record),
            "training": charts.training_curves(
                [histories.get(model.name, ()) for model in record.models]
            ),
            "reliability": charts.reliability(record),
            "latency": charts.latency(record),
        },
        "seeds": sorted({len(model.networks) for model in record.models}),
    }
