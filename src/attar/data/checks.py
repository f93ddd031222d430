"""What a transfer set checks at its door, each with an error that says what to try."""

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attar.errors import DataError, ShapeError

MOST_CLASSES = 1_000_000  # guessed from hard targets; above that, they are likely no classes

TOKEN_DTYPES = (torch.int32, torch.int64)  # passed on unscaled, as int64
INPUT_DTYPES = (
    torch.uint8,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    *TOKEN_DTYPES,
)


def to_inputs(inputs: Tensor | NDArray[Any]) -> Tensor:
    """Make a tensor of the inputs, sharing their memory where that is possible."""
    stored = _to_tensor(inputs, "inputs", "for texts, give their token ids")
    if stored.ndim == 0 or stored.numel() == 0:
        raise DataError(f"expected inputs [examples, ...] with one or more, got {_tell(stored)}")
    if stored.dtype not in INPUT_DTYPES:
        raise DataError(
            "expected inputs of uint8, to be scaled to [0, 1], of floats, or of int32 or int64, "
            f"to be passed on as they are, got {_tell(stored)}; try float32, for token ids int64"
        )
    return stored


def to_targets(hard_targets: Tensor | NDArray[Any] | None, inputs: Tensor) -> Tensor:
    """Make an int64 tensor of the hard targets, one for each input; all -1 if there are none."""
    if hard_targets is None:
        return torch.full((len(inputs),), -1, device=inputs.device)
    targets = _to_tensor(
        hard_targets,
        "hard_targets",
        "try names, indices = numpy.unique(labels, return_inverse=True), and then "
        "TransferSet(inputs, indices, class_names=names.tolist())",
    )
    if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
        raise DataError(f"expected hard_targets of integers, class indices, got {_tell(targets)}")
    if list(targets.shape) != [len(inputs)]:
        raise ShapeError(
            "expected one hard target for each example, "
            f"got inputs {list(inputs.shape)}, hard_targets {list(targets.shape)}"
        )
    signed = targets.to(inputs.device, torch.int64)
    if targets.dtype == torch.uint64 and bool((signed < 0).any()):  # 2**64 - 1 is not -1
        wrong = int((signed < 0).nonzero()[0])
        raise DataError(
            f"expected hard targets below 2**63, got {int(signed[wrong]) % 2**64} at index "
            f"{wrong}; -1 stands for none, in a signed type such as int64"
        )
    return signed


def name_features(feature_names: Sequence[str] | None, inputs: Tensor) -> tuple[str, ...] | None:
    """Check the names of the inputs' columns: one for each, all different."""
    if feature_names is None:
        return None
    names = tuple(feature_names)
    if isinstance(feature_names, str) or not all(isinstance(name, str) for name in names):
        raise DataError(f"expected feature_names as a list of strings, got {feature_names!r}")
    if inputs.ndim != 2 or len(names) != inputs.shape[1]:
        raise DataError(
            f"expected a name for each column of inputs [examples, columns], got {len(names)} "
            f"feature_names for inputs {list(inputs.shape)}"
        )
    twice = find_repeated(names)
    if twice:
        raise DataError(f"expected feature_names to differ, got {twice[0]!r} more than once")
    return names


def find_repeated(names: Sequence[str]) -> list[str]:
    """List the names that come more than once, sorted."""
    return sorted(name for name, count in Counter(names).items() if count > 1)


def name_classes(
    hard_targets: Tensor, class_names: Sequence[str] | None, classes: int | None
) -> tuple[str, ...]:
    """Find out how many classes there are and what they are called."""
    if class_names is None:
        return tuple(str(index) for index in range(_count_classes(hard_targets, classes)))
    if isinstance(class_names, str):
        raise DataError(f"expected class_names as a list of names, got one string {class_names!r}")
    names = tuple(class_names)
    if classes is not None and classes != len(names):
        raise DataError(f"expected {classes} class_names as classes says, got {len(names)}")
    if not names:
        raise DataError("expected one class name or more, got none")
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        if not isinstance(name, str):
            raise DataError(f"expected class names to be strings, got {name!r} at {index}")
        if first.setdefault(name, index) != index:
            raise DataError(
                f"expected class names to differ, got {name!r} at {first[name]} and at {index}"
            )
    return names


