"""Teachers of stored scores: logits or probabilities in an array or a file."""

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch
from jaxtyping import Float, Int64, Shaped
from numpy.typing import NDArray
from torch import Tensor

from attar.errors import AttarError, DataError, ShapeError, file_error
from attar.teachers.fingerprints import hash_value
from attar.teachers.frames import read_frame, stack_columns
from attar.teachers.protocol import (
    Answers,
    Examples,
    Rest,
    answers_key,
    check_class_count,
    find_classes,
    to_logits,
)

_KINDS: tuple[Answers, ...] = ("logits", "probabilities")
INDEX = "index"  # the array or column of positions in the transfer set
_NAMES = "class_names"  # the array of a `.npz` file


@dataclass(frozen=True)
class _Stored:
    scores: NDArray[Any]  # [rows, classes], in the transfer set's order
    index: NDArray[Any] | None = None
    answers: Answers | None = None  # as recorded in the file
    order: tuple[int, ...] | None = None  # positions of the classes in the file; None: unchanged


@dataclass(frozen=True)
class StoredTeacher:
    """Stored scores, one row per example of the transfer set."""

    scores: Shaped[NDArray[Any], "rows classes"]
    rows: (
        Int64[Tensor, " examples"] | None
    )  # row of each example, -1 if it has none; None: in order
    answers: Answers
    name: str
    digest: str
    rest: Rest | None = None  # see `to_logits`
    members: None = None
    reads_inputs: bool = False

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.scores.shape[1])

    def logits(self, batch: Examples) -> Float[Tensor, "batch classes"]:
        """Look the examples up by their positions in the transfer set.

        Raises:
            DataError: If an example has no row, or the scores are not what `answers` says.
        """
        indices = batch.indices.cpu()
        examples = len(self.scores) if self.rows is None else len(self.rows)
        known = indices < examples
        if self.rows is not None:
            known[known.clone()] = self.rows[indices[known]] >= 0
        if not known.all():
            absent = int(indices[~known][0])
            raise DataError(
                f"expected a row for each example, but {self.name} with {len(self.scores)} rows "
                f"has none for example {absent}; was it made for this transfer set?"
            )
        rows = indices if self.rows is None else self.rows[indices]
        return to_logits(
            torch.from_numpy(self.scores[rows.numpy()]),  # a copy
            answers=self.answers,
            classes=self.classes,
            indices=indices,
            name=self.name,
            rest=self.rest,
        )

    def fingerprint(self) -> str:
        """Return the hash of the scores, their shape and type, and the options."""
        return self.digest


def make_stored_teacher(
    scores: NDArray[Any],
    index: NDArray[Any] | None,
    *,
    classes: int,
    examples: int | None,
    answers: Answers,
    rest: Rest | None,
    name: str,
    digest: str | None = None,
) -> StoredTeacher:
    """Check scores and index.

    Raises:
        ShapeError: If the scores are not `[examples, classes]`, or the index has another length.
        DataError: If they are not floats, or the index is not a list of different positions.
    """
    if scores.ndim != 2:
        raise ShapeError(
            f"expected scores [examples, classes], got {list(scores.shape)} in {name}; "
            "an ensemble is a list of such arrays"
        )
    if scores.dtype.kind != "f":
        raise DataError(f"expected scores of floats, got {scores.dtype} in {name}")
    if scores.dtype not in (np.float16, np.float32, np.float64):
        scores = scores.astype(scores.dtype.newbyteorder("="))
    check_class_count(scores.shape[1], classes=classes, name=name)
    rows = None if index is None else _invert(index, len(scores), name)
    if rows is None and examples is not None and examples != len(scores):
        raise ShapeError(
            f"expected a row for each of the transfer set's {examples} examples, "
            f"got {len(scores)} rows in {name}; add an {INDEX!r} column of positions"
        )
    digest = digest or hash_value([scores, index, *answers_key(answers, rest)])
    return StoredTeacher(scores, rows, answers, name, digest, rest)


def make_frame_teacher(
    frame: object,
    *,
    classes: int,
    class_names: Sequence[str] | None,
    examples: int | None,
    answers: Answers,
    rest: Rest | None,
) -> StoredTeacher:
    """Make a teacher from a table with one column per class name, and optionally a column `index`.

    Rows are in the order of the examples; the row index of pandas is ignored.

    Raises:
        ShapeError: If it has another number of rows or classes.
        DataError: If it contains anything but numbers, or has other class names.
    """
    name = f"the {type(frame).__name__}"
    stored = _find_scores(read_frame(frame, name), class_names, name)
    return make_stored_teacher(
        stored.scores,
        stored.index,
        classes=classes,
        examples=examples,
        answers=answers,
        rest=rest,
        name=name,
    )


