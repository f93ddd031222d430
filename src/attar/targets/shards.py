"""One shard: columns in an Arrow file, of one record batch, uncompressed."""

import os
from pathlib import Path

import pyarrow as pa

from attar.errors import StoreError, file_error
from attar.files import make_folder, sha256, write_atomically
from attar.targets.encoding import Columns, Encoding, layout
from attar.targets.manifest import ShardEntry
from attar.urls import Place, UrlPath

ADVICE = "take a copy of the shard, or label again into another folder"


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


def map_shard(path: Place, entry: ShardEntry, encoding: Encoding, classes: int) -> Columns:
    """Map a shard into memory, and return its columns without reading or copying them.

    Raises:
        StoreError: If it is missing, truncated, or not laid out as the manifest says.
    """
    file = _bring(path, entry) if isinstance(path, UrlPath) else path
    check_size(file, entry)
    try:
        batch = pa.ipc.open_file(pa.memory_map(str(file))).get_batch(0)
        columns = {}
        for name, (kind, width) in layout(encoding, classes).items():
            column = batch.column(name)
            flat = column.flatten().to_numpy(zero_copy_only=True)
            if column.type.list_size != width or flat.dtype != kind:
                raise StoreError(
                    f"{path} is damaged: expected {name} of {width} {kind}, got {column.type}; "
                    f"{ADVICE}"
                )
            columns[name] = flat.reshape(entry.rows, width)
    except StoreError:
        raise
    except (pa.ArrowException, OSError, KeyError, IndexError, ValueError, AttributeError) as error:
        raise StoreError(f"{path} is damaged: {error}; {ADVICE}") from error
    return columns


def _bring(path: UrlPath, entry: ShardEntry) -> Path:
    """Return the copy of a shard that this machine keeps; it is checked when it is made."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    copy = caches / "attar" / "soft-targets" / f"{entry.sha256}.arrow"
    if not copy.exists():
        write_atomically(make_folder(copy.parent) / copy.name, read_checked(path, entry))
    return copy


def check_size(path: Place, entry: ShardEntry) -> None:
    """Raise `StoreError` if the shard is missing or does not have its size."""
    try:
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise StoreError(f"{path} is missing, {entry.shard}; {ADVICE}") from error
    except OSError as error:
        raise file_error("read", path, error) from error
    if size != entry.bytes:
        found = f"expected {entry.bytes} bytes, got {size}"
        raise StoreError(f"{path} is truncated or damaged: {found}; {ADVICE}")


def read_checked(path: Place, entry: ShardEntry) -> bytes:
    """Read a shard; raise `StoreError` unless it has the checksum that it was written with."""
    check_size(path, entry)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise file_error("read", path, error) from error
    found = sha256(content)
    if found != entry.sha256:
        expected = f"expected SHA-256 {entry.sha256[:12]}…, got {found[:12]}…"
        raise StoreError(f"{path} is damaged: {expected}; {ADVICE}")
    return content
