"""Files at a URL, such as `s3://bucket/folder`, accessed with pyarrow or fsspec."""

import fnmatch
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.fs

from attar.errors import UrlError

Item = TypeVar("Item")
Result = TypeVar("Result")
_AT_ONCE = 32  # parallel requests


@dataclass(frozen=True, slots=True)
class Status:
    """The result of `UrlPath.stat`."""

    st_size: int


@dataclass(frozen=True, slots=True)
class UrlPath:
    """A file or folder at a URL, with the methods of `pathlib.Path` that stores need.

    Supports the file systems of pyarrow and fsspec. Writes are atomic if the storage supports this,
    as object stores do. A missing file raises `FileNotFoundError`.

    Raises:
        UrlError: From all methods, if the URL, or the file there, cannot be used.

    Example:
        >>> folder = UrlPath("memory://example")
        >>> (folder / "a.txt").write_bytes(b"hello")
        >>> [each.name for each in folder.iterdir()], (folder / "a.txt").stat().st_size
        (['a.txt'], 5)
    """

    url: str
    inside: str = ""  # path below the URL

    def __truediv__(self, name: str) -> "UrlPath":
        return UrlPath(self.url, f"{self.inside}/{name}")

    def __str__(self) -> str:
        """Return the URL without options, which may contain keys."""
        parts = urlsplit(self.url)
        host = parts.netloc.rpartition("@")[2]
        return f"{parts.scheme}://{host}{parts.path.rstrip('/')}{self.inside}"

    @property
    def name(self) -> str:
        """Last part of the path."""
        return str(self).rpartition("/")[2]

    def absolute(self) -> "UrlPath":
        """Return the path unchanged."""
        return self

    def mkdir(self, *, parents: bool = True, exist_ok: bool = True) -> None:
        """Make the folder and its parents, if the storage has folders."""
        assert parents
        assert exist_ok
        with self._doing("make the folder") as (files, path):
            files.create_dir(path, recursive=True)

    def exists(self) -> bool:
        """Return whether there is a file or folder."""
        with self._doing("find") as (files, path):
            return bool(files.get_file_info(path).type != pyarrow.fs.FileType.NotFound)

    def stat(self) -> Status:
        """Return the size of the file."""
        with self._doing("find") as (files, path):
            found = files.get_file_info(path)
        if found.type != pyarrow.fs.FileType.File:
            raise FileNotFoundError(f"there is no file {self}")
        return Status(found.size)

    def iterdir(self) -> Iterator["UrlPath"]:
        """Yield the content of the folder; empty if it does not exist."""
        with self._doing("list") as (files, path):
            selector = pyarrow.fs.FileSelector(path, allow_not_found=True)
            found = [each.base_name for each in files.get_file_info(selector)]
        return (self / name for name in sorted(found))

    def glob(self, pattern: str) -> Iterator["UrlPath"]:
        """Yield the content of the folder that matches the pattern."""
        return (each for each in self.iterdir() if fnmatch.fnmatchcase(each.name, pattern))

    def read_bytes(self) -> bytes:
        """Read the file."""
        with self._doing("read") as (files, path), files.open_input_stream(path) as stream:
            return bytes(stream.read())

    def write_bytes(self, content: bytes) -> None:
        """Write the file."""
        with self._doing("write") as (files, path), files.open_output_stream(path) as stream:
            stream.write(content)

    def unlink(self, *, missing_ok: bool = False) -> None:
        """Remove the file."""
        if not missing_ok or self.exists():
            with self._doing("remove") as (files, path):
                files.delete_file(path)

    @contextmanager
    def _doing(self, action: str) -> Iterator[tuple[Any, str]]:
        try:
            files, path = _connect(self.url)
            yield files, path.rstrip("/") + self.inside
        except (UrlError, FileNotFoundError):
            raise
        except Exception as error:  # the packages behind raise what they will
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UrlError(f"cannot {action} {self}: {reason}") from error


Place = Path | UrlPath


def as_place(place: Place | str) -> Place:
    """Make a place of what a user gives: a URL, but for `file://`, or a path."""
    if isinstance(place, Path | UrlPath):
        return place
    if place.startswith("file://"):
        return Path(unquote(urlsplit(place).path))
    return UrlPath(place) if "://" in place else Path(place)


def do_each(
    place: Place, function: Callable[[Item], Result], items: Iterable[Item], *, threads: int = 1
) -> list[Result]:
    """Call a function that looks at a place with each item; at a URL, 32 at once.

    Args:
        place: A path or a URL.
        function: What is called.
        items: Its arguments, one for each call.
        threads: How many calls run at once if the place is a path.
    """
    if isinstance(place, Path) and threads == 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(threads if isinstance(place, Path) else _AT_ONCE) as pool:
        return list(pool.map(function, items))


@lru_cache
def _connect(url: str) -> tuple[Any, str]:
    try:
        found: tuple[Any, str] = pyarrow.fs.FileSystem.from_uri(url)
    except pa.ArrowInvalid:  # none of pyarrow's own
        import fsspec

        files, path = fsspec.core.url_to_fs(url)
        return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(files)), path
    return found
