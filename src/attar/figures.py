"""Figures in files, drawn by matplotlib: the extra `plots`."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attar.errors import AttarError, MissingExtraError
from attar.files import write_atomically

FORMATS = (".png", ".svg")


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a figure."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    error: tuple[float, ...] | None = None  # half the length of each point's bar


def check_can_draw() -> None:
    """Raise `MissingExtraError` unless matplotlib is there: ask before long work."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "expected matplotlib for the figure, which is not installed; "
            'try pip install "attar[plots]"'
        ) from error


def draw_curves(
    path: Path,
    panels: Sequence[Sequence[Curve]],
    *,
    titles: Sequence[str],
    x_label: str,
    y_label: str,
    marked: float | None = None,
) -> None:
    """Draw panels of curves side by side over a logarithmic axis; the same bytes every time.

    Args:
        path: A `.png` or `.svg` file.
        panels: The curves of each panel.
        titles: One for each panel.
        x_label: What the common horizontal axis shows; its ticks are the points themselves.
        y_label: What the vertical axes show.
        marked: Where a vertical line goes, if anywhere.

    Raises:
        AttarError: If the file is to have another format.
        MissingExtraError: If matplotlib is not installed.
        FolderError: If the file cannot be written.
    """
    if path.suffix not in FORMATS:
        raise AttarError(f"expected a file {' or '.join(FORMATS)}, got {path}")
    check_can_draw()
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

    with rc_context({"svg.hashsalt": "attar", "font.size": 9}):
        figure = Figure(figsize=(max(4.5, 3.4 * len(panels)), 3.2), layout="constrained", dpi=150)
        all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, curves, title in zip(all_axes, panels, titles, strict=True):
            for curve in curves:
                axes.errorbar(
                    curve.x, curve.y, curve.error, marker="o", ms=3, lw=1, capsize=2,
                    label=curve.name,
                )  # fmt: skip
            ticks = sorted({x for curve in curves for x in curve.x})
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(FixedLocator(ticks))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.tick_params(axis="x", labelrotation=60, labelsize=7)
            axes.set(title=title, xlabel=x_label)
            axes.grid(alpha=0.3)
            if marked is not None:
                axes.axvline(marked, color="gray", ls="--", lw=1)
            if len(curves) > 1:
                axes.legend(fontsize=7)
        all_axes[0].set_ylabel(y_label)
        buffer = io.BytesIO()
        # Without dates and versions, so that the same figure has the same bytes.
        metadata = {"Date": None, "Creator": None} if path.suffix == ".svg" else {"Software": None}
        figure.savefig(buffer, format=path.suffix[1:], metadata=metadata)
    write_atomically(path, buffer.getvalue())
