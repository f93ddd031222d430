"""Making a teacher out of whatever there is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attar.errors import AttarError, DataError, FolderError
from attar.precision import Precision
from attar.teachers.arrays import make_frame_teacher, make_stored_teacher, open_stored_teacher
from attar.teachers.classifiers import (
    ClassifierTeacher,
    check_no_predictor,
    is_classifier,
    make_classifier_teacher,
)
from attar.teachers.ensemble_network import EnsembleNetwork
from attar.teachers.frames import is_frame
from attar.teachers.hugging_face import (
    is_hugging_face,
    is_hugging_face_folder,
    make_hugging_face_teacher,
    open_hugging_face_teacher,
)
from attar.teachers.networks import Ensemble, FunctionTeacher, NetworkTeacher, check_one_input
from attar.teachers.onnx_file import OnnxTeacher
from attar.teachers.protocol import Answers, Rest, Teacher, check_class_count, parse_rest

_STORED = (".npy", ".npz", ".parquet")
_WEIGHTS = (".pt", ".pth", ".pth.tar", ".pt.tar", ".ckpt", ".bin", ".safetensors")
_PICKLES = (".pkl", ".pickle", ".joblib")


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
    processor: object = None,
    rest: str | None = None,
    feature_names: Sequence[str] | None = None,
) -> Teacher:
    """Make a teacher of a transfer set's classes out of a model, a file or a list of them.

    Args:
        source: A torch module of one input; an `attar.EnsembleNetwork`, whose members are asked one
            by one; a classifier of `transformers` for texts or images; a fitted classifier of
            scikit-learn; a function from inputs to scores; scores `[examples, classes]`: a tensor,
            an array, or a table (pandas, polars) with a column for each class; a file of scores
            (`.npy`, `.npz`, `.parquet`) or of a network (`.onnx`); a folder that `transformers`
            saved; a list of these, which makes an `Ensemble`; or a teacher.
        class_names: Those of the transfer set, in order. Sources that name their classes are
            matched by name; different names are an error.
        classes: How many classes the transfer set has; by default as many as `class_names`.
        examples: How many examples it has, to check stored scores against.
        answers: What the source answers with; by default logits, for files what they say, and for
            scikit-learn probabilities if it has them. Probabilities p become log p.
        precision: Of a torch module's products.
        padding: The id of padding tokens, for networks that take an attention mask.
        version: For functions and scikit-learn: stands in the fingerprint for what decides the
            answers. A function needs one, since it does not show what it computes.
        processor: For image models of `transformers`, which need one: the image processor, whose
            mean and standard deviation normalize the transfer set's images; or the folder that it
            was saved to; or `"none"`, if the model takes the images as the transfer set hands them
            out, uint8 ones divided by 255.
        rest: For probabilities that sum to less than 1, as of an API that returns the largest few:
            `"renormalize"` divides each row by its sum, `"class:<name>"` gives what is missing to
            that class. By default they are an error.
        feature_names: For scikit-learn: names of the transfer set's columns, in order, to pass a
            model that was fitted on a table its own columns. `attar.label` and `attar.compare` pass
            those of the set.

    Returns:
        The teacher; see `Teacher`.

    Raises:
        AttarError: If the source is nothing of these, or something to go with it is missing.
        DataError: If it is damaged, its classes are not the transfer set's, or it is a model for
            another task: regression, several labels at once, a class for each token.
        ShapeError: If it has another number of classes or examples.

    Example:
        >>> import torch
        >>> teacher = as_teacher(nn.Linear(4, 3), classes=3)
        >>> teacher.classes, len(teacher.fingerprint())
        (3, 64)
    """
    count = _count(class_names, classes)
    wanted = _Wanted(
        class_names,
        count,
        examples,
        answers,
        precision,
        padding,
        version,
        processor,
        parse_rest(rest, class_names, count),
        feature_names,
    )
    teacher = _choose(source, wanted)
    if wanted.rest is not None and teacher is not source:
        for each in teacher.teachers if isinstance(teacher, Ensemble) else (teacher,):
            if getattr(each, "answers", None) != "probabilities":
                raise AttarError(
                    f'expected answers="probabilities" with rest={rest!r}, got logits of '
                    f"{getattr(each, 'name', type(each).__name__)}"
                )
    return teacher


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
    processor: object
    rest: Rest | None
    feature_names: Sequence[str] | None


def _choose(source: Any, wanted: _Wanted) -> Teacher:  # noqa: ANN401 (a model of any library)
    if isinstance(source, type):
        raise AttarError(f"expected a model, got the class {source.__name__}; make one of it")
    if isinstance(source, Teacher):
        return _keep(source, wanted)
    if isinstance(source, EnsembleNetwork):
        source = list(source.networks)
    if isinstance(source, list | tuple):
        return Ensemble([_choose(each, _member(wanted, i)) for i, each in enumerate(source)])
    if isinstance(source, str | Path):
        return _open(Path(source), wanted)
    if isinstance(source, nn.DataParallel | nn.parallel.DistributedDataParallel):
        source = source.module  # which may be one of transformers
    if isinstance(source, nn.Module) and is_hugging_face(source):
        return make_hugging_face_teacher(
            source,
            classes=wanted.classes,
            class_names=wanted.class_names,
            answers=wanted.answers or "logits",
            rest=wanted.rest,
            precision=wanted.precision,
            padding=wanted.padding,
            processor=wanted.processor,
        )
    if wanted.processor is not None:
        raise AttarError(
            "expected processor= with an image model of transformers or an ONNX file, got it with "
            f"{type(source).__name__}; a torch module that prepares its images itself needs none"
        )
    if isinstance(source, nn.Module):
        check_one_input(source.forward, f"the network {type(source).__name__}")
        return NetworkTeacher(
            source, wanted.classes, wanted.answers or "logits", wanted.precision, wanted.rest
        )
    return _choose_other(source, wanted)


def _choose_other(source: Any, wanted: _Wanted) -> Teacher:  # noqa: ANN401
    """Make a teacher of what is no network: scores, a classifier, a function."""
    answers = wanted.answers or "logits"
    if isinstance(source, np.ma.MaskedArray) and np.ma.is_masked(source):
        raise DataError(
            "expected scores for every example and class, got a masked array; fill it in, or leave "
            "out what is masked"
        )
    if isinstance(source, Tensor | np.ndarray):
        return make_stored_teacher(
            _to_array(source) if isinstance(source, Tensor) else np.asarray(source),
            None,
            classes=wanted.classes,
            examples=wanted.examples,
            answers=answers,
            rest=wanted.rest,
            name="the array",
        )
    if is_frame(source):
        return make_frame_teacher(
            source,
            classes=wanted.classes,
            class_names=wanted.class_names,
            examples=wanted.examples,
            answers=answers,
            rest=wanted.rest,
        )
    if is_classifier(source):
        return make_classifier_teacher(
            source,
            classes=wanted.classes,
            class_names=wanted.class_names,
            answers=wanted.answers,
            rest=wanted.rest,
            version=wanted.version,
            feature_names=wanted.feature_names,
        )
    check_no_predictor(source)
    return _wrap_function(source, wanted)


def _keep(teacher: Teacher, wanted: _Wanted) -> Teacher:
    """Take a teacher as it is; options that would have made another one are an error."""
    check_class_count(teacher.classes, classes=wanted.classes, name=type(teacher).__name__)
    names = ("answers", "padding", "version", "processor", "rest")
    ignored = [name for name in names if getattr(wanted, name) is not None]
    if ignored:
        raise AttarError(
            f"expected a model or scores with {', '.join(f'{name}=' for name in ignored)}, got a "
            f"teacher that is made already, a {type(teacher).__name__}; say that when making it"
        )
    if isinstance(teacher, ClassifierTeacher):
        return teacher.with_features(wanted.feature_names)
    return teacher


def _to_array(scores: Tensor) -> NDArray[Any]:
    plain = scores.detach().to_dense().cpu()
    # NumPy has no bfloat16.
    array: NDArray[Any] = (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()
    return array


def _member(wanted: _Wanted, index: int) -> _Wanted:
    if wanted.version is None:
        return wanted
    return replace(wanted, version=f"{wanted.version} [{index}]")


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
    check_one_input(function, getattr(function, "__qualname__", type(function).__name__))
    return FunctionTeacher(
        function,
        wanted.classes,
        wanted.version,
        wanted.answers or "logits",
        wanted.rest,
        None if wanted.class_names is None else tuple(wanted.class_names),
    )


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
            rest=wanted.rest,
            precision=wanted.precision,
            padding=wanted.padding,
            processor=wanted.processor,
        )
    if suffix == ".onnx":
        return OnnxTeacher(
            path,
            classes=wanted.classes,
            class_names=wanted.class_names,
            answers=answers,
            rest=wanted.rest,
            padding=wanted.padding,
            processor=wanted.processor,
        )
    if wanted.processor is not None:
        raise AttarError(f"expected no processor= with {path}, which is no image model")
    if suffix in _STORED and path.is_file():
        return open_stored_teacher(
            path,
            classes=wanted.classes,
            class_names=wanted.class_names,
            examples=wanted.examples,
            answers=wanted.answers,
            rest=wanted.rest,
        )
    if path.name.lower().endswith(_WEIGHTS):
        raise DataError(
            f"expected a model, got {path}, which holds weights at best; make the network, call "
            "attar.training.load_weights(path, network), and give the network; in a job, say "
            'source = "networks.py:make_teacher" and weights = "..."'
        )
    if path.name.lower().endswith(_PICKLES):
        raise DataError(
            f"expected a file that runs no code, got {path}; load the model yourself, if you "
            "trust the file, and give that"
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
    if classes < 2:
        raise AttarError(
            f"expected two classes or more, got {classes}; the softmax of one class is always 1. "
            "For two classes and one output z, give the logits [0, z] of both; for a regressor, "
            "train with attar.TrainingRun and a loss of your own"
        )
    return classes
