"""The student alone, in the forms in which it is served: safetensors, ONNX, int8 ONNX for CPUs.

Each form is run on real examples, and its logits are compared with the student's, before any file
gets its name. No temperature is built in: logits come out.
"""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.data import TransferSet
from attar.errors import AttarError, DataError, ExportError, ShapeError, check_positive
from attar.evaluation import compute_logits
from attar.files import make_folder, write_atomically
from attar.metrics import is_error
from attar.onnx_files import Quantization, check_extra, quantize, reason, run_onnx, to_onnx
from attar.weights import load_weights, save_weights

Format = Literal["safetensors", "onnx", "int8"]
FORMATS: tuple[Format, ...] = get_args(Format)
SUFFIXES = {"safetensors": ".safetensors", "onnx": ".onnx", "int8": ".int8.onnx"}

_BATCH = 1000
_CALIBRATION_EXAMPLES, _CALIBRATION_BATCH = 500, 50


@dataclass(frozen=True, slots=True)
class Exported:
    """A file that was written, and how what it holds does beside the student."""

    format: Format
    path: str
    size_bytes: int
    quantization: Quantization | None  # None for floats
    examples: int  # that it was measured on
    largest_difference: float  # between one of its logits and the student's
    agreement: float  # fraction of the examples whose most probable class is the student's
    labeled: int  # examples with a hard target
    errors: int  # on those
    student_errors: int  # on those

    @property
    def accuracy_change(self) -> float:
        """Its accuracy less the student's, as a fraction; 0 where no example is labeled."""
        return (self.student_errors - self.errors) / max(self.labeled, 1)


def export_student(
    student: nn.Module,
    folder: Path,
    examples: TransferSet,
    *,
    name: str = "student",
    formats: Sequence[Format] = FORMATS,
    calibration: TransferSet | None = None,
    tolerance: float = 1e-4,
) -> tuple[Exported, ...]:
    """Write the student to `folder`, in each of the formats, and measure what was written.

    Args:
        student: Maps inputs `[batch, ...]` to logits `[batch, classes]`; it stays as it is.
        folder: Gets `<name>.safetensors`, `<name>.onnx` and `<name>.int8.onnx`.
        examples: What the files are measured on; for int8 with hard targets, best a test set.
        name: Of the files, without suffix.
        formats: Which of them; the ONNX ones need the extra `export`.
        calibration: Unlabeled examples will do, best of the transfer set. They tell the ranges
            of activations, which int8 needs to know in advance if the student has convolutions.
        tolerance: The largest difference of a float ONNX logit from the student's, as a fraction of
            the largest logit, or of 1 if that is larger.

    Returns:
        A record for each format, in the order of `formats`.

    Raises:
        MissingExtraError: If a package of the extra `export` is not installed.
        ExportError: If the student cannot be exported, or its exported form gives other logits.
        ShapeError: If the student does not return a logit for each class of the examples.
        DataError: If int8 is asked for and there is nothing to measure it on or calibrate it with.
        FolderError: If a file cannot be written; what was there before is then unharmed.
    """
    check_positive(tolerance=tolerance)
    _check_request(name, formats, examples)
    make_folder(folder)
    forms = []
    with _evaluation_mode(student):
        _check_student(student, examples)
        expected = compute_logits(student, examples).cpu()
        _check_finite(expected)
        onnx = b"" if set(formats) == {"safetensors"} else _to_onnx(student, examples)
        for form in formats:
            if form == "safetensors":
                made = _Form(_to_safetensors(student), compute_logits(student, examples).cpu())
            elif form == "onnx":
                made = _Form(onnx, run_onnx(onnx, _batches(examples)))
                _check_close(made.logits, expected, tolerance)
            else:
                content, how = quantize(onnx, _calibration_batches(calibration))
                made = _Form(content, run_onnx(content, _batches(examples)), how)
            forms.append((form, folder / f"{name}{SUFFIXES[form]}", made))
    for _, path, made in forms:
        write_atomically(path, made.content)
    return tuple(
        _measure(form, path, made, expected, examples.hard_targets.cpu())
        for form, path, made in forms
    )


@dataclass(frozen=True, slots=True)
class _Form:
    content: bytes  # of the file
    logits: Float[Tensor, "examples classes"]  # that it gives
    quantization: Quantization | None = None


