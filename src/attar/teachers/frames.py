"""Tables of scores with one column per class: pandas, polars, or columns of a Parquet file."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attar.errors import DataError
from attar.teachers.protocol import find_classes


def is_frame(value: object) -> bool:
    """Return whether a value is a table with named columns, such as a pandas DataFrame."""
    return hasattr(value, "columns") and hasattr(value, "to_numpy")


def read_frame(frame: Any, name: str) -> dict[str, NDArray[Any]]:  # noqa: ANN401 (any package's)
    """Return the columns of a table by name; raise `DataError` if two names are equal."""
    labels = list(frame.columns)
    if len({str(label) for label in labels}) < len(labels):
        raise DataError(f"expected columns with different names in {name}, got {labels[:10]}")
    return {str(label): np.asarray(frame[label]) for label in labels}


def stack_columns(
    columns: Mapping[str, NDArray[Any]], class_names: Sequence[str] | None, name: str
) -> tuple[NDArray[Any], tuple[int, ...]]:
    """Return the scores `[rows, classes]` in the order of the transfer set, and that order.

    Raises:
        DataError: If a column contains anything but numbers, or the names differ from the transfer
            set's classes; see `find_classes`.
        ShapeError: If there is another number of columns.
    """
    kinds = {label: str(column.dtype) for label, column in columns.items()}
    if not columns or any(column.dtype.kind not in "fiu" for column in columns.values()):
        raise DataError(f"expected one column of numbers per class in {name}, got {kinds}")
    order = find_classes(
        list(columns),
        class_names,
        name=name,
        remedy="rename its columns, or remove those that are not classes; if they are in the order "
        "of the transfer set, pass only the values, as an array or as lists",
    )
    arrays = list(columns.values())
    kind = np.result_type(*arrays, np.float16)
    return np.stack([arrays[place] for place in order], axis=1).astype(kind, copy=False), order
