"""`attar data`: make or check sets of examples. Each subcommand has a file of its own."""

import typer

from attar.cli import data_glyphs

data = typer.Typer(
    name="data",
    help="Make a set of examples, or check one.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
data.command("glyphs")(data_glyphs.glyphs)
data.command("cjk15k")(data_glyphs.cjk15k)
