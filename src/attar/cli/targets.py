"""`attar targets`: inspect, verify and merge stores of soft targets."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from attar import targets as store
from attar.cli.groups import make_group
from attar.targets import SoftTargets, StoreSummary

targets = make_group("targets", "Inspect, verify and merge stores of soft targets.")
Folder = Annotated[str, typer.Argument(help="The store's folder, or its URL.", metavar="FOLDER")]


@targets.command()
def inspect(folder: Folder) -> None:
    """Show a store's size, the accuracy of its teacher and the loss from its encoding.

    The teacher was measured during labeling, on the examples that have a hard target.
    """
    _show(store.inspect(SoftTargets.open(folder)))


@targets.command()
def verify(folder: Folder) -> None:
    """Compare every shard with its checksum."""
    opened = SoftTargets.open(folder)
    opened.verify()
    print(f"{opened.folder}: all {len(opened.entries)} shards match their checksums")


@targets.command()
def merge(
    folders: Annotated[
        list[Path],
        typer.Argument(help="Stores of the same plan, finished or not.", metavar="FOLDER..."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the merged store.")],
) -> None:
    """Merge several stores, each with some of the shards, into one."""
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
    title = f"stored soft targets against the teacher's, measured on {summary.measured_rows} rows"
    table = Table(title=title)
    for name in ("T", "entropy, nats", "tail error", "total error", "loss, nats"):
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
