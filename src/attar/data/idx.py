"""Reads gzipped IDX files, the format of MNIST and its relatives.

The format (http://yann.lecun.com/exdb/mnist): two zero bytes, one byte for the number type, one for
the number of axes, the length of each axis as a big-endian int32, then the numbers, big-endian.
"""

import gzip
import hashlib
import zlib
from importlib.resources.abc import Traversable
from math import prod

import numpy as np
import torch
from torch import Tensor

from attar.errors import DataError

DTYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def read_idx(path: Traversable, *, sha256: str | None = None, remedy: str = "") -> Tensor:
    """Read a gzipped IDX file.

    Args:
        path: The file; a `Path` or a resource of a package.
        sha256: What the hash of the file's bytes, still compressed, must be, in hexadecimal.
        remedy: What to try when the file is missing or damaged; ends the error's text.

    Returns:
        The numbers, in the shape and type that the file states.

    Raises:
        DataError: If the file cannot be read, has another hash, or is not IDX.
    """
    advice = f"; {remedy}" if remedy else ""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}{advice}") from error
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256:
        raise DataError(f"{path} is damaged: expected SHA-256 {sha256}, found {found}{advice}")
    try:
        return _parse(gzip.decompress(content))
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is not a whole gzip file: {error}{advice}") from error
    except DataError as error:
        raise DataError(f"{path} is not an IDX file: {error}{advice}") from error


def _parse(content: bytes) -> Tensor:
    if len(content) < 4 or content[:2] != b"\0\0":
        raise DataError(f"expected two zero bytes first, then type and axes, got {content[:4]!r}")
    code, axes = content[2], content[3]
    if code not in DTYPES:
        raise DataError(f"expected a number type of {list(DTYPES)}, got {code}")
    start = 4 + 4 * axes
    if len(content) < start:
        raise DataError(f"expected a header of {start} bytes for {axes} axes, got {len(content)}")
    shape = np.frombuffer(content, ">u4", count=axes, offset=4).tolist()
    dtype = np.dtype(DTYPES[code])
    expected, got = prod(shape) * dtype.itemsize, len(content) - start
    if expected != got:
        raise DataError(f"expected {expected} bytes of numbers for shape {shape}, got {got}")
    numbers = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return torch.from_numpy(numbers.astype(dtype.newbyteorder("=")))  # a copy, which may be written
