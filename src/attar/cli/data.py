"""`attar data`: prepare or check data sets."""

from attar.cli.data_glyphs import cjk15k, glyphs
from attar.cli.data_speech import an4, fsdd
from attar.cli.groups import make_group

data = make_group("data", "Prepare or check the data set of an experiment.")
for _command in (an4, cjk15k, fsdd, glyphs):
    data.command()(_command)
