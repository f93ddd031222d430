"""The temperature, chosen by a cohort of students on held-out examples."""

from attar.temperatures.choice import choose_temperature, cohort_soft_target_loss, hold_out
from attar.temperatures.records import Candidate, TemperatureChoice, TemperatureSearch

__all__ = [
    "Candidate",
    "TemperatureChoice",
    "TemperatureSearch",
    "choose_temperature",
    "cohort_soft_target_loss",
    "hold_out",
]
