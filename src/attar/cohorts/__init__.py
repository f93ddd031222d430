"""Many networks of one shape, trained together."""

from attar.cohorts.cohort import Cohort

__all__ = ["Cohort"]
