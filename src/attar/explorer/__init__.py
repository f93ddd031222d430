"""The explorer: one self-contained page for looking at what a teacher knows beside the answer."""

from attar.explorer.exploration import ExampleSet, Exploration, Model
from attar.explorer.page import make_explorer
from attar.explorer.serving import LOOPBACK, open_server

__all__ = ["LOOPBACK", "ExampleSet", "Exploration", "Model", "make_explorer", "open_server"]
