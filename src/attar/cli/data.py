"""`attar data`: make sets of examples ready, or check them. Subcommands have files of their own."""

import typer

from attar.cli.data_glyphs import cjk15k, glyphs
from attar.cli.data_speech import an4, fsdd

data = typer.Typer(
    name="data",
    help="Make a data set ready for the experiments that need one, or check it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
for _command in (an4, cjk15k, fsdd, glyphs):
    data.command()(_command)
