"""One generalist and many specialists: Hinton et al. (2015), sec. 5."""

from attar.specialists.combining import Combination, SpecialistAnswer, combine
from attar.specialists.dustbin import (
    correct_dustbin,
    draw_examples,
    log_sum_others,
    measure_oversampling,
    narrow_output,
    raise_dustbin,
    specialist_loss,
    to_special_probabilities,
    to_special_targets,
)
from attar.specialists.grouping import (
    CovarianceSketch,
    check_groups,
    count_cover,
    group_classes,
)
from attar.specialists.network import SpecialistEnsemble
from attar.specialists.solving import Direction
from attar.specialists.training import (
    Specialist,
    SpecialistWeights,
    load_specialist,
    save_specialist,
    specialist_path,
    train_specialist,
    train_specialists,
)

__all__ = [
    "Combination",
    "CovarianceSketch",
    "Direction",
    "Specialist",
    "SpecialistAnswer",
    "SpecialistEnsemble",
    "SpecialistWeights",
    "check_groups",
    "combine",
    "correct_dustbin",
    "count_cover",
    "draw_examples",
    "group_classes",
    "load_specialist",
    "log_sum_others",
    "measure_oversampling",
    "narrow_output",
    "raise_dustbin",
    "save_specialist",
    "specialist_loss",
    "specialist_path",
    "to_special_probabilities",
    "to_special_targets",
    "train_specialist",
    "train_specialists",
]
