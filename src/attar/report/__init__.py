"""Reports, of comparisons and of experiments: self-contained pages, from records alone."""

from attar.report.experiment import make_experiment_report, save_experiment_report
from attar.report.page import make_report, save_report

__all__ = ["make_experiment_report", "make_report", "save_experiment_report", "save_report"]
