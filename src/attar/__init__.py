"""attar distills large models and ensembles into small ones that are cheap to deploy."""

from importlib.metadata import version

from attar.data import Batch, Jitter, TransferSet, load_mnist
from attar.distillation import distill
from attar.errors import AttarError
from attar.evaluation import Evaluation, compute_logits, evaluate
from attar.labeling import label
from attar.losses import distillation_loss
from attar.models import mlp
from attar.targets import Dense, SoftTargets, Sparse
from attar.training import TrainingRun, TrainingSettings

__all__ = [
    "AttarError",
    "Batch",
    "Dense",
    "Evaluation",
    "Jitter",
    "SoftTargets",
    "Sparse",
    "TrainingRun",
    "TrainingSettings",
    "TransferSet",
    "compute_logits",
    "distill",
    "distillation_loss",
    "evaluate",
    "label",
    "load_mnist",
    "mlp",
]
__version__ = version("attar")
