"""ONNX files: made from a network, quantized, run. Needs the extra `export`, and nothing else does.

A file's input is called `inputs`, its output `logits`; the first axis of both is a batch of any
size.
"""

import io
import logging
import re
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from textwrap import shorten
from typing import Any, Literal

import torch
from torch import Tensor, nn

from attar.errors import AttarError, DataError, ExportError, MissingExtraError

INPUT, OUTPUT = "inputs", "logits"
Quantization = Literal["dynamic", "static"]  # when the scales of the activations are found

_PACKAGES = ("onnx", "onnxruntime", "onnxscript")  # of the extra; torch.onnx imports the last
_REASON_CHARACTERS = 300
_LARGEST_BYTES = 2**31 - 2**20  # of a protobuf message, less a reserve for the graph


def check_extra() -> None:
    """Raise `MissingExtraError` unless the packages of the extra `export` are installed."""
    for package in _PACKAGES:
        _extra(package)


def to_onnx(network: nn.Module, inputs: Tensor, notes: Mapping[str, str]) -> bytes:
    """Export a network to ONNX.

    Args:
        network: Maps inputs `[batch, ...]` to logits `[batch, classes]`, in evaluation mode.
        inputs: Two examples or more; a batch of one would be taken for a constant.
        notes: Go into the file's metadata, beside the version of attar.

    Raises:
        ExportError: If torch cannot export the network; the text has the reason.
        MissingExtraError: If a package of the extra `export` is not installed.
    """
    check_extra()
    size_bytes = sum(tensor.nbytes for tensor in network.state_dict().values())
    if size_bytes > _LARGEST_BYTES:
        found = f"the network has {size_bytes / 2**30:.1f} GiB of weights"
        raise ExportError(f"{found}, and an ONNX file holds less than 2; try safetensors")
    try:
        with _silence():
            program = torch.onnx.export(
                network,
                (inputs,),
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
            assert program is not None  # as it would be if it went to a file
            model = program.model_proto
    except Exception as error:
        raise ExportError(f"torch cannot export the network to ONNX: {reason(error)}") from error
    _forget_origin(model.graph)
    model.producer_name, model.producer_version = "attar", version("attar")
    _extra("onnx.helper").set_model_props(model, {"attar_version": version("attar"), **notes})
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _forget_origin(graph: Any) -> None:  # noqa: ANN401  (a GraphProto)
    """Remove torch's notes, which hold the paths of source files on this machine."""
    del graph.metadata_props[:]
    for value in [*graph.input, *graph.output, *graph.value_info, *graph.initializer]:
        del value.metadata_props[:]
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
        for attribute in node.attribute:
            for inner in [attribute.g] * attribute.HasField("g") + list(attribute.graphs):
                _forget_origin(inner)


def read_notes(content: bytes) -> dict[str, str]:
    """Return the metadata of an ONNX file.

    Raises:
        MissingExtraError: If a package of the extra `export` is not installed.
    """
    model = _extra("onnx").load_from_string(content)
    return {entry.key: entry.value for entry in model.metadata_props}


def quantize(content: bytes, calibration: Iterable[Tensor] | None) -> tuple[bytes, Quantization]:
    """Turn the weights of an ONNX file into int8, with one scale for each unit.

    Activations are quantized too. Where there are only matrix products, their scales are found anew
    in each run (dynamic). Convolutions would take several times as long as in floats that way, so
    if there are some, all scales are found beforehand, from the calibration batches (static).

    Raises:
        DataError: If there are convolutions, and no calibration batches.
        ExportError: If onnxruntime cannot quantize it.
    """
    model, library = _extra("onnx").load_from_string(content), _extra("onnxruntime.quantization")
    is_static = any(node.op_type.startswith("Conv") for node in model.graph.node)
    if is_static and calibration is None:
        raise DataError("expected calibration examples: int8 needs them for convolutions; got none")
    # Weights take 7 bits: products of 8 overflow on CPUs without VNNI, if not where we measure.
    options = {"per_channel": True, "reduce_range": True, "weight_type": library.QuantType.QInt8}
    try:
        with tempfile.TemporaryDirectory() as folder, _silence():
            path = Path(folder) / "int8.onnx"
            if is_static:
                reader = _Calibration(iter(calibration or ()))
                options["activation_type"] = library.QuantType.QUInt8
                library.quantize_static(model, path, reader, **options)
            else:
                library.quantize_dynamic(model, path, **options)
            return path.read_bytes(), "static" if is_static else "dynamic"
    except AttarError:
        raise
    except Exception as error:
        raise ExportError(f"onnxruntime cannot quantize the network: {reason(error)}") from error


class _Calibration:
    """Answers batches as onnxruntime asks for them: a dict a call, None at the end."""

    def __init__(self, batches: Iterator[Tensor]) -> None:
        self.batches = batches

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self.batches, None)
        return None if batch is None else {INPUT: batch.cpu().numpy()}


def run_onnx(content: bytes, batches: Iterable[Tensor]) -> Tensor:
    """Run an ONNX file on the CPU, batch by batch, and return all its logits.

    Raises:
        ExportError: If onnxruntime cannot load or run it.
        MissingExtraError: If onnxruntime is not installed.
    """
    runtime = _extra("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what is wrong comes as an exception as well
    try:
        session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        logits = [
            torch.from_numpy(session.run([OUTPUT], {INPUT: batch.cpu().numpy()})[0])
            for batch in batches
        ]
    except AttarError:
        raise
    except Exception as error:
        raise ExportError(f"onnxruntime cannot run the network: {reason(error)}") from error
    return torch.cat(logits)


def reason(error: BaseException) -> str:
    """Say in one line why torch or onnxruntime failed: the first cause, and the user's line.

    Of a long text that is the first paragraph, and not more than some lines of it.
    """
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error).strip()
    first = shorten(text.partition("\n\n")[0], _REASON_CHARACTERS, placeholder=" ...")
    place = re.search(r'following call raised this error:\s+File "(.+?)", line (\d+)', text)
    where = f" ({place[1]}, line {place[2]})" if place else ""
    return f"{type(error).__name__}: {first}".removesuffix(": ") + where


def _extra(module: str) -> Any:  # noqa: ANN401  (a module without annotations)
    try:
        with _silence():
            return import_module(module)
    except ImportError as error:
        missing = f"ONNX files need the package {module.partition('.')[0]} ({error})"
        raise MissingExtraError(f"{missing}; try pip install 'attar[export]'") from error


@contextmanager
def _silence() -> Iterator[None]:
    """Keep what libraries print, log and warn about from the user; errors are raised as ever."""
    root = logging.getLogger()
    disabled, handlers = root.manager.disable, root.handlers[:]
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        root.handlers[:] = handlers  # logging.warning() adds one where there is none
