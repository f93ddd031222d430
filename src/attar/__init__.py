"""attar distills large models and ensembles into small ones that are cheap to deploy."""

from importlib.metadata import version

from attar.cohorts import Cohort
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
from attar.ensembles import load_ensemble, save_ensemble, train
from attar.errors import AttarError
from attar.evaluation import Evaluation, compute_logits, evaluate, evaluate_members
from attar.export import Exported, export_student
from attar.labeling import label
from attar.losses import MemberWeights, distillation_loss, member_distillation_loss
from attar.models import mlp
from attar.targets import Dense, SoftTargets, Sparse
from attar.teachers import Ensemble, EnsembleNetwork, Teacher, as_teacher
from attar.temperatures import TemperatureChoice, TemperatureSearch
from attar.training import TrainingRun, TrainingSettings

__all__ = [
    "AttarError",
    "Batch",
    "Cohort",
    "Dense",
    "Ensemble",
    "EnsembleNetwork",
    "Evaluation",
    "Exported",
    "Jitter",
    "MemberWeights",
    "SoftTargets",
    "Sparse",
    "Teacher",
    "TemperatureChoice",
    "TemperatureSearch",
    "TrainingRun",
    "TrainingSettings",
    "TransferSet",
    "as_teacher",
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
    "train",
]
__version__ = version("attar")
