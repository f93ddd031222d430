"""Arrow tables into transfer sets: columns of numbers side by side, or one column of lists."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from attar.data.labels import make_labeled_set
from attar.data.transfer_set import TransferSet
from attar.errors import DataError

MASK = "attention_mask"


def convert_table(
    table: Any,  # noqa: ANN401 (pyarrow has no types)
    *,
    inputs: str | Sequence[str] | None,
    target: str | None,
    class_names: Sequence[str] | None,
    classes: int | None,
    padding: int | None,
    source: str,
) -> TransferSet:
    """Make a transfer set of an Arrow table; see `read_table`."""
    names = table.column_names
    check_column_names(names, source)
    if table.num_rows == 0:
        raise DataError(f"expected one row or more in {source}, got none")
    if target is not None and target not in names:
        raise DataError(
            f"expected a column {target!r} of hard targets in {source}, got {_list(names)}; "
            "give target=, or target=None if there are none"
        )
    wanted = [inputs] if isinstance(inputs, str) else inputs
    chosen = [name for name in names if name != target] if wanted is None else list(wanted)
    absent = [name for name in chosen if name not in names]
    if absent or not chosen or target in chosen:
        wrong = f"column {absent[0]!r}" if absent else f"{chosen} as inputs, {target!r} as target"
        raise DataError(
            f"expected columns of {source}, which are {_list(names)}, got {wrong}; give inputs="
        )
    columns = {name: table[name].combine_chunks() for name in chosen}
    if any(is_list(column.type) for column in columns.values()):
        values = _read_lists(columns, padding, source)
        if MASK in names and MASK not in chosen and values.ndim == 2:
            _check_mask(values, table[MASK].combine_chunks(), padding, source)
    else:
        values = _stack_numbers(columns, source)
    return make_labeled_set(
        values,
        None if target is None else table[target].combine_chunks(),
        class_names=class_names,
        classes=classes,
        source=source if target is None else f"column {target!r} of {source}",
    )


def check_column_names(names: Sequence[str], source: str) -> None:
    """Raise `DataError` unless all names differ."""
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise DataError(
            f"expected columns of different names in {source}, got {_list(twice)} twice"
        )


def is_list(kind: Any) -> bool:  # noqa: ANN401
    """Tell whether an Arrow type is one of lists, of any kind."""
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _stack_numbers(columns: dict[str, Any], source: str) -> NDArray[np.float32]:
    """Put columns of numbers side by side, as float32 `[rows, columns]`."""
    rows = len(next(iter(columns.values())))
    stacked = np.empty((rows, len(columns)), np.float32)
    for place, (name, column) in enumerate(columns.items()):
        _check_numbers(column, name, source)
        _check_no_null(column, name, source)
        values = column.cast(pa.int8()) if pa.types.is_boolean(column.type) else column
        with np.errstate(over="ignore"):  # told below
            stacked[:, place] = values.to_numpy(zero_copy_only=False)
        wrong = np.flatnonzero(~np.isfinite(stacked[:, place]))
        if len(wrong):
            raise DataError(
                f"expected finite numbers of float32 in column {name!r} of {source}, "
                f"got {column[int(wrong[0])].as_py()} in row {wrong[0]}; drop such rows, or rescale"
            )
    return stacked


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
        _check_no_null(array, name, source)
        lengths = np.asarray(pc.list_value_length(array))
        values = pc.list_flatten(array)
        if len(shape) == 1 and padding is not None and pa.types.is_integer(values.type):
            _check_no_null(values, name, source)
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
    _check_numbers(array, name, source)
    _check_no_null(array, name, source)
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
            f"got it between them in row {np.flatnonzero(starts > 1)[0]}; give another padding="
        )
    return padded


def _check_mask(ids: NDArray[Any], mask: Any, padding: int | None, source: str) -> None:  # noqa: ANN401
    """Raise `DataError` unless the attention mask is where the ids are not the padding token."""
    given = _pad_mask(mask, ids.shape[1])
    expected = np.ones_like(ids, dtype=bool) if padding is None else ids != padding
    wrong = np.flatnonzero((given != expected).any(axis=1))
    if len(wrong):
        raise DataError(
            f"expected {MASK} to be 0 at the padding token {padding} alone, got another mask in "
            f"row {wrong[0]} of {source}; a network finds the mask by that token: give padding="
        )


def _pad_mask(mask: Any, width: int) -> NDArray[np.bool_]:  # noqa: ANN401
    lengths = np.asarray(pc.list_value_length(mask))
    padded = np.zeros((len(lengths), max(width, int(lengths.max()))), bool)
    flat = pc.list_flatten(mask).to_numpy(zero_copy_only=False)
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = flat != 0
    return padded[:, :width]


def _check_numbers(column: Any, name: str, source: str) -> None:  # noqa: ANN401
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise DataError(
            f"expected numbers in column {name!r} of {source}, got {kind}; "
            "turn them into numbers, or leave the column out with inputs="
        )


def _check_no_null(column: Any, name: str, source: str) -> None:  # noqa: ANN401
    if column.null_count:
        row = pc.index(pc.is_null(column), True).as_py()
        raise DataError(
            f"expected a value everywhere in column {name!r} of {source}, got none in row {row}; "
            "fill it in, or drop such rows"
        )


def _list(names: Sequence[str]) -> str:
    told = ", ".join(repr(name) for name in names[:8])
    return f"{told}, ..." if len(names) > 8 else told
