"""`attar.as_teacher`: make a teacher from a model, a file or a list of them."""

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
    """Make a teacher for the classes of a transfer set from a model, a file or a list of them.

    Args:
        source: A torch module with one input; an `attar.EnsembleNetwork`; a text or image
            classifier of `transformers`; a fitted classifier of scikit-learn; a function from
            inputs to scores; scores `[examples, classes]` in a tensor, an array, or a table
            (pandas, polars) with one column per class; a file of scores (`.npy`, `.npz`,
            `.parquet`) or of a network (`.onnx`); a folder saved by `transformers`; a list of
            sources, which makes an `Ensemble`; or a teacher.
        class_names: Class names of the transfer set, in order. Sources with class names are matched
            by name; different names are an error.
        classes: Number of classes of the transfer set; by default the length of `class_names`.
        examples: Number of examples of the transfer set, to check stored scores.
        answers: Output of the source: `logits` or `probabilities`. By default logits; for files
            what they contain; for scikit-learn probabilities, if available. Probabilities p become
            log p.
        precision: Precision of a torch module's matrix products.
        padding: Id of the padding token, for networks with an attention mask.
        version: Version of a function or scikit-learn model, which is hashed in its place. Required
            for functions, whose behavior cannot be hashed.
        processor: Image processor of a `transformers` image model, which normalizes the images of
            the transfer set; or the folder of a saved processor; or `"none"` if the model takes the
            images of the transfer set unchanged (uint8 images divided by 255). Required for image
            models.
        rest: How to treat probabilities that sum to less than 1, for example from a web API that
            returns only the largest ones: `"renormalize"` divides each row by its sum;
            `"class:<name>"` adds the missing part to that class. By default they are an error.
        feature_names: Column names of the transfer set, in order, for scikit-learn models fitted on
            a table. `attar.label` and `attar.compare` pass those of the set.

    Returns:
        The teacher; see `Teacher`.

    Raises:
        AttarError: If the source is unsupported, or needs an argument that was not given.
        DataError: If the source is damaged, its classes differ from the transfer set's, or it is a
            model for another task: regression, multi-label or per-token classification.
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
                    f'rest={rest!r} needs answers="probabilities", got logits from '
                    f"{getattr(each, 'name', type(each).__name__)}"
                )
    return teacher


@dataclass(frozen=True)
class _Wanted:
    """The arguments of `as_teacher` other than the source."""

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
        raise AttarError(f"expected a model, got the class {source.__name__}; pass an instance")
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
            "processor= is only for image models of transformers and ONNX files, got it with "
            f"{type(source).__name__}; leave it out, and normalize images in the module itself"
        )
    if isinstance(source, nn.Module):
        check_one_input(source.forward, f"the network {type(source).__name__}")
        return NetworkTeacher(
            source, wanted.classes, wanted.answers or "logits", wanted.precision, wanted.rest
        )
    return _choose_other(source, wanted)


def _choose_other(source: Any, wanted: _Wanted) -> Teacher:  # noqa: ANN401
    """Make a teacher from scores, a classifier or a function."""
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
    """Return a teacher unchanged; options that would change it are an error."""
    check_class_count(teacher.classes, classes=wanted.classes, name=type(teacher).__name__)
    names = ("answers", "padding", "version", "processor", "rest")
    ignored = [name for name in names if getattr(wanted, name) is not None]
    if ignored:
        raise AttarError(
            f"{', '.join(f'{name}=' for name in ignored)} cannot be changed for an existing "
            f"teacher, got a {type(teacher).__name__}; pass the option when making the teacher"
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
            "a function needs version=, a text that you change whenever its outputs change, got "
            f'none with {name}; try as_teacher({name}, classes=..., version="1")'
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
        raise AttarError(
            f"processor= cannot be used with {path}, which is not an image model; leave it out"
        )
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
            f"expected a model, got {path}, a file of weights; make the network, call "
            "attar.training.load_weights(path, network), and pass the network; in a job, set "
            'source = "networks.py:make_teacher" and weights = "..."'
        )
    if path.name.lower().endswith(_PICKLES):
        raise DataError(
            f"expected a file that runs no code, got the pickle {path}; if you trust it, load the "
            "model yourself and pass the model"
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
            f"expected at least two classes, got {classes}; the softmax of one class is always 1. "
            "For two classes and one output z, return the logits [0, z] of both; for a regressor, "
            "use attar.TrainingRun with a custom loss"
        )
    return classes
