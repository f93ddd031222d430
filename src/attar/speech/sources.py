"""Where a corpus comes from: a folder, an archive, or an archive on the web."""

import glob
import os
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attar.errors import DataError, FolderError, file_error
from attar.files import make_folder

_PATIENCE_SECONDS = 30.0


@contextmanager
def open_source(source: str) -> Iterator[Path]:
    """Give a folder that has the source's files; what is unpacked goes away afterwards.

    Args:
        source: A folder, a `.zip` or `.tar` file (compressed or not), or a URL of one.

    Raises:
        DataError: If an archive is damaged.
        FolderError: If there is no such file, or it cannot be fetched.
    """
    if source.startswith(("http://", "https://", "file://")):
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder) / (source.rstrip("/").rpartition("/")[2] or "archive")
            _fetch(source, archive)
            unpacked = Path(folder) / "unpacked"
            _unpack(archive, unpacked)
            yield unpacked
        return
    path = Path(source)
    if path.is_dir():
        yield path
        return
    if not path.exists():
        raise FolderError(
            f"expected a folder, an archive or a URL, got {source}, which is not there"
        )
    with tempfile.TemporaryDirectory() as folder:
        _unpack(path, Path(folder))
        yield Path(folder)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give a folder to fill, which gets its name when the body ends without an error.

    So a folder of that name is whole, and one that was there is left as it is.

    Raises:
        FolderError: If the folder is there and not empty, or cannot be made.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FolderError(f"expected a new folder, got {folder}, which is there; name another")
    place = folder.absolute()
    for left in place.parent.glob(f".{glob.escape(place.name)}.*.partial"):
        shutil.rmtree(left, ignore_errors=True)  # by a run that was killed
    partial = make_folder(place.with_name(f".{place.name}.{os.getpid()}.partial"))
    try:
        yield partial
        try:
            partial.replace(place)
        except OSError as error:
            raise file_error("make the folder", folder, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def find(folder: Path, name: str) -> Path | None:
    """Find a file of this name in a folder or below, the least deep one first."""
    found = sorted(folder.rglob(name), key=lambda path: (len(path.parts), path))
    return found[0] if found else None


def _fetch(url: str, path: Path) -> None:
    try:
        with (
            urllib.request.urlopen(url, timeout=_PATIENCE_SECONDS) as answer,
            path.open("wb") as file,
        ):
            shutil.copyfileobj(answer, file)
    except urllib.error.URLError as error:
        raise FolderError(
            f"cannot fetch {url}: {error.reason}; fetch it elsewhere, and give the file"
        ) from error
    except OSError as error:
        raise file_error("fetch", Path(url), error) from error


def _unpack(archive: Path, folder: Path) -> None:
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                zipped.extractall(folder)
        elif tarfile.is_tarfile(archive):
            with tarfile.open(archive) as tarred:
                tarred.extractall(folder, filter="data")
        else:
            raise DataError(f"expected a zip or tar archive, got {archive}")
    except OSError as error:
        raise file_error("unpack", archive, error) from error
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise DataError(f"{archive} is damaged ({error}); fetch it again") from error
