"""Teachers from ONNX files; needs the extra `export`."""

import copy
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from attar.errors import AttarError, DataError, FolderError, file_error
from attar.teachers.image_processors import UNCHANGED, Preparation, prepare_images
from attar.teachers.protocol import (
    Answers,
    Examples,
    Rest,
    check_class_count,
    find_classes,
    to_logits,
)
from attar.teachers.token_types import warn_of_pairs

_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}
_MASK, _TYPES = "attention_mask", "token_type_ids"  # inputs beside the token ids
_IMAGES = "pixel_values"  # the name of normalized images in transformers


class OnnxTeacher:
    """A network in an ONNX file, run by onnxruntime on the CPU.

    The first input is the transfer set's inputs, converted to the type in the file. The input
    `attention_mask` is 1 where the token ids are not `padding`; `token_type_ids` are zeros, which
    is correct for single texts. The output is the only output of floats with two axes.

    Args:
        path: The file; external weights are read as well.
        classes: Number of classes of the transfer set.
        class_names: Class names of the transfer set, to match the file's classes by name.
        answers: Output of the network: `logits` or `probabilities`.
        rest: How to treat probabilities that sum to less than 1; see `to_logits`.
        padding: Id of the padding token.
        processor: Image processor; see `prepare_images`. Required for an input named
            `pixel_values`.

    Attributes:
        class_names: In the order of the logits, if the file contains them as files exported by
            attar do; else None.
        size_bytes: Size of the file and its weights.
        weights: Number of weights.

    Raises:
        AttarError: If onnx or onnxruntime is missing, or the padding token or image processor is
            unknown.
        FolderError: If the file, or its weights, cannot be read.
        DataError: If it is not an ONNX file, or its inputs or outputs do not fit.
        ShapeError: If it has another number of classes.
    """

    members: None = None
    reads_inputs: bool = True

    def __init__(
        self,
        path: Path,
        *,
        classes: int,
        class_names: Sequence[str] | None = None,
        answers: Answers = "logits",
        rest: Rest | None = None,
        padding: int | None = None,
        processor: object = None,
    ) -> None:
        """Load the file and check its inputs and outputs."""
        self.classes, self.answers, self.padding, self.rest = classes, answers, padding, rest
        self.name = f"the file {path.name}"
        self._wanted = None if class_names is None else tuple(class_names)
        self._path = path
        onnx, onnxruntime = _import_onnx(path)
        self._digest, self.size_bytes, self.weights = _look_into(onnx, path)
        try:
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors share no other base
            reason = str(error).splitlines()[0]
            raise DataError(
                f"{path} is not an ONNX file that onnxruntime can run: {reason}"
            ) from error
        self._session: Any = session
        self._inputs = self._check_inputs()
        self._output = self._choose_output()
        self._columns, self.class_names = self._find_classes(_read_class_names(session))
        self._preparation = self._prepare(processor)

    def __reduce__(self) -> tuple[Any, ...]:
        """Reopen the file when unpickled, because a session cannot be pickled."""
        open_again = partial(
            OnnxTeacher,
            classes=self.classes,
            class_names=self._wanted,
            answers=self.answers,
            rest=self.rest,
            padding=self.padding,
            processor=self._preparation,
        )
        return open_again, (self._path.absolute(),)

    def logits(self, batch: Examples) -> Float[Tensor, "batch classes"]:
        """Run the network.

        Raises:
            ShapeError: If the output has another shape.
            DataError: If it cannot run on the inputs, or the output does not match `answers`.
        """
        first, *others = self._inputs
        inputs = self._preparation.normalize(batch.inputs.cpu(), self.name).numpy()
        feed = {first.name: inputs.astype(_DTYPES[first.type], copy=False)}
        for each in others:
            beside = inputs != self.padding if each.name == _MASK else np.zeros_like(inputs)
            feed[each.name] = beside.astype(_DTYPES[each.type])
            if each.name == _TYPES:
                mask = torch.from_numpy(inputs != self.padding)
                warn_of_pairs(torch.from_numpy(inputs), mask.long(), self.name)
        try:
            (scores,) = self._session.run([self._output], feed)
        except Exception as error:
            reason = str(error).splitlines()[0]
            shape = list(inputs.shape)
            raise DataError(
                f"{self.name} takes {first.shape} and cannot run on inputs {shape}: {reason}"
            ) from error
        if self._columns is not None and scores.shape[1] == self.classes:
            scores = scores[:, self._columns]
        return to_logits(
            torch.from_numpy(scores),
            answers=self.answers,
            classes=self.classes,
            indices=batch.indices,
            name=self.name,
            rest=self.rest,
        )

    def with_threads(self, threads: int) -> "OnnxTeacher":
        """Return the same network, run with this number of threads."""
        onnxruntime = _import_onnx(self._path)[1]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        changed = copy.copy(self)
        changed._session = onnxruntime.InferenceSession(
            self._path, options, providers=["CPUExecutionProvider"]
        )
        return changed

    def fingerprint(self) -> str:
        """Hash the file, its external weights, and the options for its inputs and outputs."""
        text = f"{self._digest} {self.answers} {self.padding}"
        more = (self.rest, self._columns, self._preparation.mean, self._preparation.std)
        if more != (None, None, (), ()):
            text += f" {more}"
        return hashlib.sha256(text.encode()).hexdigest()

    def _check_inputs(self) -> list[Any]:
        inputs = list(self._session.get_inputs())
        told = [f"{each.name} {each.type} {each.shape}" for each in inputs]
        if not inputs or any(each.type not in _DTYPES for each in inputs):
            raise DataError(f"expected inputs of {', '.join(_DTYPES)}, got {told} in {self.name}")
        if any(each.name not in (_MASK, _TYPES) for each in inputs[1:]):
            raise DataError(
                f"expected one input, or token ids with {_MASK} and {_TYPES}, "
                f"got {told} in {self.name}; export a network with one input"
            )
        if len(inputs) > 1 and self.padding is None:
            raise DataError(
                f"the padding token of {self.name} is unknown; pass as_teacher(..., padding=...)"
            )
        if isinstance(inputs[0].shape[0] if inputs[0].shape else 0, int):
            raise DataError(
                f"expected an input for batches of any size, got {told[0]} in {self.name}; "
                "export it with a dynamic first axis"
            )
        return inputs

    def _find_classes(
        self, found: tuple[str, ...] | None
    ) -> tuple[list[int] | None, tuple[str, ...] | None]:
        """Return the positions of the classes, None if unchanged, and their names."""
        if found is None or self._wanted is None:
            return None, found
        remedy = "export it with the class names of the transfer set"
        order = find_classes(found, self._wanted, name=self.name, remedy=remedy)
        if order == tuple(range(len(order))):
            return None, found
        return list(order), tuple(found[place] for place in order)

    def _prepare(self, processor: object) -> Preparation:
        if isinstance(processor, Preparation):  # from an unpickled teacher
            return processor
        if processor is None:
            if self._inputs[0].name != _IMAGES:
                return Preparation()
            processor = self._path.parent
            if not (processor / "preprocessor_config.json").is_file():
                raise AttarError(
                    f"{self.name} needs its image processor, because its input {_IMAGES!r} takes "
                    "normalized images; put its preprocessor_config.json beside the file, pass "
                    f'as_teacher(..., processor=...), or processor="{UNCHANGED}" if it takes the '
                    "transfer set's images unchanged"
                )
        return prepare_images(processor, self.name)

    def _choose_output(self) -> str:
        outputs = self._session.get_outputs()
        fitting = [
            each
            for each in outputs
            if each.type in ("tensor(float)", "tensor(double)", "tensor(float16)")
            and len(each.shape) == 2
        ]
        if len(fitting) != 1:
            told = [f"{each.name} {each.type} {each.shape}" for each in outputs]
            raise DataError(
                f"expected one output of floats [batch, classes], got {told} in {self.name}; "
                "export it with only the logits"
            )
        if isinstance(fitting[0].shape[1], int):
            check_class_count(fitting[0].shape[1], classes=self.classes, name=self.name)
        return str(fitting[0].name)


