"""Teachers: anything that turns inputs into logits."""

from attar.teachers.choice import as_teacher
from attar.teachers.ensemble_network import EnsembleNetwork
from attar.teachers.networks import Ensemble
from attar.teachers.protocol import ZERO_LOGIT, Answers, Examples, Teacher

__all__ = [
    "ZERO_LOGIT",
    "Answers",
    "Ensemble",
    "EnsembleNetwork",
    "Examples",
    "Teacher",
    "as_teacher",
]
