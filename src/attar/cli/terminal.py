"""What people see in the terminal: a bar while something runs, a table at its end."""

import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table

from attar.recipes.stages import Progress
from attar.records import ExperimentResult

_REFRESH_SECONDS, _LINE_SECONDS = 0.2, 15.0


def follow(progress: Iterator[Progress]) -> None:
    """Run the experiment to its end and show how far it is.

    In a terminal that is a bar; elsewhere a plain line now and then.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        _follow_in_lines(progress)
        return
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %")
    with Bar(*columns, console=console, transient=True) as bar:
        task, shown_at = bar.add_task("starting", total=1.0), 0.0
        for now in progress:
            if time.monotonic() - shown_at < _REFRESH_SECONDS:
                continue
            bar.update(task, completed=now.fraction, description=describe(now))
            shown_at = time.monotonic()


def _follow_in_lines(progress: Iterator[Progress]) -> None:
    title, shown_at = "", 0.0
    for now in progress:
        if now.title != title or time.monotonic() - shown_at > _LINE_SECONDS:
            print(f"{now.fraction:4.0%}  {describe(now)}", flush=True)
            title, shown_at = now.title, time.monotonic()


def describe(progress: Progress) -> str:
    """Put the progress into one line."""
    errors = "" if progress.errors is None else f" · {progress.errors} errors"
    left = "" if progress.seconds_left is None else f" · {duration(progress.seconds_left)} left"
    return (
        f"{progress.title} · epoch {progress.epoch}/{progress.epochs}{errors}"
        f" · {progress.examples_per_second:,.0f} examples/s{left}"
    )


def duration(seconds: float) -> str:
    """Write a time for people, as hours, minutes and seconds.

    Example:
        >>> duration(59), duration(754), duration(7300)
        ('59 s', '12 min 34 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def show_result(result: ExperimentResult, path: Path) -> None:
    """Print the closing table: each number of the paper, and ours beside it."""
    seeds = result.config.get("seeds") or max(row.seeds for row in result.rows)
    metrics = {row.metric for row in result.rows}
    about = metrics.pop() if len(metrics) == 1 else ""  # one for all: said once, in the title
    table = Table(title=f"{result.experiment}: {about}{', ' * bool(about)}{seeds} seed(s)")
    table.add_column("network")
    if not about:
        table.add_column("metric")
    for name in ("parameters", "paper", "ours"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in result.rows:
        spread = "" if row.sd is None else f" ± {row.sd:.1f}"
        table.add_row(
            row.name,
            *([] if about else [row.metric]),
            f"{row.parameters:,}" if row.parameters else "",
            "" if row.paper is None else f"{row.paper:g}",
            f"{row.mean:.1f}{spread}" if row.sd is not None else f"{row.mean:g}",
        )
    Console(width=None if Console().is_terminal else 100).print(table)
    for note in result.details.get("notes", ()):  # what the recipe says of its numbers
        print(note)
    print(f"{duration(result.wall_seconds)} of training on {result.machine.cores} cores; {path}")
