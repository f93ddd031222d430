"""Transfer sets out of Parquet and CSV files, and of NumPy's own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from attar.data.columns import check_column_names, convert_table
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
from attar.data.npz import NOT_NUMPY, damaged, read_npz
from attar.data.transfer_set import TransferSet
from attar.errors import DataError, file_error

_CSV = {".csv": ",", ".tsv": "\t"}


def read_table(
    path: Path | str,
    *,
    target: str | None,
    inputs: str | Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    classes: int | None = None,
    padding: int | None = None,
    ignore: str | Sequence[str] = (),
) -> TransferSet:
    r"""Read a Parquet, CSV or TSV file: a row for each example.

    Columns of numbers are put side by side, as float32 `[examples, columns]`, and their names are
    the set's `feature_names`. One column of lists makes inputs of the lists' shape: bytes and
    floats (as float32), or token ids (as int64).

    Args:
        path: A `.parquet` file, or a `.csv` or `.tsv` file with the columns' names in its first
            line, in which an empty field means that there is no value.
        target: The column of hard targets: class indices, class names or truth values, and no value
            where there is none; None if the set has no hard targets.
        inputs: The columns of inputs, in order; by default all others.
        class_names: Those of the classes, in order; by default the names that come, sorted. Give a
            test set those of its training set.
        classes: How many classes there are, where the hard targets are indices.
        padding: The token id that fills shorter lists up, on the right. An `attention_mask` column,
            if there is one, must agree with it.
        ignore: Columns to leave out. Required next to token ids for further inputs of
            `transformers` models, such as `token_type_ids` that are not all 0.

    Raises:
        FolderError: If the file cannot be read.
        DataError: If it is damaged or empty; if a column is missing, comes twice, is of the wrong
            type, ragged, or has gaps; if there are inputs of several tensors; or if the classes do
            not fit.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "irises.csv"
        ...     _ = path.write_text("length,width,species\n5.1,3.5,setosa\n6.3,3.3,virginica\n")
        ...     read_table(path, target="species")
        TransferSet([2, 2] float32, 2 classes, views=None)
    """
    path = Path(path)
    try:
        table = _read(path)
    except OSError as error:
        if not path.is_file():
            raise file_error("read", path, error) from error
        raise damaged(path, error) from error  # pyarrow's, for some of what is damaged
    except (pa.ArrowException, EOFError) as error:
        raise damaged(path, error) from error
    return convert_table(
        table,
        inputs=inputs,
        target=target,
        class_names=class_names,
        classes=classes,
        padding=padding,
        ignore=ignore,
        source=path.name,
    )


def read_arrays(
    path: Path | str,
    *,
    target: str | None = "hard_targets",
    inputs: str = "inputs",
    class_names: Sequence[str] | None = None,
    classes: int | None = None,
    padding: int | None = None,
    ignore: str | Sequence[str] = (),
    may_lack_target: bool = False,
) -> TransferSet:
    """Read a `.npz` file of several arrays, or a `.npy` file of inputs alone, which stays on disk.

    Args:
        path: The file. An array of texts `class_names` in a `.npz` names the classes.
        target: The array of hard targets in it: class indices, -1 where there is none, or class
            names; None if the set has no hard targets, as that of a `.npy` file.
        inputs: The array of inputs in it, as `TransferSet` takes them.
        class_names: Those of the classes, in order.
        classes: How many classes there are.
        padding: The padding token of token ids. An array `attention_mask` must be 0 exactly there.
        ignore: Arrays to leave out. Required next to token ids for further inputs of `transformers`
            models, such as `token_type_ids` that are not all 0.
        may_lack_target: Take a file without an array of that name as a set without hard targets.

    Raises:
        FolderError: If the file cannot be read.
        DataError: If it is damaged, holds Python objects, lacks an array, or the arrays do not fit.
        ShapeError: If there is not one hard target for each example.
    """
    path = Path(path)
    wanted = (inputs, target, "class_names", MASK, TYPES)
    arrays = _load(path, [name for name in wanted if name])
    if path.suffix == ".npy":
        arrays, inputs = {"inputs": arrays[""]}, "inputs"
    if may_lack_target and target not in arrays:
        target = None
    for name in (inputs, target):
        if name is not None and name not in arrays:
            found = ", ".join(map(repr, arrays["names"])) if "names" in arrays else "inputs alone"
            raise DataError(
                f"expected an array {name!r} in {path.name}, got {found}; give inputs= and "
                "target=, or target=None if there are no hard targets"
            )
    if "names" in arrays:
        ignored = [ignore] if isinstance(ignore, str) else ignore
        names = leave_out(arrays["names"], ignored, path.name)
        beside = [name for name in names if name not in (inputs, target)]
        _check_beside(arrays, inputs, beside, padding, path.name)
    labels = None if target is None else _to_labels(arrays[target], target, path)
    if class_names is None and "class_names" in arrays:
        names = _to_labels(arrays["class_names"], "class_names", path)
        class_names = [str(name) for name in names.to_pylist()]
    return make_labeled_set(
        arrays[inputs],
        labels,
        class_names=class_names,
        classes=classes,
        source=path.name if target is None else f"array {target!r} of {path.name}",
    )


def _read(path: Path) -> Any:  # noqa: ANN401 (pyarrow has no types)
    if path.suffix == ".parquet":
        with pyarrow.parquet.ParquetFile(path) as file:
            check_column_names(file.schema_arrow.names, path.name)
            return file.read()
    if path.suffix not in _CSV:
        raise DataError(f"expected a .parquet, .csv or .tsv file, got {path}")
    table = pyarrow.csv.read_csv(
        path,
        parse_options=pyarrow.csv.ParseOptions(delimiter=_CSV[path.suffix]),
        convert_options=pyarrow.csv.ConvertOptions(null_values=[""], strings_can_be_null=True),
    )
    try:
        check_column_names(table.column_names, path.name)
    except UnicodeError as error:
        raise DataError(
            f"expected column names in UTF-8 in {path.name}, got others ({error}); "
            "save the file in UTF-8"
        ) from error
    return table


def _load(path: Path, wanted: list[str]) -> dict[str, Any]:
    if path.suffix == ".npy":
        try:
            return {"": np.lib.format.open_memmap(path, mode="r")}
        except OSError as error:
            raise file_error("read", path, error) from error
        except NOT_NUMPY as error:
            raise damaged(path, error) from error
    if path.suffix != ".npz":
        raise DataError(f"expected a .npz or .npy file, got {path}")
    names, arrays = read_npz(path, wanted)
    return {"names": list(names)} | arrays


def _check_beside(
    arrays: dict[str, Any], inputs: str, beside: Sequence[str], padding: int | None, source: str
) -> None:
    """Raise `DataError` if an array next to a model's input would change the model's answers."""
    values = arrays[inputs]
    if inputs not in MODEL_INPUTS and values.dtype not in (np.int32, np.int64):
        return
    companions = find_companions(beside, source)
    if TYPES in companions:
        check_types(arrays[TYPES], source)
    if MASK in companions:
        mask = arrays[MASK]
        if mask.shape[:2] != values.shape[:2]:
            raise DataError(
                f"expected {MASK} of the shape {list(values.shape[:2])} in {source}, got "
                f"{list(mask.shape)}"
            )
        check_mask(values, mask, padding, source)


def _to_labels(labels: np.ndarray, name: str, path: Path) -> Any:  # noqa: ANN401
    if labels.ndim != 1 or labels.dtype.kind not in "iubUS":
        raise DataError(
            f"expected class indices or names [examples] as array {name!r} of {path.name}, "
            f"got {labels.dtype} {list(labels.shape)}"
        )
    try:
        return pa.array(labels.astype(str) if labels.dtype.kind == "S" else labels)
    except UnicodeError as error:
        raise DataError(
            f"expected class names in ASCII in the bytes of array {name!r} of {path.name}, got "
            f"others ({error}); save them as texts"
        ) from error
