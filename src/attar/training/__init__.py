"""The loop that trains one network: seeded, resumable bit for bit, quick on a CPU."""

from attar.training.large_output import LargeOutput, through_output_layer
from attar.training.loop import LossFn, fit, hard_target_loss
from attar.training.run import Epoch, Measure, Step, TrainingRun
from attar.training.settings import OptimizerName, TrainingSettings, make_settings
from attar.training.sharing import Share
from attar.weights import load_weights, save_weights

__all__ = [
    "Epoch",
    "LargeOutput",
    "LossFn",
    "Measure",
    "OptimizerName",
    "Share",
    "Step",
    "TrainingRun",
    "TrainingSettings",
    "fit",
    "hard_target_loss",
    "load_weights",
    "make_settings",
    "save_weights",
    "through_output_layer",
]
