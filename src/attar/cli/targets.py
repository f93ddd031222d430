"""`attar targets`: look at a store of soft targets, check it, put stores together."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from attar import targets as store
from attar.cli.groups import make_group
from attar.targets import SoftTargets, StoreSummary

targets = make_group(
    "targets", "Look at a store of soft targets, check it, or put stores together."
)
Folder = Annotated[str, typer.Argument(help="The store's folder, or its URL.", metavar="FOLDER")]


@targets.command()
def inspect(folder: Folder) -> None:
    """Show a store's size, how often its teacher is right, and what its encoding costs.

    The teacher was measured while labeling, on the examples that have a hard target.
    """
    _show(store.inspect(SoftTargets.open(folder)))


@targets.command()
def verify(folder: Folder) -> None:
    """Compare every shard with its checksum."""
    opened = SoftTargets.open(folder)
    opened.verify()
    print(f"{opened.folder}: all {len(opened.entries)} shards are as they were written")


@targets.command()
def merge(
    folders: Annotated[
        list[Path], typer.Argument(help="Stores of one plan, finished or not.", metavar="FOLDER...")
    ],
    out: Annotated[Path, typer.Option("--out", help="The new store's folder.")],
) -> None:
    """Make one store of several, each with some of its shards."""
    merged = store.merge(folders, out)
    print(f"{out}: {len(merged.entries)} shards, {len(merged):,} examples")


def _show(summary: StoreSummary) -> None:
    print(
        f"{summary.examples:,} examples, {summary.classes:,} classes, {summary.views} view(s), "
        f"{summary.members} member(s); {summary.encoding}"
    )
    print(
        f"{summary.shards} shard(s), {summary.total_bytes:,} bytes, "
        f"{summary.bytes_per_example:,.1f} for each example, view and member"
    )
    unknown = "not measured (no hard targets, or labeled by an earlier release)"
    print(f"teacher: {summary.teacher or unknown}")
    title = f"measured on {summary.measured_rows} rows: soft targets stored and the teacher's own"
    table = Table(title=title)
    for name in ("T", "entropy, nats", "tail off by", "all off by", "lost, nats"):
        table.add_column(name, justify="right", no_wrap=True)
    for cost in summary.costs:
        table.add_row(
            f"{cost.temperature:g}",
            f"{cost.entropy_nats:.3f}",
            f"{cost.tail_error:.3%}",
            f"{cost.error:.3%}",
            f"{cost.lost_nats:.4f}",
        )
    Console(width=None if Console().is_terminal else 100).print(table)
