"""The losses of distillation: on dense soft targets, and on those that a store holds."""

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

__all__ = [
    "UNLABELED",
    "PerClass",
    "PerExample",
    "distillation_loss",
    "kl_divergence",
    "kl_divergence_with_teacher_logits",
    "logit_matching",
    "soft_cross_entropy",
    "soft_cross_entropy_with_teacher_logits",
    "softmax_with_temperature",
]
