"""attar distills large models and ensembles into small ones that are cheap to deploy."""

from importlib.metadata import version

from attar.data import Batch, Jitter, TransferSet, load_mnist
from attar.errors import AttarError
from attar.evaluation import Evaluation, compute_logits, evaluate
from attar.export import Exported, export_student
from attar.losses import distillation_loss
from attar.models import mlp
from attar.training import TrainingRun, TrainingSettings

__all__ = [
    "AttarError",
    "Batch",
    "Evaluation",
    "Exported",
    "Jitter",
    "TrainingRun",
    "TrainingSettings",
    "TransferSet",
    "compute_logits",
    "distillation_loss",
    "evaluate",
    "export_student",
    "load_mnist",
    "mlp",
]
__version__ = version("attar")
