"""Teachers in the manner of scikit-learn, which need not be installed for this module."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from attar.errors import DataError
from attar.teachers.fingerprints import hash_value
from attar.teachers.networks import hash_version
from attar.teachers.protocol import Answers, Examples, check_class_count, to_logits


def is_classifier(model: object) -> bool:
    """Tell whether the model predicts classes as scikit-learn's do, fitted or not."""
    return hasattr(model, "predict") and (
        hasattr(model, "predict_proba") or hasattr(model, "decision_function")
    )


@dataclass(frozen=True)
class ClassifierTeacher:
    """A fitted classifier, asked for `predict_proba` or, if it has none, `decision_function`.

    It sees the transfer set's inputs as a network does, flattened: uint8 inputs scaled to [0, 1].
    """

    model: Any
    columns: tuple[int, ...]  # where in the model's answer each class of the transfer set stands
    answers: Answers
    version: str | None = None  # instead of a hash of the model's state
    members: None = None
    reads_inputs: bool = True

    @property
    def classes(self) -> int:
        """How many classes it tells apart."""
        return len(self.columns)

    @property
    def name(self) -> str:
        """What the errors call it."""
        return f"the classifier {type(self.model).__name__}"

    def logits(self, batch: Examples) -> Float[Tensor, "batch classes"]:
        """Ask the classifier. A binary decision function s becomes the logits 0 and s.

        Raises:
            ShapeError: If the scores are not one for each class.
            DataError: If the answer is not what `answers` says.
        """
        inputs = batch.inputs.flatten(start_dim=1).cpu().numpy()  # [batch, features]
        if self.answers == "probabilities":
            scores = np.asarray(self.model.predict_proba(inputs))
        else:
            scores = np.asarray(self.model.decision_function(inputs))
            if scores.ndim == 1:
                scores = np.stack([np.zeros_like(scores), scores], axis=1)
        if scores.ndim == 2 and scores.shape[1] == self.classes:
            scores = scores[:, self.columns]
        return to_logits(
            torch.from_numpy(np.ascontiguousarray(scores)),
            answers=self.answers,
            classes=self.classes,
            indices=batch.indices,
            name=self.name,
        )

    def fingerprint(self) -> str:
        """Hash the state of the fitted model, or the version that stands for it."""
        if self.version is not None:
            return hash_version(self.version)
        return hash_value([self.model, self.columns, self.answers])


def make_classifier_teacher(
    model: Any,  # noqa: ANN401 (anything with scikit-learn's methods)
    *,
    classes: int,
    class_names: Sequence[str] | None,
    answers: Answers | None,
    version: str | None,
) -> ClassifierTeacher:
    """Choose the method to ask, and find each class of the transfer set among `classes_`.

    Raises:
        DataError: If the model is not fitted, lacks the method, or was fitted on other classes.
        ShapeError: If it was fitted on another number of classes.
    """
    name = f"the classifier {type(model).__name__}"
    found = getattr(model, "classes_", None)
    if found is None:
        raise DataError(f"expected a fitted classifier with classes_, got none in {name}; fit it")
    if isinstance(found, list):
        raise DataError(f"expected one target, got {len(found)} from {name}; fit one for each")
    has = {"probabilities": "predict_proba", "logits": "decision_function"}
    if answers is None:
        answers = "probabilities" if hasattr(model, "predict_proba") else "logits"
    if not hasattr(model, has[answers]):
        raise DataError(
            f"expected {has[answers]} for {answers}, {name} has none; try the other answers="
        )
    values = np.asarray(found)
    check_class_count(len(values), classes=classes, name=name)
    return ClassifierTeacher(model, _find_columns(values, class_names, name), answers, version)


def _find_columns(
    found: NDArray[Any], class_names: Sequence[str] | None, name: str
) -> tuple[int, ...]:
    """Say where each class stands: by its index if they are integers, by its name if texts."""
    values = found.tolist()
    integers = all(isinstance(value, int) and not isinstance(value, bool) for value in values)
    if integers and sorted(values) == list(range(len(values))):
        wanted: list[Any] = list(range(len(values)))
    elif class_names is not None:
        wanted, values = list(class_names), [str(value) for value in values]
    else:
        raise DataError(
            f"expected classes_ 0..{len(values) - 1}, got {values[:5]} in {name}; "
            "give class_names= to find them by name"
        )
    places = {value: place for place, value in enumerate(values)}
    missing = [each for each in wanted if each not in places]
    if missing:
        known = set(wanted)
        extra = [each for each in values if each not in known]
        raise DataError(
            f"expected the transfer set's classes, {name} lacks {missing[:5]} and has {extra[:5]}; "
            "fit it on the same class names"
        )
    return tuple(places[each] for each in wanted)
