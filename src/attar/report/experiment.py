"""The report of an experiment: its numbers beside the paper's, from the records of its run."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from attar.comparison_records import ComparisonRecord, tell_teacher
from attar.files import write_atomically
from attar.progress import duration
from attar.records import ExperimentResult, ResultRow
from attar.report import charts
from attar.report.page import comparison_settings, describe_comparison, render_page
from attar.report.sentences import shorten
from attar.training import Epoch

_KINDS = {".png": "png", ".svg": "svg+xml"}  # of pictures


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that the run drew, for the page to hold."""

    name: str
    source: str  # a data: URI

    @classmethod
    def read(cls, path: Path) -> "Picture":
        """Read a `.png` or `.svg` file."""
        content = base64.b64encode(path.read_bytes()).decode()
        return cls(path.stem, f"data:image/{_KINDS[path.suffix]};base64,{content}")


@dataclass(frozen=True, slots=True)
class MetricTable:
    """All rows of one metric."""

    metric: str
    rows: list[tuple[str, str, str, int]]  # name, the paper's number, ours, seeds
    has_paper: bool
    seeds: int | None  # of each row; None where they differ
    chart: Markup


def save_experiment_report(
    result: ExperimentResult,
    path: Path | str,
    *,
    histories: Mapping[str, Sequence[Sequence[Epoch]]] | None = None,
    pictures: Sequence[Path] = (),
    comparison: ComparisonRecord | None = None,
) -> None:
    """Write the report of an experiment; see `make_experiment_report`.

    Raises:
        FolderError: If the file cannot be written; what it held before is then unharmed.
    """
    page = make_experiment_report(
        result, histories=histories, pictures=pictures, comparison=comparison
    )
    write_atomically(Path(path), page.encode())


def make_experiment_report(
    result: ExperimentResult,
    *,
    histories: Mapping[str, Sequence[Sequence[Epoch]]] | None = None,
    pictures: Sequence[Path] = (),
    comparison: ComparisonRecord | None = None,
) -> str:
    """Make the report of an experiment as one self-contained HTML page.

    Args:
        result: The result. The first of its `notes` is the page's headline, after a sentence on a
            teacher that is not better than the baseline.
        histories: The epochs of each training, by a name for its kind: a list of its seeds.
        pictures: `.png` and `.svg` files to show.
        comparison: A comparison of its networks on the test set.

    Returns:
        The page. It holds no script, and every name in it is escaped.
    """
    first, *others = [str(note) for note in result.details.get("notes", ())] or [_first(result)]
    drawn = {
        kind: of_seeds
        for kind, of_seeds in (histories or {}).items()
        if any(map(charts.measured_errors, of_seeds))
    }
    experiment = {
        "metrics": metric_tables(result),
        "notes": others,
        "pictures": [Picture.read(path) for path in pictures],
        "training": charts.training_curves(list(drawn.values())),
        "trained": list(drawn),
    }
    first = first[:1].upper() + first[1:]
    lead = None if comparison is None else tell_teacher(comparison)
    about = {"training took": duration(result.wall_seconds)}
    compared = [] if comparison is None else comparison_settings(comparison)
    return render_page(
        title=result.experiment,
        headline=f"{lead} {first}" if lead else first,
        command=result.command,
        settings=[*result.config.items(), *about.items(), *compared],
        machine=result.machine,
        experiment=experiment,
        record=comparison,
        **({} if comparison is None else describe_comparison(comparison)),
    )


def metric_tables(result: ExperimentResult) -> list[MetricTable]:
    """Write out the rows, those of one metric together."""
    by_metric: dict[str, list[ResultRow]] = {}
    for row in result.rows:
        by_metric.setdefault(row.metric, []).append(row)
    return [
        MetricTable(
            metric=metric,
            rows=[
                (row.name, "–" if row.paper is None else number(row.paper),
                 number(row.mean, row.sd), row.seeds)
                for row in rows
            ],
            has_paper=any(row.paper is not None for row in rows),
            seeds=rows[0].seeds if len({row.seeds for row in rows}) == 1 else None,
            chart=charts.spreads(
                f"metric-{place}",
                [charts.Spread(row.name, row.values, row.mean, row.sd, row.paper) for row in rows],
                label=shorten(metric),
            ),
        )
        for place, (metric, rows) in enumerate(by_metric.items())
    ]  # fmt: skip


def number(mean: float, sd: float | None = None) -> str:
    r"""Write a number with its spread over seeds, whose first two digits say how exact it is.

    Example:
        >>> number(372.0, 19.08), number(71.547, 0.2806), number(0.990756), number(12345)
        ('372\xa0±\xa019', '71.55\xa0±\xa00.28', '0.9908', '12,345')
    """
    if not sd:
        return f"{mean:,.0f}" if abs(mean) >= 1000 else f"{mean:.4g}".replace("-", "−")
    digits = min(4, max(0, 1 - math.floor(math.log10(sd))))
    return f"{mean:,.{digits}f}\xa0±\xa0{sd:,.{digits}f}".replace("-", "−")


def _first(result: ExperimentResult) -> str:
    row = result.rows[0]
    return f"{row.name}: {number(row.mean, row.sd)}, {row.metric}"
