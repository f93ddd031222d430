"""Atomic writing of files, and locks of folders."""

import contextlib
import glob
import hashlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from attar.errors import FolderError, file_error
from attar.urls import Place, UrlPath

AnyPlace = TypeVar("AnyPlace", Path, UrlPath, Place)
PARTIAL = ".*.partial"  # names of temporary files; killed processes leave them behind


def write_atomically(path: Place, content: bytes) -> None:
    """Write `content` to `path`; on failure, `path` is unchanged.

    The bytes are written to a temporary file beside it and synced to disk, then the file is
    renamed. An unfinished temporary file is removed.

    Raises:
        FolderError: If the folder cannot be written, or the disk is full.
    """
    if isinstance(path, UrlPath):
        path.write_bytes(content)
        return
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file to write, which then replaces `path`, synced to disk.

    Raises:
        FolderError: If the body or the renaming raises an `OSError`. After any error, `path` is
            unchanged and the temporary file is removed.
    """
    # Unique names: on a shared disk, two machines may use the same process id.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.partial")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise file_error("write", path, error) from error
    finally:
        with contextlib.suppress(OSError):  # missing, or its folder is missing
            temporary.unlink()


def remove_partials(path: Path) -> None:
    """Remove temporary files of killed processes that were writing this file."""
    for partial in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        partial.unlink(missing_ok=True)


def make_folder(path: AnyPlace) -> AnyPlace:
    """Make the folder and its parents if missing; raise `FolderError` on failure."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise file_error("make the folder", path, error) from error
    return path


@contextlib.contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Make the folder and lock it against other processes during the body.

    Raises:
        FolderError: If the folder cannot be written, or is in use.
    """
    lock = FileLock(make_folder(folder) / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise FolderError(f"{folder} is in use by another run; wait for it to end") from error
    except OSError as error:
        raise file_error("use the folder", folder, error) from error
    try:
        yield
    finally:
        lock.release()


def write_size(size_bytes: float) -> str:
    """Format a number of bytes.

    Example:
        >>> write_size(400), write_size(12_345), write_size(7_000_000_000)
        ('400 B', '12.3 kB', '7.00 GB')
    """
    units = ["B", "kB", "MB", "GB", "TB"]
    while size_bytes >= 999.5 and len(units) > 1:
        size_bytes, _ = size_bytes / 1000, units.pop(0)
    digits = 0 if units[0] == "B" or size_bytes >= 99.95 else 1 if size_bytes >= 9.995 else 2
    return f"{size_bytes:,.{digits}f} {units[0]}"


def sha256(content: bytes | memoryview) -> str:
    """Return the SHA-256 checksum of the bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()
