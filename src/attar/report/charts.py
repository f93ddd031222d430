"""Charts as SVG that takes its colors from the page, so that they suit light and dark.

They hold numbers and no names but those of models, which are put in as escaped text afterwards:
what a font lacks or takes for a formula can do no harm.
"""

import io
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from markupsafe import Markup, escape

from attar.comparison_records import ComparisonRecord, ModelResult, ReliabilityBin
from attar.report.sentences import shorten
from attar.training import Epoch

Axes = Any  # matplotlib's, which is imported late

SIZE = (4.6, 3.0)  # inches, of 72 units: small, so that text is legible on a phone
_WIDE = 4  # largest to smallest number, beyond which an axis is logarithmic
COLORS = 6  # --model-1 and so on, in base.css
_MARKERS, _GLYPHS = "os^Dvp", "●■▲◆▼⬟"
# Colors that the page replaces: the text's, the grid's, the models'.
_INK, _LINE = "#010101", "#020202"
_MODEL = tuple(f"#0a0a{number:02x}" for number in range(1, COLORS + 1))
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "attar",
    "text.parse_math": False,
    "font.size": 10.5,
    "text.color": _INK,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _INK,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": _LINE,
    "grid.linewidth": 0.6,
    "xtick.color": _LINE,
    "ytick.color": _LINE,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "figure.facecolor": "none",
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
}


def glyph(place: int) -> str:
    """Return the mark of the model at a place of the comparison, as text."""
    return _GLYPHS[place % COLORS]


def color(place: int) -> str:
    """Return the color of the model at a place of the comparison, for CSS."""
    return f"var(--model-{place % COLORS + 1})"


@dataclass(frozen=True, slots=True)
class Spread:
    """One number over seeds."""

    name: str
    values: Sequence[float]  # one a seed
    mean: float
    sd: float | None
    published: float | None = None  # in a paper


def error_bars(record: ComparisonRecord) -> Markup:
    """Show the errors of every seed, and mean and standard deviation over seeds."""
    rows = [
        Spread(
            model.name, model.values("errors") or (), model.mean("errors") or 0, model.sd("errors")
        )
        for model in record.models
    ]
    return spreads("errors", rows, label=f"errors, of {record.examples:,}")


def spreads(name: str, rows: Sequence[Spread], *, label: str) -> Markup:
    """Show numbers over seeds below each other: every seed, mean and standard deviation.

    A published number is an open circle.
    """

    def draw(axes: Axes) -> None:
        for place, row in enumerate(rows):
            style = {"color": _MODEL[place % COLORS]}
            axes.plot(row.values, [place] * len(row.values), "|", markersize=9, alpha=0.7, **style)
            axes.errorbar(
                row.mean, place, xerr=row.sd, fmt=_MARKERS[place % COLORS], capsize=4, **style
            )
            if row.published is not None:
                axes.plot(row.published, place, "o", markersize=8, mfc="none", color=_INK)
            axes.text(0, place - 0.3, f"@{place}@", transform=axes.get_yaxis_transform())
        axes.set_ylim(len(rows) - 0.5, -0.75)
        axes.set_yticks([])
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("@label@")

    names = {f"@{place}@": shorten(row.name) for place, row in enumerate(rows)}
    size = (SIZE[0], 0.8 + 0.5 * len(rows))
    return _chart(name, draw, size=size, names=names | {"@label@": label})


def measured_errors(history: Sequence[Epoch]) -> list[tuple[int, float]]:
    """Return epoch and errors where they were counted; nothing where that makes no line."""
    measured = [
        (epoch.index, epoch.measurements["errors"])
        for epoch in history
        if epoch.measurements and "errors" in epoch.measurements
    ]
    return measured if len(measured) > 1 else []


def _losses(history: Sequence[Epoch]) -> list[tuple[int, float]]:
    return [(epoch.index, epoch.mean_loss) for epoch in history] if len(history) > 1 else []