def open_stored_teacher(
    path: Path,
    *,
    classes: int,
    class_names: Sequence[str] | None,
    examples: int | None,
    answers: Answers | None,
    rest: Rest | None,
) -> StoredTeacher:
    """Open `.npy` (memory-mapped), `.npz` or `.parquet`; nothing is unpickled.

    A `.npz` file has an array `logits` or `probabilities`, and optionally `index` and
    `class_names`. A Parquet file has such a column of lists, or one column of numbers per class
    name, and optionally a column `index`.

    Raises:
        FolderError: If the file cannot be read.
        DataError: If it is damaged, has other content, or has other class names.
        ShapeError: If its shape does not fit.
    """
    name = f"the file {path.name}"
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        stored = _READERS[path.suffix.lower()](path, class_names)
    except OSError as error:
        raise file_error("read", path, error) from error
    except (zipfile.BadZipFile, pa.ArrowException, ValueError, EOFError) as error:
        if isinstance(error, AttarError):
            raise
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} is damaged or is not a {path.suffix} file: {reason}") from error
    answers = answers or stored.answers or "logits"
    order = () if stored.order is None else (stored.order,)
    return make_stored_teacher(
        stored.scores,
        stored.index,
        classes=classes,
        examples=examples,
        answers=answers,
        rest=rest,
        name=name,
        digest=hash_value([digest, *answers_key(answers, rest), *order]),
    )


def _read_npy(path: Path, class_names: Sequence[str] | None) -> _Stored:
    return _Stored(np.lib.format.open_memmap(path, mode="r"))


def _read_npz(path: Path, class_names: Sequence[str] | None) -> _Stored:
    # Opened here, because NumPy leaves files that are not archives open.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        kind = _which(list(arrays), path)
        scores, index = arrays[kind], arrays.get(INDEX)
        if _NAMES not in arrays:
            return _Stored(scores, index, kind)
        order = find_classes(
            [str(each) for each in arrays[_NAMES].tolist()],
            class_names,
            name=f"the file {path.name}",
            remedy="write it with the class names of the transfer set",
        )
    if scores.ndim != 2 or scores.shape[1] != len(order):
        raise ShapeError(
            f"expected scores of the {len(order)} class_names in {path}, got {list(scores.shape)}"
        )
    return _Stored(scores[:, order], index, kind, _moved(order))


def _read_parquet(path: Path, class_names: Sequence[str] | None) -> _Stored:
    with pyarrow.parquet.ParquetFile(path) as file:
        names = file.schema_arrow.names
        if len(set(names)) < len(names):
            raise DataError(f"expected columns with different names in {path}, got {names}")
        table = file.read()
    index = table[INDEX].to_numpy() if INDEX in names else None
    if not set(_KINDS) & set(names):  # a column for each class
        columns = {name: _whole(table[name], path).to_numpy() for name in names}
        return _find_scores(columns, class_names, f"the file {path.name}")
    kind = _which(names, path)
    column = _whole(table[kind], path).combine_chunks()
    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        if not pa.types.is_fixed_size_list(column.type):
            raise DataError(f"expected lists in column {kind} of {path}, got {column.type}")
        widths = np.full(len(column), column.type.list_size)
    else:
        widths = np.asarray(column.value_lengths())
    if len(set(widths.tolist())) != 1:
        raise DataError(
            f"expected lists of the same length in column {kind} of {path}, "
            f"got {sorted(set(widths.tolist()))[:5]}"
        )
    flat = _whole(column.flatten(), path).to_numpy(zero_copy_only=False)
    return _Stored(flat.reshape(len(column), int(widths[0])), index, kind)


def _find_scores(
    columns: dict[str, NDArray[Any]], class_names: Sequence[str] | None, name: str
) -> _Stored:
    """Return the scores of a table with one column per class, and its index, if any."""
    scores = {label: column for label, column in columns.items() if label != INDEX}
    stacked, order = stack_columns(scores, class_names, name)
    return _Stored(stacked, columns.get(INDEX), order=_moved(order))


def _moved(order: tuple[int, ...]) -> tuple[int, ...] | None:
    return None if order == tuple(range(len(order))) else order


def _whole(column: Any, path: Path) -> Any:  # noqa: ANN401 (pyarrow has no types)
    if column.null_count:
        raise DataError(f"expected no nulls in {path}, got {column.null_count}")
    return column


def _which(names: list[str], path: Path) -> Answers:
    found = [kind for kind in _KINDS if kind in names]
    if len(found) != 1:
        raise DataError(f"expected either logits or probabilities in {path}, got {names}")
    return found[0]


def _invert(index: NDArray[Any], rows: int, name: str) -> Tensor:
    """Turn the position of each row into the row of each position."""
    if index.dtype.kind not in "iu" or index.shape != (rows,):
        raise DataError(
            f"expected an index of {rows} integers, one for each row, "
            f"got {index.dtype} {list(index.shape)} in {name}"
        )
    positions = torch.from_numpy(index.astype(np.int64))
    if rows == 0 or int(positions.min()) < 0:
        raise DataError(f"expected an index of positions >= 0 in {name}, got none or negative ones")
    row_of = torch.full((int(positions.max()) + 1,), -1)
    row_of[positions] = torch.arange(rows)
    twice = (row_of[positions] != torch.arange(rows)).nonzero()
    if len(twice):
        raise DataError(
            f"expected each position once in the index of {name}, "
            f"got {int(positions[twice[0, 0]])} twice"
        )
    return row_of


_READERS = {".npy": _read_npy, ".npz": _read_npz, ".parquet": _read_parquet}
