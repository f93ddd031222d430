"""attar distills large models and ensembles into small ones that are cheap to deploy."""

from importlib.metadata import version

from attar.cohorts import Cohort
from attar.comparison import Comparison, compare, train_controls
from attar.data import (
    Batch,
    Jitter,
    StreamedSet,
    TransferSet,
    from_dataset,
    load_mnist,
    read_arrays,
    read_image_folder,
    read_table,
    stream_images,
    stream_table,
)
from attar.distillation import distill
from attar.ensembles import load_ensemble, save_ensemble, train
from attar.errors import AttarError
from attar.evaluation import Evaluation, compute_logits, evaluate, evaluate_members
from attar.event_files import TensorBoardLog
from attar.export import Exported, export_student
from attar.labeling import label
from attar.losses import MemberWeights, distillation_loss, member_distillation_loss
from attar.models import mlp
from attar.progress import ProgressBar
from attar.targets import Dense, SoftTargets, Sparse
from attar.teachers import Ensemble, EnsembleNetwork, Teacher, as_teacher
from attar.temperatures import TemperatureChoice, TemperatureSearch
from attar.training import TrainingRun, TrainingSettings

__all__ = [
    "AttarError",
    "Batch",
    "Cohort",
    "Comparison",
    "Dense",
    "Ensemble",
    "EnsembleNetwork",
    "Evaluation",
    "Exported",
    "Jitter",
    "MemberWeights",
    "ProgressBar",
    "SoftTargets",
    "Sparse",
    "StreamedSet",
    "Teacher",
    "TemperatureChoice",
    "TemperatureSearch",
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
    "evaluate_members",
    "export_student",
    "from_dataset",
    "label",
    "load_ensemble",
    "load_mnist",
    "member_distillation_loss",
    "mlp",
    "read_arrays",
    "read_image_folder",
    "read_table",
    "save_ensemble",
    "stream_images",
    "stream_table",
    "train",
    "train_controls",
]
__version__ = version("attar")
