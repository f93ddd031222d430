"""Terminal output: a progress bar, and a table at the end."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from attar.progress import ProgressBar, ProgressRecord, duration
from attar.recipes.stages import Progress
from attar.records import ExperimentResult


def follow(progress: Iterator[Progress], *, log: Callable[[Progress], None] | None = None) -> None:
    """Run an experiment to its end and show its progress.

    In a terminal this is a bar on standard error, elsewhere an occasional line.

    Args:
        progress: The experiment.
        log: Called with every progress record.
    """
    with _bar() as show:
        for now in progress:
            show(now)
            if log:
                log(now)


@contextmanager
def showing() -> Iterator[Callable[[ProgressRecord | str], None]]:
    """Yield a function that shows the progress of a job and prints its messages."""
    with _bar() as show:
        yield lambda now: print(now, flush=True) if isinstance(now, str) else show(now)


def _bar() -> ProgressBar:
    console = Console(stderr=True)
    return ProgressBar(console if console.is_terminal else Console())


def show_result(result: ExperimentResult, path: Path) -> None:
    """Print the result table: the paper's numbers beside those of the run."""
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
