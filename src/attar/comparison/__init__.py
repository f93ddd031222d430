"""Comparing models on a labelled set: measurements, costs and verdicts."""

from attar.comparison.comparing import ComparingProgress, compare
from attar.comparison.controls import CONTROLS, Control, ControlProgress, train_controls
from attar.comparison.result import Comparison

__all__ = [
    "CONTROLS",
    "ComparingProgress",
    "Comparison",
    "Control",
    "ControlProgress",
    "compare",
    "train_controls",
]