def _read_class_names(session: Any) -> tuple[str, ...] | None:  # noqa: ANN401
    """Read the class names, in the file's order, if it was exported by attar."""
    text = session.get_modelmeta().custom_metadata_map.get("class_names")
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError:
        return None  # written by another program
    is_ours = isinstance(found, list) and all(isinstance(each, str) for each in found)
    return tuple(found) if is_ours else None


def _import_onnx(path: Path) -> tuple[Any, Any]:
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise AttarError(
            f"{error.name} is not installed, which is needed to read {path}; "
            "run `pip install 'attar[export]'`"
        ) from error
    return onnx, onnxruntime


def _look_into(onnx: Any, path: Path) -> tuple[str, int, int]:  # noqa: ANN401
    """Return hash and size of the file with its external weights, and the number of weights."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise file_error("read", path, error) from error
    sha256, size = hashlib.sha256(content), len(content)
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's errors, from a private module
        raise DataError(f"{path} is not an ONNX file: {str(error).splitlines()[0]}") from error
    graphs = list(_graphs(model.graph))
    weights = sum(math.prod(each.dims) for graph in graphs for each in graph.initializer)
    for name in sorted({name for graph in graphs for name in _external(graph)}):
        beside = path.parent / name
        try:
            with beside.open("rb") as file:
                sha256.update(hashlib.file_digest(file, "sha256").digest())
            size += beside.stat().st_size
        except OSError as error:
            found = f"cannot read {beside}: {error.strerror}"
            raise FolderError(f"{found}; {path.name} stores weights there") from error
    return sha256.hexdigest(), size, weights


def _graphs(graph: Any) -> Iterator[Any]:  # noqa: ANN401 (protobuf's classes are made at run time)
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                if inner.node:
                    yield from _graphs(inner)


def _external(graph: Any) -> Iterator[str]:  # noqa: ANN401
    for tensor in graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                yield entry.value
