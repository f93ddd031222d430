"""A shard: an uncompressed Arrow file with one record batch."""

import os
from pathlib import Path

import pyarrow as pa

from attar.errors import StoreError, file_error
from attar.files import make_folder, sha256, write_atomically
from attar.targets.encoding import Columns, Encoding, layout
from attar.targets.manifest import ShardEntry
from attar.urls import Place, UrlPath


def to_arrow(columns: Columns) -> bytes:
    """Return the bytes of an Arrow IPC file; the same columns give the same bytes."""
    arrays = {
        name: pa.FixedSizeListArray.from_arrays(pa.array(column.reshape(-1)), column.shape[1])
        for name, column in columns.items()
    }
    batch = pa.record_batch(list(arrays.values()), names=list(arrays))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def map_shard(
    path: Place, entry: ShardEntry, encoding: Encoding, classes: int, *, check: bool = True
) -> Columns:
    """Map a shard into memory, and return its columns without copying them.

    The map keeps no file open. For a shard at a URL, the local copy is mapped; a missing or damaged
    copy is downloaded first.

    Args:
        path: The shard.
        entry: Its entry in the manifest.
        encoding: The store's encoding.
        classes: The store's number of classes.
        check: Compare the mapped bytes with the checksum, which reads all of them once.

    Raises:
        StoreError: If the shard is missing, damaged, or does not match the manifest.
    """
    if isinstance(path, UrlPath):
        content = _map_copy(path, entry, check=check)
    else:
        content = _map_file(path, entry, check=check)
    try:
        batch = pa.ipc.open_file(content).get_batch(0)
        batch.validate()
        columns = {}
        for name, (kind, width) in layout(encoding, classes).items():
            column = batch.column(name)
            flat = column.flatten().to_numpy(zero_copy_only=True)
            if column.type.list_size != width or flat.dtype != kind:
                raise ValueError(f"expected {name} of {width} {kind}, got {column.type}")
            columns[name] = flat.reshape(entry.rows, width)
    except (
        pa.ArrowException,
        OSError,
        KeyError,
        IndexError,
        ValueError,
        AttributeError,
        OverflowError,
    ) as error:
        raise StoreError(f"{path} is damaged: {error}; {_advice(path)}") from error
    return columns


def check_size(path: Place, entry: ShardEntry) -> None:
    """Raise `StoreError` if the shard is missing or has another size."""
    _raise_if(_size_fault(path, entry), path, entry)


def find_fault(path: Place, entry: ShardEntry, *, check: bool = True) -> str | None:
    """Return a description of what is wrong with a shard; None if nothing is.

    Args:
        path: The shard.
        entry: Its entry in the manifest.
        check: Compare the checksum, not only the size. Not done at a URL, because this would
            download the shard.
    """
    fault = _size_fault(path, entry)
    if fault is None and check and isinstance(path, Path):
        return _sum_fault(memoryview(_map_bytes(path)), entry)
    return fault


def read_checked(path: Place, entry: ShardEntry) -> bytes:
    """Read a shard; raise `StoreError` unless it matches its checksum."""
    check_size(path, entry)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise file_error("read", path, error) from error
    _raise_if(_sum_fault(content, entry), path, entry)
    return content


def refresh_copy(path: UrlPath, entry: ShardEntry) -> None:
    """Compare a shard at a URL with its checksum; replace the local copy if it is damaged.

    Raises:
        StoreError: If the shard at the URL is missing or damaged.
    """
    content, copy = read_checked(path, entry), _copy_path(entry)
    if find_fault(copy, entry) is not None:
        write_atomically(make_folder(copy.parent) / copy.name, content)


def _map_file(path: Path, entry: ShardEntry, *, check: bool) -> pa.Buffer:
    check_size(path, entry)
    content = _map_bytes(path)
    if check:
        _raise_if(_sum_fault(memoryview(content), entry), path, entry)
    return content


def _map_copy(path: UrlPath, entry: ShardEntry, *, check: bool) -> pa.Buffer:
    """Map the local copy of a shard at a URL; download it first if it is missing or damaged."""
    copy = _copy_path(entry)
    try:
        return _map_file(copy, entry, check=check)
    except StoreError:
        write_atomically(make_folder(copy.parent) / copy.name, read_checked(path, entry))
        return _map_file(copy, entry, check=check)


def _copy_path(entry: ShardEntry) -> Path:
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return caches / "attar" / "soft-targets" / f"{entry.sha256}.arrow"


def _map_bytes(path: Path) -> pa.Buffer:
    try:
        with pa.memory_map(str(path)) as file:  # the map stays valid after closing the file
            return file.read_buffer()
    except OSError as error:
        raise file_error("read", path, error) from error


def _size_fault(path: Place, entry: ShardEntry) -> str | None:
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        raise file_error("read", path, error) from error
    if size != entry.bytes:
        return f"is truncated or damaged: expected {entry.bytes} bytes, got {size}"
    return None


def _sum_fault(content: bytes | memoryview, entry: ShardEntry) -> str | None:
    got = sha256(content)
    if got != entry.sha256:
        return f"is damaged: expected SHA-256 {entry.sha256[:12]}…, got {got[:12]}…"
    return None


def _raise_if(fault: str | None, path: Place, entry: ShardEntry) -> None:
    if fault is not None:
        raise StoreError(f"{path} {fault} ({entry.shard.content}); {_advice(path)}")


def _advice(path: Place) -> str:
    if isinstance(path, UrlPath):
        return "remove it and label again (only missing shards are labeled), or restore a copy"
    return "label again (only missing and damaged shards are labeled), or restore a copy"
