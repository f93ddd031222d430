"""NumPy's `.npz` files, read without trusting them."""

import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attar.errors import DataError, file_error

# What NumPy raises of bad files: of zip archives that are damaged, encrypted or too new, of headers
# that are no Python, and of shapes that are no numbers or too large for memory.
NOT_NUMPY = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    KeyError,
    SyntaxError,
    tokenize.TokenError,
    RuntimeError,
    MemoryError,
    OverflowError,
)


def read_npz(path: Path, wanted: Sequence[str]) -> tuple[tuple[str, ...], dict[str, NDArray[Any]]]:
    """Read some arrays of a `.npz` file.

    Returns:
        The names of all its arrays, and those of `wanted` that are there.

    Raises:
        FolderError: If the file cannot be read.
        DataError: If it is damaged, or holds Python objects.
    """
    try:
        # Opened here, as NumPy leaves a file that is no archive open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            names = tuple(arrays)
            return names, {name: arrays[name] for name in wanted if name in names}
    except OSError as error:
        raise file_error("read", path, error) from error
    except NOT_NUMPY as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> DataError:
    """Say that a file is damaged, and why, in one line."""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(f"{path} is damaged or is not a {path.suffix} file: {reason}")
