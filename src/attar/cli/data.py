"""`attar data`: make data sets ready."""

import typer

from attar.cli.data_speech import an4, fsdd

data = typer.Typer(
    name="data",
    help="Make a data set ready for the experiments that need one.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
data.command()(an4)
data.command()(fsdd)
