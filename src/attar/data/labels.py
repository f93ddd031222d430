"""Hard targets as files and data sets have them: numbers, names or nothing."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from torch import Tensor

from attar.data.checks import MOST_CLASSES
from attar.data.transfer_set import TransferSet
from attar.errors import DataError


def make_labeled_set(
    inputs: Tensor | NDArray[Any],
    labels: Any,  # noqa: ANN401 (pyarrow has no types)
    *,
    class_names: Sequence[str] | None,
    classes: int | None,
    source: str,
    feature_names: Sequence[str] | None = None,
) -> TransferSet:
    """Make a transfer set whose hard targets are class indices, class names or truth values.

    Args:
        inputs: As `TransferSet` takes them.
        labels: An Arrow array, one for each example, null where there is none; or None.
        class_names: The names in order; by default those that come, sorted.
        classes: How many classes there are, where the labels are indices.
        source: Where the labels are from, for the errors.
        feature_names: Names of the inputs' columns, if they have any.

    Raises:
        DataError: If the labels are of another type, are no class, or leave classes out although
            nothing says that there are more; else as `TransferSet`.
    """
    if labels is None:
        if class_names is None and classes is None:
            raise DataError(
                f"expected class_names= or classes=, as {source} has no hard targets, got neither"
            )
        return TransferSet(
            inputs, class_names=class_names, classes=classes, feature_names=feature_names
        )
    hard_targets, class_names = find_classes(labels, class_names, source)
    if class_names is None and classes is None:
        _check_no_gap(hard_targets, source)
    return TransferSet(
        inputs,
        hard_targets,
        class_names=class_names,
        classes=classes,
        feature_names=feature_names,
    )


def find_classes(
    labels: Any,  # noqa: ANN401
    class_names: Sequence[str] | None,
    source: str,
) -> tuple[NDArray[np.int64], Sequence[str] | None]:
    """Turn an Arrow array of labels into class indices, -1 where there is none.

    Returns:
        The indices, and the classes' names: those given, or else those of the labels, if any.

    Raises:
        DataError: If the labels are of another type, or one is not among the names.
    """
    if pa.types.is_dictionary(labels.type):
        labels = labels.cast(labels.type.value_type)
    if _is_text(labels.type):
        hard_targets, class_names = _find_names(labels.cast(pa.string()), class_names, source)
    elif pa.types.is_boolean(labels.type):
        hard_targets = _fill(labels.cast(pa.int64()), source)
        class_names = ("false", "true") if class_names is None else class_names
    elif pa.types.is_integer(labels.type):
        hard_targets = _fill(labels, source)
    else:
        raise DataError(
            f"expected class indices, names or truth values in {source}, got {labels.type}; "
            f"turn them into integers or texts{' in UTF-8' * pa.types.is_binary(labels.type)}"
        )
    return hard_targets, class_names


def _is_text(kind: Any) -> bool:  # noqa: ANN401
    return any(
        is_kind(kind)
        for is_kind in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    )


def _find_names(
    labels: Any,  # noqa: ANN401
    class_names: Sequence[str] | None,
    source: str,
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    found = sorted(pc.unique(labels.drop_null()).to_pylist())
    if not found and class_names is None:
        raise DataError(f"expected class names in {source}, got none; pass class_names=")
    names = tuple(found if class_names is None else class_names)
    known = set(names)
    extra = [each for each in found if each not in known]
    if extra:
        row = pc.index(labels, extra[0]).as_py()
        raise DataError(
            f"expected one of the classes {', '.join(map(repr, names[:5]))}"
            f"{', ...' if len(names) > 5 else ''}, got {extra[0]!r} in {source}, row {row}; "
            "is class_names= complete, and spelled alike?"
        )
    return _fill(pc.index_in(labels, value_set=pa.array(names, pa.string())), source), names


def _fill(labels: Any, source: str) -> NDArray[np.int64]:  # noqa: ANN401
    """Answer class indices, -1 where there is none."""
    try:
        indices = labels.cast(pa.int64())
    except pa.ArrowInvalid as error:  # uint64 of 2**63 or more
        raise DataError(f"expected class indices in {source}, got others: {error}") from error
    filled: NDArray[np.int64] = indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return filled


def _check_no_gap(hard_targets: NDArray[np.int64], source: str) -> None:
    """Raise `DataError` if indices in 0..largest have no example: likely these are no indices."""
    found = np.unique(hard_targets)
    found = found[found >= 0]
    if len(found) == 0 or found[-1] >= MOST_CLASSES or len(found) == found[-1] + 1:
        return
    missing = np.setdiff1d(np.arange(found[-1]), found)[:5].tolist()
    raise DataError(
        f"expected class indices 0..{found[-1]} in {source}, got none of {missing}; indices start "
        "at 0, and if these classes have no example, give classes= or class_names="
    )
