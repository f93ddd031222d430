"""Comparing models on a labelled set: measurements, costs and verdicts."""

from attar.comparison.comparing import ComparingProgress, compare
from attar.comparison.result import Comparison

__all__ = ["ComparingProgress", "Comparison", "compare"]