def check_targets(hard_targets: Tensor, classes: int) -> None:
    """Raise `DataError` unless each hard target is a class or -1."""
    low, high = hard_targets.aminmax()
    if int(low) >= -1 and int(high) < classes:
        return
    wrong = int(((hard_targets < -1) | (hard_targets >= classes)).nonzero()[0])
    raise DataError(
        f"expected hard targets in 0..{classes - 1}, or -1 for none, "
        f"got {int(hard_targets[wrong])} at index {wrong}"
    )


def find_labeled(hard_targets: Tensor) -> Tensor | None:
    """Return the positions of the examples with a hard target; None if all have one.

    Raises:
        DataError: If none has.
    """
    kept = (hard_targets >= 0).nonzero()[:, 0]
    if len(kept) == 0:
        raise DataError("expected hard targets in the set, got none")
    return None if len(kept) == len(hard_targets) else kept


def check_finite(inputs: Tensor, chunk_bytes: int) -> None:
    """Raise `DataError` unless all inputs are finite; needs no memory of their size."""
    if not inputs.is_floating_point():
        return
    rows = rows_per_chunk(inputs, chunk_bytes)
    for start in range(0, len(inputs), rows):
        chunk = inputs[start : start + rows]
        if torch.stack(chunk.aminmax()).isfinite().all():  # NaN comes through as NaN
            continue
        wrong = int((~chunk.isfinite()).reshape(len(chunk), -1).any(dim=1).nonzero()[0])
        value = chunk[wrong][~chunk[wrong].isfinite()][0].item()
        raise DataError(
            f"expected finite inputs, got {value} in example {start + wrong}; "
            "drop such examples, or look for a division by zero before this"
        )


def check_indices(indices: Tensor, examples: int) -> Tensor:
    """Answer the indices; raise `DataError` unless there are some, and all lie within the set."""
    if not isinstance(indices, Tensor):
        raise DataError(f"expected indices as a tensor of int64, got {type(indices).__name__}")
    if indices.dtype != torch.int64 or indices.ndim != 1 or len(indices) == 0:
        hint = "; try mask.nonzero()[:, 0]" if indices.dtype == torch.bool else ""
        raise DataError(
            f"expected indices [batch] of int64, one or more, got {_tell(indices)}{hint}"
        )
    low, high = indices.aminmax()
    if int(low) < 0 or int(high) >= examples:
        wrong = int(((indices < 0) | (indices >= examples)).nonzero()[0])
        raise DataError(
            f"expected indices in 0..{examples - 1}, got {int(indices[wrong])} at position {wrong}"
        )
    return indices


def rows_per_chunk(inputs: Tensor, chunk_bytes: int) -> int:
    """Say how many examples fit into a chunk, one at least."""
    return max(1, chunk_bytes // max(1, inputs[0].numel() * inputs.element_size()))


def _to_tensor(values: Tensor | NDArray[Any], name: str, text_hint: str) -> Tensor:
    if isinstance(values, Tensor):
        return values.detach()
    if not isinstance(values, np.ndarray):
        kind = f"{type(values).__module__}.{type(values).__name__}".removeprefix("builtins.")
        raise DataError(f"expected {name} as a tensor or a NumPy array, got {kind}")
    if values.dtype.kind not in "biuf":
        text = next((each for each in values.flat if isinstance(each, str | bytes)), None)
        if text is not None:
            raise DataError(
                f"expected {name} of numbers, got texts such as {str(text)!r}; {text_hint}"
            )
        hint = "; are all examples of one shape?" if values.dtype.kind == "O" else ""
        if name == "hard_targets":
            hint = "; -1 stands for no target"
        raise DataError(f"expected {name} of numbers, got a NumPy array of {values.dtype}{hint}")
    native = np.asarray(values, dtype=values.dtype.newbyteorder("="), order="C")
    with warnings.catch_warnings():
        # A read-only array, such as a memory map, may be shared: nothing here writes to it.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        try:
            return torch.from_numpy(native)
        except TypeError as error:
            raise DataError(f"expected {name} of a type that torch has: {error}") from error


def _tell(tensor: Tensor) -> str:
    return f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _count_classes(hard_targets: Tensor, classes: int | None) -> int:
    if classes is not None:
        if classes < 1:
            raise DataError(f"expected classes > 0, got {classes}")
        return classes
    largest = int(hard_targets.max())
    if largest < 0:
        raise DataError("the number of classes is unknown, got no hard target; pass classes=")
    if largest >= MOST_CLASSES:
        raise DataError(f"expected hard targets to be class indices, got {largest}; pass classes=")
    return largest + 1
