"""Teachers with the interface of scikit-learn, which need not be installed."""

import importlib
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from attar.errors import DataError, ShapeError
from attar.teachers.fingerprints import hash_value
from attar.teachers.networks import hash_version
from attar.teachers.protocol import (
    Answers,
    Examples,
    Rest,
    answers_key,
    check_class_count,
    to_logits,
)

_NUMBERED = re.compile(r"(Column_)?\d+$")  # names of unnamed features in LightGBM and CatBoost
_OWN = "use attar.TrainingRun with a custom loss to distill such a model"


def is_classifier(model: object) -> bool:
    """Return whether the model has the interface of scikit-learn classifiers, fitted or not."""
    return hasattr(model, "predict") and (
        hasattr(model, "predict_proba") or hasattr(model, "decision_function")
    )


def check_no_predictor(model: object) -> None:
    """Raise `DataError` if a model has the interface of scikit-learn, but no class scores."""
    if not hasattr(model, "predict") or is_classifier(model):
        return
    name = type(model).__name__
    if _is_regressor(model):
        raise DataError(f"expected a classifier, but {name} is a regressor; {_OWN}")
    if not callable(model):  # callables are functions, such as Keras models
        raise DataError(
            f"expected a classifier with predict_proba or decision_function, but {name} has "
            "neither; if its predict returns scores of all classes, wrap it in a function"
        )


@dataclass(frozen=True)
class ClassifierTeacher:
    """A fitted classifier: its `predict_proba` or, if it has none, its `decision_function`.

    Its inputs are those of a network, flattened: uint8 inputs are scaled to [0, 1]. If it was
    fitted on a table, it gets a table with the same columns: matched by name if the transfer set
    has feature names, else by position, with a warning.
    """

    model: Any
    columns: tuple[int, ...]  # position of each class of the transfer set in the model's output
    answers: Answers
    version: str | None = None  # instead of a hash of the model's state
    rest: Rest | None = None  # see `to_logits`
    feature_names: tuple[str, ...] | None = None  # of the transfer set
    members: None = None
    reads_inputs: bool = True

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.columns)

    @property
    def name(self) -> str:
        """Name in errors."""
        return f"the classifier {type(self.model).__name__}"

    def logits(self, batch: Examples) -> Float[Tensor, "batch classes"]:
        """Run the classifier. A binary decision function s becomes the logits 0 and s.

        Raises:
            ShapeError: If there is not one score per class, or the inputs do not have the features
                on which the model was fitted.
            DataError: If the output does not match `answers`.
        """
        inputs = self._prepare(batch.inputs.flatten(start_dim=1).cpu().numpy())
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
            rest=self.rest,
        )

    def fingerprint(self) -> str:
        """Hash the state of the fitted model, or its version if one was given."""
        places = self._places()
        moved = places is not None and places != list(range(len(places)))
        read = (*answers_key(self.answers, self.rest), *([places] if moved else []))
        if self.version is not None:
            order = () if self.columns == tuple(range(self.classes)) else (self.columns,)
            return hash_version(self.version, (*read, *order))
        return hash_value([self.model, self.columns, *read])

    def with_features(self, feature_names: Sequence[str] | None) -> "ClassifierTeacher":
        """Return the teacher for a transfer set with these feature names.

        Raises:
            DataError: If a feature on which the model was fitted is missing.
        """
        if feature_names is None:
            return self
        if len(set(feature_names)) < len(feature_names):
            raise DataError(f"expected different feature_names, got {list(feature_names)[:10]}")
        changed = replace(self, feature_names=tuple(feature_names))
        changed._places()
        return changed

    def _places(self) -> list[int] | None:
        """Return the position of each feature in the transfer set; None if a side has no names."""
        fitted = _fitted_features(self.model, self.feature_names)
        if fitted is None or self.feature_names is None:
            return None
        missing = [each for each in fitted if each not in self.feature_names]
        if missing:
            raise DataError(
                f"expected the features of {self.name}, but the transfer set lacks {missing[:5]} "
                f"({len(missing)} of {len(fitted)}); it has {list(self.feature_names[:5])}"
            )
        return [self.feature_names.index(each) for each in fitted]

    def _prepare(self, inputs: NDArray[Any]) -> Any:  # noqa: ANN401 (an array or a table)
        """Return the features of the model, in its order and with its names."""
        fitted, places = _fitted_features(self.model, self.feature_names), self._places()
        if fitted is None:
            return inputs
        width = inputs.shape[1]
        if places is None and width != len(fitted):
            raise ShapeError(
                f"expected the {len(fitted)} features {fitted[:5]} of {self.name}, got {width} "
                "without names"
            )
        if places is not None and width != len(self.feature_names or ()):
            raise ShapeError(
                f"expected a column for each of the {len(self.feature_names or ())} feature_names "
                f"of the transfer set, got {width}"
            )
        if places is None:
            warnings.warn(
                f"{self.name} was fitted on named features {fitted[:5]}, but the transfer set has "
                "no feature names: columns are matched by position; read the set from a table, or "
                "pass as_teacher(..., feature_names=...)",
                stacklevel=3,
            )
        else:
            inputs = inputs[:, places]
        return _make_table(inputs, fitted)


