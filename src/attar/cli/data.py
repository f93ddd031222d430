"""`attar data`: make sets of examples ready, or check them. Subcommands have files of their own."""

from attar.cli.data_glyphs import cjk15k, glyphs
from attar.cli.data_speech import an4, fsdd
from attar.cli.groups import make_group

data = make_group("data", "Make a data set ready for the experiments that need one, or check it.")
for _command in (an4, cjk15k, fsdd, glyphs):
    data.command()(_command)
