"""Writing files so that a reader never sees half of one."""

import contextlib
import glob
import hashlib
import os
from pathlib import Path

from attar.errors import file_error

PARTIAL = ".*.partial"  # names of temporary files; one that is left is of a process that was killed


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path`, so that `path` holds all of it or what it held before.

    The bytes go to a temporary file beside it, are synced to the disk, and the file is renamed.
    A temporary file that could not be finished is removed.

    Raises:
        FolderError: If the folder cannot be written, or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise file_error("write", path, error) from error
    finally:
        with contextlib.suppress(OSError):  # not there, or its folder is none
            temporary.unlink()


def remove_partials(path: Path) -> None:
    """Remove what processes left that were killed while they wrote this file."""
    for partial in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        partial.unlink(missing_ok=True)


def make_folder(path: Path) -> Path:
    """Make the folder and those above it, if they are not there; raise `FolderError` if barred."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise file_error("make the folder", path, error) from error
    return path


def sha256(content: bytes) -> str:
    """Return the SHA-256 checksum of the bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()
