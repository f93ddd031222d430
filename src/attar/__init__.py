"""attar distills large models and ensembles into small ones that are cheap to deploy."""

from importlib.metadata import version

from attar.data import (
    Batch,
    Jitter,
    TransferSet,
    from_dataset,
    load_mnist,
    read_arrays,
    read_image_folder,
    read_table,
)
from attar.distillation import distill
from attar.errors import AttarError
from attar.evaluation import Evaluation, compute_logits, evaluate
from attar.export import Exported, export_student
from attar.labeling import label
from attar.losses import distillation_loss
from attar.models import mlp
from attar.targets import Dense, SoftTargets, Sparse
from attar.teachers import Ensemble, Teacher, as_teacher
from attar.training import TrainingRun, TrainingSettings

__all__ = [
    "AttarError",
    "Batch",
    "Dense",
    "Ensemble",
    "Evaluation",
    "Exported",
    "Jitter",
    "SoftTargets",
    "Sparse",
    "Teacher",
    "TrainingRun",
    "TrainingSettings",
    "TransferSet",
    "as_teacher",
    "compute_logits",
    "distill",
    "distillation_loss",
    "evaluate",
    "export_student",
    "from_dataset",
    "label",
    "load_mnist",
    "mlp",
    "read_arrays",
    "read_image_folder",
    "read_table",
]
__version__ = version("attar")
