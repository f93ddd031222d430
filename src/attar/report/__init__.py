"""The report of a comparison: one self-contained page, from its records alone."""

from attar.report.page import make_report, save_report

__all__ = ["make_report", "save_report"]
