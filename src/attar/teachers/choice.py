"""Making a teacher out of whatever there is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from attar.errors import AttarError, DataError, FolderError
from attar.precision import Precision
from attar.teachers.arrays import make_stored_teacher, open_stored_teacher
from attar.teachers.classifiers import is_classifier, make_classifier_teacher
from attar.teachers.ensemble_network import EnsembleNetwork
from attar.teachers.hugging_face import (
    is_hugging_face,
    is_hugging_face_folder,
    make_hugging_face_teacher,
    open_hugging_face_teacher,
)
from attar.teachers.networks import Ensemble, FunctionTeacher, NetworkTeacher
from attar.teachers.onnx_file import OnnxTeacher
from attar.teachers.protocol import Answers, Teacher, check_class_count

_STORED = (".npy", ".npz", ".parquet")
_UNREAD = {
    ".pt": "with torch.load(..., weights_only=True)",
    ".pth": "with torch.load(..., weights_only=True)",
    ".safetensors": "with safetensors.torch.load_model",
    ".pkl": "if you trust the file",
    ".pickle": "if you trust the file",
    ".joblib": "if you trust the file",
}


def as_teacher(
    source: object,
    *,
    class_names: Sequence[str] | None = None,
    classes: int | None = None,
    examples: int | None = None,
    answers: Answers | None = None,
    precision: Precision = "float32",
    padding: int | None = None,
    version: str | None = None,
) -> Teacher:
    """Make a teacher of a transfer set's classes out of a model, a file or a list of them.

    Args:
        source: A torch module; an `attar.EnsembleNetwork`, whose members are asked one by one; a
            classifier of `transformers`; a fitted classifier of scikit-learn;
            a function from inputs to scores; scores `[examples, classes]`, tensor or array; a file
            of scores (`.npy`, `.npz`, `.parquet`) or of a network (`.onnx`); a folder that
            `transformers` saved; a list of these, which makes an `Ensemble`; or a teacher.
        class_names: Those of the transfer set, in order, to find the teacher's classes by name.
        classes: How many classes the transfer set has; by default as many as `class_names`.
        examples: How many examples it has, to check stored scores against.
        answers: What the source answers with; by default logits, for files what they say, and for
            scikit-learn probabilities if it has them. Probabilities p become log p.
        precision: Of a torch module's products.
        padding: The id of padding tokens, for networks that take an attention mask.
        version: For functions and scikit-learn: stands in the fingerprint for what decides the
            answers. A function needs one, since it does not show what it computes.

    Returns:
        The teacher; see `Teacher`.

    Raises:
        AttarError: If the source is nothing of these, or something to go with it is missing.
        DataError: If it is damaged, or its classes are not the transfer set's.
        ShapeError: If it has another number of classes or examples.

    Example:
        >>> import torch
        >>> teacher = as_teacher(nn.Linear(4, 3), classes=3)
        >>> teacher.classes, len(teacher.fingerprint())
        (3, 64)
    """
    wanted = _Wanted(
        class_names, _count(class_names, classes), examples, answers, precision, padding, version
    )
    return _choose(source, wanted)


@dataclass(frozen=True)
class _Wanted:
    """What `as_teacher` was asked for, beside the source."""

    class_names: Sequence[str] | None
    classes: int
    examples: int | None
    answers: Answers | None
    precision: Precision
    padding: int | None
    version: str | None


def _choose(source: Any, wanted: _Wanted) -> Teacher:  # noqa: ANN401 (a model of any library)
    if isinstance(source, type):
        raise AttarError(f"expected a model, got the class {source.__name__}; make one of it")
    if isinstance(source, Teacher):
        check_class_count(source.classes, classes=wanted.classes, name=type(source).__name__)
        return source
    if isinstance(source, EnsembleNetwork):
        source = list(source.networks)
    if isinstance(source, list | tuple):
        return Ensemble([_choose(each, _member(wanted, i)) for i, each in enumerate(source)])
    if isinstance(source, str | Path):
        return _open(Path(source), wanted)
    if isinstance(source, Tensor | np.ndarray):
        return make_stored_teacher(
            source.detach().cpu().numpy() if isinstance(source, Tensor) else source,
            None,
            classes=wanted.classes,
            examples=wanted.examples,
            answers=wanted.answers or "logits",
            name="the array",
        )
    if isinstance(source, nn.Module):
        return _wrap_module(source, wanted)
    if is_classifier(source):
        return make_classifier_teacher(
            source,
            classes=wanted.classes,
            class_names=wanted.class_names,
            answers=wanted.answers,
            version=wanted.version,
        )
    return _wrap_function(source, wanted)


def _member(wanted: _Wanted, index: int) -> _Wanted:
    if wanted.version is None:
        return wanted
    return replace(wanted, version=f"{wanted.version} [{index}]")


def _wrap_module(module: nn.Module, wanted: _Wanted) -> Teacher:
    answers = wanted.answers or "logits"
    if not is_hugging_face(module):
        return NetworkTeacher(module, wanted.classes, answers, wanted.precision)
    return make_hugging_face_teacher(
        module,
        classes=wanted.classes,
        class_names=wanted.class_names,
        answers=answers,
        precision=wanted.precision,
        padding=wanted.padding,
    )


def _wrap_function(function: object, wanted: _Wanted) -> FunctionTeacher:
    if not callable(function):
        raise AttarError(
            "expected a model, a function, scores or a file as teacher, "
            f"got {type(function).__name__}; wrap it in a function from inputs to logits"
        )
    if wanted.version is None:
        name = getattr(function, "__qualname__", type(function).__name__)
        raise AttarError(
            "expected version= with a function, a text that you change whenever its answers "
            f'change, got none with {name}; try as_teacher({name}, classes=..., version="1")'
        )
    return FunctionTeacher(function, wanted.classes, wanted.version, wanted.answers or "logits")


def _open(path: Path, wanted: _Wanted) -> Teacher:
    suffix, answers = path.suffix.lower(), wanted.answers or "logits"
    if not path.exists():
        raise FolderError(f"cannot read {path}: there is no such file or folder")
    if is_hugging_face_folder(path):
        return open_hugging_face_teacher(
            path,
            classes=wanted.classes,
            class_names=wanted.class_names,
            answers=answers,
            precision=wanted.precision,
            padding=wanted.padding,
        )
    if suffix in _STORED and path.is_file():
        return open_stored_teacher(
            path, classes=wanted.classes, examples=wanted.examples, answers=wanted.answers
        )
    if suffix == ".onnx":
        return OnnxTeacher(path, classes=wanted.classes, answers=answers, padding=wanted.padding)
    if suffix in _UNREAD:
        raise DataError(
            f"expected a file that runs no code, got {path}; "
            f"load the model yourself, {_UNREAD[suffix]}, and give that"
        )
    raise DataError(
        f"expected {', '.join(_STORED)}, .onnx or a folder with config.json, got {path}"
    )


def _count(class_names: Sequence[str] | None, classes: int | None) -> int:
    if class_names is not None:
        if isinstance(class_names, str):
            raise AttarError(f"expected class_names as a list of names, got {class_names!r}")
        if classes is not None and classes != len(class_names):
            raise AttarError(f"expected {classes} class_names, got {len(class_names)}")
        classes = len(class_names)
    if classes is None:
        raise AttarError("expected class_names= or classes= of the transfer set, got neither")
    if classes < 1:
        raise AttarError(f"expected one class or more, got {classes}")
    return classes
