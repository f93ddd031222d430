"""attar distills large models and ensembles into small ones that are cheap to deploy."""

from importlib.metadata import version

from attar.comparison import Comparison, compare, train_controls
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
from attar.event_files import TensorBoardLog
from attar.export import Exported, export_student
from attar.labeling import label
from attar.losses import distillation_loss
from attar.models import mlp
from attar.progress import ProgressBar
from attar.targets import Dense, SoftTargets, Sparse
from attar.teachers import Ensemble, Teacher, as_teacher
from attar.training import TrainingRun, TrainingSettings

__all__ = [
    "AttarError",
    "Batch",
    "Comparison",
    "Dense",
    "Ensemble",
    "Evaluation",
    "Exported",
    "Jitter",
    "ProgressBar",
    "SoftTargets",
    "Sparse",
    "Teacher",
    "TensorBoardLog",
    "TrainingRun",
    "TrainingSettings",
    "TransferSet",
    "as_teacher",
    "compare",
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
    "train_controls",
]
__version__ = version("attar")
