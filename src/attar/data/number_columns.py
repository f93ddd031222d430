"""Columns of numbers, of Arrow tables and pandas DataFrames, put side by side as float32."""

import sys
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from attar.data.checks import find_repeated
from attar.errors import DataError


@runtime_checkable
class PandasObject(Protocol):
    """A pandas DataFrame or Series."""

    index: Any
    iloc: Any


LEAVE_OUT = "turn them into numbers, or leave the column out with inputs= or ignore="
FILL_IN = "fill it in, or drop such rows"
_OF_THE_TEACHER = (
    "; for a teacher that takes such columns, store its own answers: "
    "as_teacher(model.predict_proba(frame), classes=..., examples=len(frame), "
    'answers="probabilities"), with one column for each class of the set, in its order'
)


def stack_numbers(
    columns: dict[str, Any], source: str, *, leave_out: str = LEAVE_OUT, fill_in: str = FILL_IN
) -> NDArray[np.float32]:
    """Put columns of numbers side by side, as float32 `[rows, columns]`.

    Raises:
        DataError: If a column has no numbers, gaps, or numbers that are not finite.
    """
    rows = len(next(iter(columns.values())))
    stacked = np.empty((rows, len(columns)), np.float32)
    for place, (name, column) in enumerate(columns.items()):
        check_numbers(column, name, source, leave_out)
        check_no_null(column, name, source, fill_in)
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


def check_numbers(column: Any, name: str, source: str, leave_out: str = LEAVE_OUT) -> None:  # noqa: ANN401
    """Raise `DataError` unless an Arrow column is of numbers or truth values."""
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        told = f"categories of {kind.value_type}" if pa.types.is_dictionary(kind) else kind
        raise DataError(f"expected numbers in column {name!r} of {source}, got {told}; {leave_out}")


def check_no_null(column: Any, name: str, source: str, fill_in: str = FILL_IN) -> None:  # noqa: ANN401
    """Raise `DataError` if an Arrow column has no value somewhere."""
    if column.null_count:
        row = pc.index(pc.is_null(column), True).as_py()
        raise DataError(
            f"expected a value everywhere in column {name!r} of {source}, got none in row {row}; "
            f"{fill_in}"
        )


def read_pandas(inputs: Any, hard_targets: Any) -> tuple[Any, Any, tuple[str, ...] | None]:  # noqa: ANN401
    """Turn a DataFrame of inputs and a Series of hard targets into arrays; return all else as is.

    Returns:
        The inputs, the hard targets, and the names of the frame's columns if all are texts.

    Raises:
        DataError: If the two are indexed differently; else as `read_frame`.
    """
    pandas = sys.modules.get("pandas")  # who has a DataFrame has imported it
    if pandas is None:
        return inputs, hard_targets, None
    is_series, names = isinstance(hard_targets, pandas.Series), None
    if isinstance(inputs, pandas.DataFrame):
        if is_series and not inputs.index.equals(hard_targets.index):
            raise DataError(
                "expected one index of the DataFrame and of the Series of hard targets, got two; "
                "align them, or give hard_targets.to_numpy() if their rows are in one order"
            )
        inputs, names = read_frame(inputs)
    return inputs, hard_targets.to_numpy() if is_series else hard_targets, names


def read_frame(frame: Any) -> tuple[NDArray[np.float32], tuple[str, ...] | None]:  # noqa: ANN401
    """Turn a DataFrame of numbers into an array, and return its columns' names if all are texts.

    Raises:
        DataError: If the frame is empty or two columns have one name, else as `stack_numbers`.
    """
    source = "the DataFrame"
    if 0 in frame.shape:
        raise DataError(f"expected rows and columns in {source}, got {list(frame.shape)}")
    names = frame.columns.tolist()
    repeated = find_repeated([str(name) for name in names])
    if repeated:
        raise DataError(f"expected columns of different names in {source}, got {repeated} twice")
    columns = {}
    for place, name in enumerate(names):
        try:
            columns[str(name)] = pa.Array.from_pandas(frame.iloc[:, place])
        except (pa.ArrowException, TypeError) as error:  # objects of several kinds
            raise DataError(
                f"expected numbers in column {name!r} of {source}, got {frame.dtypes.iloc[place]}: "
                f"{str(error).splitlines()[0]}; turn them into numbers, or leave the column out"
            ) from error
    stacked = stack_numbers(
        columns,
        source,
        leave_out="encode them as numbers (pandas.get_dummies), or leave the column out"
        + _OF_THE_TEACHER,
        fill_in=FILL_IN + _OF_THE_TEACHER,
    )
    return stacked, tuple(names) if all(isinstance(name, str) for name in names) else None
