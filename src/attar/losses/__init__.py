"""The losses of distillation: on dense soft targets, and on those that a store holds."""

from attar.losses.alternatives import (
    correlation_distance,
    decoupled_divergence,
    standardize_logits,
    standardized_kl_divergence,
    transformed_teacher_divergence,
)
from attar.losses.checks import UNLABELED
from attar.losses.dense import (
    PerClass,
    PerExample,
    distillation_loss,
    kl_divergence,
    kl_divergence_with_teacher_logits,
    logit_matching,
    soft_cross_entropy,
    soft_cross_entropy_with_teacher_logits,
    softmax_with_temperature,
)
from attar.losses.means import Mean, check_mean, mean_logits, member_shares
from attar.losses.members import MemberWeights, member_distillation_loss
from attar.losses.output_layer import RowsLoss, output_layer_loss
from attar.losses.soft_targets import (
    DenseTargets,
    SoftTargetBatch,
    SparseProbabilities,
    SparseTargets,
    interpolate_tail,
    to_probabilities,
)
from attar.losses.sparse import sparse_distillation_loss, sparse_soft_cross_entropy

__all__ = [
    "UNLABELED",
    "DenseTargets",
    "Mean",
    "MemberWeights",
    "PerClass",
    "PerExample",
    "RowsLoss",
    "SoftTargetBatch",
    "SparseProbabilities",
    "SparseTargets",
    "check_mean",
    "correlation_distance",
    "decoupled_divergence",
    "distillation_loss",
    "interpolate_tail",
    "kl_divergence",
    "kl_divergence_with_teacher_logits",
    "logit_matching",
    "mean_logits",
    "member_distillation_loss",
    "member_shares",
    "output_layer_loss",
    "soft_cross_entropy",
    "soft_cross_entropy_with_teacher_logits",
    "softmax_with_temperature",
    "sparse_distillation_loss",
    "sparse_soft_cross_entropy",
    "standardize_logits",
    "standardized_kl_divergence",
    "to_probabilities",
    "transformed_teacher_divergence",
]
