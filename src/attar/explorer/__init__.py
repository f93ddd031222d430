"""The explorer: one self-contained page for looking at what a teacher knows beside the answer."""

from attar.explorer.exploration import ExampleSet, Exploration, Model
from attar.explorer.page import make_explorer
from attar.explorer.serving import serve_page

__all__ = ["ExampleSet", "Exploration", "Model", "make_explorer", "serve_page"]