def _measure(
    form: Format, path: Path, made: _Form, expected: Tensor, hard_targets: Tensor
) -> Exported:
    labeled = hard_targets >= 0
    return Exported(
        format=form,
        path=str(path),
        size_bytes=len(made.content),
        quantization=made.quantization,
        examples=len(expected),
        largest_difference=float((made.logits - expected).abs().max()),
        agreement=float((made.logits.argmax(-1) == expected.argmax(-1)).double().mean()),
        labeled=int(labeled.sum()),
        errors=int(is_error(made.logits[labeled], hard_targets[labeled]).sum()),
        student_errors=int(is_error(expected[labeled], hard_targets[labeled]).sum()),
    )


def _check_request(name: str, formats: Sequence[Format], examples: TransferSet) -> None:
    if not formats or set(formats) - set(FORMATS) or len(set(formats)) < len(formats):
        raise AttarError(f"expected some of the formats {list(FORMATS)}, got {list(formats)}")
    if not name or Path(name).name != name:
        raise AttarError(f"expected the name of a file, without folders, got {name!r}")
    if "int8" in formats and (examples.hard_targets < 0).all():
        raise DataError("expected hard targets, to measure what int8 costs, the examples have none")
    if set(formats) != {"safetensors"}:
        check_extra()


@contextmanager
def _evaluation_mode(student: nn.Module) -> Iterator[None]:
    """Put the student into evaluation mode, and each of its modules back into its own."""
    modes = {module: module.training for module in student.modules()}
    student.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _check_student(student: nn.Module, examples: TransferSet) -> None:
    """Raise unless the student turns one example, and two, into a logit for each class."""
    for count in (1, 2):
        inputs = _some(examples, count)
        given = f"inputs {list(inputs.shape)} {str(inputs.dtype).removeprefix('torch.')}"
        try:
            with torch.inference_mode():
                logits = student(inputs)
        except Exception as error:
            raise ExportError(f"the network fails on {given}: {reason(error)}") from error
        if not isinstance(logits, Tensor):
            kind = type(logits).__name__
            raise ExportError(f"expected the network to return logits, a tensor, got {kind}")
        if list(logits.shape) != [count, examples.classes]:
            raise ShapeError(
                f"expected logits {[count, examples.classes]}, one for each class of the examples, "
                f"got {list(logits.shape)} from {given}"
            )


def _check_finite(logits: Tensor) -> None:
    finite = logits.isfinite().all(dim=-1)  # [examples]
    if not finite.all():
        first = int((~finite).nonzero()[0])
        raise ExportError(f"expected finite logits, the student's of example {first} are not")


def _check_close(logits: Tensor, expected: Tensor, tolerance: float) -> None:
    differences = (logits - expected).abs().amax(dim=-1)  # [examples]
    bound = tolerance * max(1.0, float(expected.abs().max()))
    if not differences.max() <= bound:  # a NaN is too far off, too
        worst = int(differences.argmax())
        raise ExportError(
            f"expected ONNX logits within {bound:.2g} of torch's, got {differences[worst]:.2g} at "
            f"example {worst}; nothing was written; does the network treat some inputs differently?"
        )


def _some(examples: TransferSet, count: int) -> Tensor:
    """Return the inputs of `count` examples, some of them twice where there are fewer."""
    return examples.batch(torch.arange(count) % len(examples)).inputs  # [count, *shape]


def _batches(examples: TransferSet) -> Iterator[Tensor]:
    """Answer all inputs: the first alone, then the others in batches, to try two sizes of them."""
    everything = torch.arange(len(examples))
    for rows in (everything[:1], *everything[1:].split(_BATCH)):
        if len(rows):
            yield examples.batch(rows).inputs


def _calibration_batches(calibration: TransferSet | None) -> list[Tensor] | None:
    if calibration is None:
        return None
    count = min(len(calibration), _CALIBRATION_EXAMPLES)
    spread = torch.arange(count) * len(calibration) // count  # over the whole set
    return [calibration.batch(rows).inputs for rows in spread.split(_CALIBRATION_BATCH)]


def _to_safetensors(student: nn.Module) -> bytes:
    """Write the weights, and put what was written back into the student, which it has to fit."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "student.safetensors"
        save_weights(path, student)
        load_weights(path, student)
        return path.read_bytes()


def _to_onnx(student: nn.Module, examples: TransferSet) -> bytes:
    stored = examples.subset(torch.tensor([0])).inputs.dtype
    notes = {
        "class_names": json.dumps(examples.class_names, ensure_ascii=False),
        "input_scaling": "divide by 255" if stored == torch.uint8 else "none",
        "output": "logits, before any temperature or softmax",
    }
    return to_onnx(student, _some(examples, 2), notes)
