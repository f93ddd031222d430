"""Arrow tables into transfer sets: columns of numbers side by side, or one column of lists."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from attar.data.checks import find_repeated
from attar.data.companions import (
    MASK,
    MODEL_INPUTS,
    TYPES,
    check_mask,
    check_types,
    find_companions,
    leave_out,
)
from attar.data.labels import make_labeled_set
from attar.data.number_columns import check_no_null, check_numbers, stack_numbers
from attar.data.transfer_set import TransferSet
from attar.errors import DataError


def convert_table(
    table: Any,  # noqa: ANN401 (pyarrow has no types)
    *,
    inputs: str | Sequence[str] | None,
    target: str | None,
    class_names: Sequence[str] | None,
    classes: int | None,
    padding: int | None,
    ignore: str | Sequence[str],
    source: str,
) -> TransferSet:
    """Make a transfer set of an Arrow table; see `read_table`."""
    check_column_names(table.column_names, source)
    ignored = [ignore] if isinstance(ignore, str) else ignore
    names = leave_out(table.column_names, ignored, source)
    if table.num_rows == 0:
        raise DataError(f"expected one row or more in {source}, got none")
    if target is not None and target not in names:
        raise DataError(
            f"expected a column {target!r} of hard targets in {source}, got {_list(names)}; "
            "give target=, or target=None if there are none"
        )
    wanted = [inputs] if isinstance(inputs, str) else inputs
    chosen = [name for name in names if name != target] if wanted is None else list(wanted)
    known = set(names)
    absent = [name for name in chosen if name not in known]
    if find_repeated(chosen):
        raise DataError(f"expected different columns as inputs, got {_list(chosen)}")
    if absent or not chosen or target in chosen:
        wrong = f"column {absent[0]!r}" if absent else f"{chosen} as inputs, {target!r} as target"
        raise DataError(
            f"expected columns of {source}, which are {_list(names)}, got {wrong}; give inputs="
        )
    columns = {name: table[name].combine_chunks() for name in chosen}
    feature_names = None
    if any(is_list(column.type) for column in columns.values()):
        values = _read_lists(columns, padding, source)
        if chosen[0] in MODEL_INPUTS or values.dtype == np.int64:
            beside = {name: table[name] for name in names if name not in (chosen[0], target)}
            _check_beside(values, columns[chosen[0]], beside, padding, source)
    else:
        values, feature_names = stack_numbers(columns, source), chosen
    return make_labeled_set(
        values,
        None if target is None else table[target].combine_chunks(),
        class_names=class_names,
        classes=classes,
        source=source if target is None else f"column {target!r} of {source}",
        feature_names=feature_names,
    )


def check_column_names(names: Sequence[str], source: str) -> None:
    """Raise `DataError` unless all names differ."""
    twice = find_repeated(names)
    if twice:
        raise DataError(
            f"expected columns of different names in {source}, got {_list(twice)} twice"
        )


def is_list(kind: Any) -> bool:  # noqa: ANN401
    """Tell whether an Arrow type is one of lists, of any kind."""
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _read_lists(columns: dict[str, Any], padding: int | None, source: str) -> NDArray[Any]:
    """Turn one column of lists, or of lists of lists and so on, into `[rows, *shape]`."""
    if len(columns) > 1:
        raise DataError(
            f"expected one column of lists, or columns of numbers, as inputs in {source}, "
            f"got {_list(list(columns))}; give inputs="
        )
    ((name, array),) = columns.items()
    shape = [len(array)]
    while is_list(array.type):
        check_no_null(array, name, source)
        lengths = np.asarray(pc.list_value_length(array))
        values = pc.list_flatten(array)
        if len(shape) == 1 and padding is not None and pa.types.is_integer(values.type):
            check_no_null(values, name, source)
            return _pad(values.to_numpy(zero_copy_only=False), lengths, padding, source)
        different = np.flatnonzero(lengths != lengths[:1])
        if len(different):
            row = int(different[0]) // int(np.prod(shape[1:], dtype=np.int64))
            raise DataError(
                f"expected lists of one length in column {name!r} of {source}, got "
                f"{lengths[0]} in row 0 and {lengths[different[0]]} in row {row}; "
                "for token ids, give padding="
            )
        shape.append(int(lengths[0]) if len(lengths) else 0)
        array = values
    check_numbers(array, name, source)
    check_no_null(array, name, source)
    numbers: NDArray[Any] = array.to_numpy(zero_copy_only=False).reshape(shape)
    if numbers.dtype == np.uint8:
        return numbers
    return numbers.astype(np.int64 if numbers.dtype.kind in "iu" else np.float32)


def _pad(ids: NDArray[Any], lengths: NDArray[Any], padding: int, source: str) -> NDArray[np.int64]:
    """Fill lists of token ids up to the longest, on the right."""
    padded = np.full((len(lengths), int(lengths.max())), padding, np.int64)
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = ids
    real = padded != padding  # [rows, length]
    starts = (np.diff(real.astype(np.int8), axis=1, prepend=0) == 1).sum(axis=1)
    if (starts > 1).any():
        raise DataError(
            f"expected the padding token {padding} before or after the others alone in {source}, "
            f"got it between them in row {np.flatnonzero(starts > 1)[0]}; pass another padding="
        )
    return padded


def _check_beside(
    values: NDArray[Any],
    column: Any,  # noqa: ANN401
    beside: dict[str, Any],
    padding: int | None,
    source: str,
) -> None:
    """Raise `DataError` if a column beside a model's input would change the model's answers."""
    companions = find_companions(beside, source)
    if TYPES in companions:
        check_types(_flatten(beside[TYPES].combine_chunks(), TYPES, source), source)
    if MASK not in companions:
        return
    mask = beside[MASK].combine_chunks()
    if not is_list(mask.type):
        raise DataError(f"expected lists in the column {MASK!r} of {source}, got {mask.type}")
    check_no_null(mask, MASK, source)
    flat = _flatten(mask, MASK, source)
    if values.ndim != 2 or values.dtype != np.int64:
        check_mask(values, flat, padding, source)
        return
    lengths, expected = (np.asarray(pc.list_value_length(each)) for each in (mask, column))
    different = np.flatnonzero(lengths != expected)
    if len(different):
        row = different[0]
        raise DataError(
            f"expected {MASK} to be as long as the inputs in {source}, got {lengths[row]} and "
            f"{expected[row]} in row {row}"
        )
    padded = np.zeros(values.shape)
    padded[np.arange(values.shape[1]) < lengths[:, None]] = flat
    check_mask(values, padded, padding, source)


def _flatten(column: Any, name: str, source: str) -> NDArray[Any]:  # noqa: ANN401
    """Return the numbers in lists, or in lists of lists and so on, without their shape."""
    while is_list(column.type):
        column = pc.list_flatten(column)
    check_numbers(column, name, source)
    numbers: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return numbers


def _list(names: Sequence[str]) -> str:
    told = ", ".join(repr(name) for name in names[:8])
    return f"{told}, ..." if len(names) > 8 else told
