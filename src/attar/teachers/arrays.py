"""Teachers that answered elsewhere: logits or probabilities in an array or a file."""

import hashlib
import zipfile
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

from attar.errors import DataError, ShapeError, file_error
from attar.teachers.fingerprints import hash_value
from attar.teachers.protocol import Answers, Examples, check_class_count, to_logits

_KINDS: tuple[Answers, ...] = ("logits", "probabilities")
_Stored = tuple[NDArray[Any], NDArray[Any] | None, Answers | None]  # scores, index, what they are
INDEX = "index"  # the array or column of positions in the transfer set


@dataclass(frozen=True)
class StoredTeacher:
    """Scores that were computed elsewhere, one row for each example of the transfer set."""

    scores: Shaped[NDArray[Any], "rows classes"]
    rows: Int64[Tensor, " examples"] | None  # of each example, -1 for none; None: its position
    answers: Answers
    name: str
    digest: str
    members: None = None
    reads_inputs: bool = False

    @property
    def classes(self) -> int:
        """How many classes there are."""
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
                f"expected a row for each example, {self.name} with {len(self.scores)} rows "
                f"has none for example {absent}; was it made for this transfer set?"
            )
        rows = indices if self.rows is None else self.rows[indices]
        return to_logits(
            torch.from_numpy(self.scores[rows.numpy()]),  # a copy
            answers=self.answers,
            classes=self.classes,
            indices=indices,
            name=self.name,
        )

    def fingerprint(self) -> str:
        """Hash the bytes of the file, or of the array with shape and type."""
        return self.digest


def make_stored_teacher(
    scores: NDArray[Any],
    index: NDArray[Any] | None,
    *,
    classes: int,
    examples: int | None,
    answers: Answers,
    name: str,
    digest: str | None = None,
) -> StoredTeacher:
    """Check scores and index.

    Raises:
        ShapeError: If the scores are not `[examples, classes]`, or the index has another length.
        DataError: If they are no floats, or the index is no list of different positions.
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
            f"got {len(scores)} rows in {name}; give it an {INDEX!r} column of positions"
        )
    digest = digest or hash_value([scores, index, answers])
    return StoredTeacher(scores, rows, answers, name, digest)


def open_stored_teacher(
    path: Path, *, classes: int, examples: int | None, answers: Answers | None
) -> StoredTeacher:
    """Open `.npy` (memory-mapped), `.npz` or `.parquet`; nothing is unpickled.

    A `.npz` has an array `logits` or `probabilities`, and perhaps `index`. A Parquet file has such
    a column of lists, or one column of numbers for each class in order, and perhaps `index`.

    Raises:
        FolderError: If the file cannot be read.
        DataError: If it is damaged, or holds something else.
        ShapeError: If its shape does not fit.
    """
    name = f"the file {path.name}"
    scores: NDArray[Any]
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        scores, index, found = _READERS[path.suffix.lower()](path)
    except OSError as error:
        raise file_error("read", path, error) from error
    except (zipfile.BadZipFile, pa.ArrowException, ValueError, EOFError) as error:
        if isinstance(error, DataError):
            raise
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} is damaged or not what it is called: {reason}") from error
    return make_stored_teacher(
        scores,
        index,
        classes=classes,
        examples=examples,
        answers=answers or found or "logits",
        name=name,
        digest=hash_value([digest, answers or found or "logits"]),
    )


def _read_npy(path: Path) -> _Stored:
    return np.lib.format.open_memmap(path, mode="r"), None, None


def _read_npz(path: Path) -> _Stored:
    # Opened here, as NumPy leaves a file that is no archive open.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        kind = _which(list(arrays), path)
        return arrays[kind], arrays.get(INDEX), kind


def _read_parquet(path: Path) -> _Stored:
    with pyarrow.parquet.ParquetFile(path) as file:
        names = file.schema_arrow.names
        if len(set(names)) < len(names):
            raise DataError(f"expected columns of different names in {path}, got {names}")
        table = file.read()
    index = table[INDEX].to_numpy() if INDEX in names else None
    if not set(_KINDS) & set(names):  # a column for each class
        columns = [table[name] for name in names if name != INDEX]
        numbers = [_whole(column, path).to_numpy() for column in columns]
        if not numbers or any(each.dtype.kind not in "fiu" for each in numbers):
            raise DataError(
                f"expected a column of lists, logits or probabilities, or a column of numbers for "
                f"each class in {path}, got {names}"
            )
        return np.stack(numbers, axis=1).astype(np.result_type(*numbers, np.float16)), index, None
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
            f"expected lists of one length in column {kind} of {path}, "
            f"got {sorted(set(widths.tolist()))[:5]}"
        )
    flat = _whole(column.flatten(), path).to_numpy(zero_copy_only=False)
    return flat.reshape(len(column), int(widths[0])), index, kind


def _whole(column: Any, path: Path) -> Any:  # noqa: ANN401 (pyarrow has no types)
    if column.null_count:
        raise DataError(f"expected a number everywhere in {path}, got {column.null_count} nulls")
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
        raise DataError(f"expected an index of positions 0 or more, got others in {name}")
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