def training_curves(histories: Sequence[Sequence[Sequence[Epoch]]]) -> Markup | None:
    """Show the errors after each epoch, or else the mean losses; None where there are no lines.

    Args:
        histories: Of each model, in their order: the epochs of each seed, which make a line.
    """
    placed = [(place, history) for place, each in enumerate(histories) for history in each]
    label, lines = "errors", [(place, measured_errors(history)) for place, history in placed]
    if not any(line for _, line in lines):
        label, lines = (
            "mean loss, on its own targets",
            [(place, _losses(history)) for place, history in placed],
        )
    counts = [count for _, line in lines for _, count in line]
    if not counts:
        return None

    def draw(axes: Axes) -> None:
        for place, line in filter(itemgetter(1), lines):
            style = {"color": _MODEL[place % COLORS], "marker": _MARKERS[place % COLORS]}
            axes.plot(*zip(*line, strict=True), markevery=[-1], alpha=0.85, **style)
        if max(counts) > _WIDE * min(counts):
            axes.set_yscale("log" if min(counts) > 0 else "symlog")
            axes.yaxis.set_minor_formatter(lambda x, _: f"{x:g}" if f"{x:.0e}"[0] in "25" else "")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set(xlabel="epoch", ylabel=label)

    return _chart("training", draw)


def reliability(record: ComparisonRecord) -> Markup | None:
    """Show how often a model is right by how sure it is, its seeds taken together."""
    pooled = [_pool([network.reliability for network in model.networks]) for model in record.models]
    if not any(pooled):
        return None

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], linestyle=":", color=_INK, linewidth=1)
        for place, line in enumerate(pooled):
            confidences, accuracies = [each[0] for each in line], [each[1] for each in line]
            style = {"color": _MODEL[place % COLORS], "marker": _MARKERS[place % COLORS]}
            axes.plot(confidences, accuracies, alpha=0.85, **style)
        axes.set(xlabel="probability given to the answer", ylabel="share of right answers")
        axes.set(xlim=(0, 1.02), ylim=(0, 1.02))

    return _chart("reliability", draw)


def _pool(networks: Sequence[Sequence[ReliabilityBin]]) -> list[tuple[float, float]]:
    """Average the bins of a model's seeds, weighted by their examples."""
    pooled = []
    for bins in zip(*networks, strict=True):
        filled = [
            (each.examples, each.mean_confidence, each.accuracy)
            for each in bins
            if each.mean_confidence is not None and each.accuracy is not None
        ]
        total = sum(examples for examples, _, _ in filled)
        if total:
            pooled.append(
                (
                    sum(examples * confidence for examples, confidence, _ in filled) / total,
                    sum(examples * accuracy for examples, _, accuracy in filled) / total,
                )
            )
    return pooled


def latency(record: ComparisonRecord) -> Markup | None:
    """Show errors against the latency of one example; None where it was not measured."""
    timed: list[tuple[int, ModelResult]] = [
        (place, model) for place, model in enumerate(record.models) if model.speeds
    ]
    if not timed:
        return None

    def draw(axes: Axes) -> None:
        for place, model in timed:
            speed, style = model.speeds[0], {"color": _MODEL[place % COLORS]}
            axes.errorbar(
                speed.median_ms,
                model.mean("errors") or 0.0,
                xerr=[[0.0], [max(0.0, speed.p95_ms - speed.median_ms)]],
                yerr=model.sd("errors"),
                fmt=_MARKERS[place % COLORS],
                markersize=7,
                capsize=3,
                **style,
            )
        axes.set_xlim(left=0)
        threads = timed[0][1].speeds[0].threads
        axes.set(xlabel=f"ms an example, {threads} thread(s)", ylabel="errors")

    return _chart("latency", draw)


def _chart(
    name: str,
    draw: Callable[[Axes], None],
    *,
    size: tuple[float, float] = SIZE,
    names: Mapping[str, str] | None = None,
) -> Markup:
    """Draw a chart; `name` is for its ids, which have to be unique in the page."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it would tell of its font cache
    # Here, because it takes a second that only a report is worth.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = re.sub(r"^.*?(?=<svg)|<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r'\1 aria-hidden="true"', svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    for place, model_color in enumerate(_MODEL):
        svg = svg.replace(model_color, color(place))
    svg = svg.replace(_INK, "var(--ink)").replace(_LINE, "var(--line)")
    for token, text in (names or {}).items():
        svg = svg.replace(token, str(escape(text)))
    return Markup(svg)
