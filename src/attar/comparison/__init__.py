"""Comparing models on a labelled set: measurements, costs and verdicts."""
