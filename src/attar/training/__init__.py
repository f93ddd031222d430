"""The loop that trains one network: seeded, resumable bit for bit, quick on a CPU."""

from attar.training.checkpoints import load_weights, save_weights
from attar.training.loop import LossFn, fit
from attar.training.run import Epoch, Measure, Step, TrainingRun
from attar.training.settings import OptimizerName, TrainingSettings

__all__ = [
    "Epoch",
    "LossFn",
    "Measure",
    "OptimizerName",
    "Step",
    "TrainingRun",
    "TrainingSettings",
    "fit",
    "load_weights",
    "save_weights",
]