def make_classifier_teacher(
    model: Any,  # noqa: ANN401 (anything with scikit-learn's methods)
    *,
    classes: int,
    class_names: Sequence[str] | None,
    answers: Answers | None,
    rest: Rest | None,
    version: str | None,
    feature_names: Sequence[str] | None,
) -> ClassifierTeacher:
    """Choose the method to ask, and find each class of the transfer set among `classes_`.

    Raises:
        DataError: If the model is not fitted, lacks the method, was fitted on other classes or
            features, or is no classifier into one class.
        ShapeError: If it was fitted on another number of classes.
    """
    name = f"the classifier {type(model).__name__}"
    if _is_regressor(model):
        raise DataError(f"expected a classifier, but {type(model).__name__} is a regressor; {_OWN}")
    found = getattr(model, "classes_", None)
    if found is None:
        raise DataError(f"expected a fitted classifier with classes_, but {name} has none; fit it")
    if isinstance(found, list) or _is_multi_label(model):
        several = f"{len(found)} from" if isinstance(found, list) else "several from"
        raise DataError(
            f"expected one target, got {several} {name}, a multi-label or multi-output model; fit "
            f"one model per target, or {_OWN}"
        )
    has = {"probabilities": "predict_proba", "logits": "decision_function"}
    if answers is None:
        answers = "probabilities" if hasattr(model, "predict_proba") else "logits"
    if not hasattr(model, has[answers]):
        raise DataError(
            f"expected {has[answers]} for {answers}, but {name} has none; try the other answers="
        )
    values = np.asarray(found)
    check_class_count(len(values), classes=classes, name=name)
    shape = getattr(_last_step(model), "decision_function_shape", None)
    if answers == "logits" and shape == "ovo" and classes > 2:
        raise DataError(
            f"expected one score per class from {name}, but its decision_function has one per pair "
            'of classes; fit it with decision_function_shape="ovr", or with probability=True'
        )
    columns = _find_columns(values, class_names, name)
    return ClassifierTeacher(model, columns, answers, version, rest).with_features(feature_names)


def _find_columns(
    found: NDArray[Any], class_names: Sequence[str] | None, name: str
) -> tuple[int, ...]:
    """Return the position of each class: by index for integers, by name for texts."""
    values = found.tolist()
    integers = all(isinstance(value, int) and not isinstance(value, bool) for value in values)
    if integers and sorted(values) == list(range(len(values))):
        numbers = [str(place) for place in range(len(values))]
        names = numbers if class_names is None else list(class_names)
        if names != numbers and sorted(names) == sorted(numbers):
            raise DataError(
                f"the integers 0..{len(values) - 1} of {name} may be indices or names of the "
                f"transfer set's classes {names[:4]}; pass as_teacher(model, "
                f"classes={len(values)}) if they are indices, or make the set with class_names in "
                "numerical order if they are names"
            )
        return tuple(values.index(place) for place in range(len(values)))
    if class_names is None:
        raise DataError(
            f"expected classes_ 0..{len(values) - 1}, got {values[:5]} in {name}; "
            "pass class_names= to match them by name"
        )
    names, wanted = [str(value) for value in values], list(class_names)
    places = {value: place for place, value in enumerate(names)}
    missing = [each for each in wanted if each not in places]
    if missing:
        known = set(wanted)
        extra = [each for each in names if each not in known]
        raise DataError(
            f"expected the transfer set's classes, but {name} lacks {missing[:5]} and has "
            f"{extra[:5]}; fit it on the same class names"
        )
    return tuple(places[each] for each in wanted)


def _is_regressor(model: Any) -> bool:  # noqa: ANN401
    if getattr(model, "_estimator_type", None) == "regressor":
        return True
    try:
        from sklearn.base import is_regressor  # imported here, because it takes a second

        return bool(is_regressor(model))
    except Exception:  # of a class that follows scikit-learn only in part
        return False


def _is_multi_label(model: Any) -> bool:  # noqa: ANN401
    model = _last_step(model)
    binarizer = getattr(model, "_label_binarizer", None)  # of MLPClassifier and RidgeClassifier
    kind = str(getattr(binarizer, "y_type_", ""))
    return bool(getattr(model, "multilabel_", False)) or kind.startswith("multilabel")


def _last_step(model: Any) -> Any:  # noqa: ANN401
    """Return the last model of a pipeline, or the best of a search."""
    while True:
        if hasattr(model, "best_estimator_"):
            model = model.best_estimator_
        elif isinstance(steps := getattr(model, "steps", None), list) and steps:
            model = steps[-1][1]
        else:
            return model


def _fitted_features(
    model: Any,  # noqa: ANN401
    feature_names: Sequence[str] | None,
) -> list[str] | None:
    """Return the feature names on which a model was fitted; None if there were none.

    Libraries number unnamed features; such names are used only if the transfer set has them, too.
    """
    names = getattr(model, "feature_names_in_", None)
    if names is None:
        names = getattr(model, "feature_names_", None)  # CatBoost's
    if names is None or not len(names):
        return None
    texts = [str(each) for each in names]
    is_shared = feature_names is not None and set(texts) <= set(feature_names)
    return texts if is_shared or not all(_NUMBERED.match(each) for each in texts) else None


def _make_table(inputs: NDArray[Any], names: list[str]) -> Any:  # noqa: ANN401
    """Return a DataFrame with these columns, or the array if pandas is not installed."""
    try:
        pandas = importlib.import_module("pandas")  # no requirement of attar
    except ImportError:
        return inputs
    return pandas.DataFrame(inputs, columns=names)
