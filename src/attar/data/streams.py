"""Streamed sets out of Parquet files and folders of images; both may be larger than memory."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet

from attar.data.columns import convert_table
from attar.data.images import Colors, list_images, read_images
from attar.data.labels import make_labeled_set
from attar.data.streamed_set import StreamedSet
from attar.data.transfer_set import TransferSet, ViewFn
from attar.errors import DataError, file_error


def stream_table(
    path: Path | str,
    *,
    target: str | None,
    class_names: Sequence[str],
    inputs: str | Sequence[str] | None = None,
    padding: int | None = None,
    views: ViewFn | None = None,
    fingerprint: str | None = None,
) -> StreamedSet:
    """Read a Parquet file, or a folder of such, by row groups: a few of them are in memory.

    Args:
        path: The file or folder, or its URL, such as `s3://bucket/folder`. Files are taken in the
            order of their names.
        target: The column of hard targets; None if the set has none.
        class_names: Those of the classes, in order.
        inputs: The columns of inputs, in order; by default all others.
        padding: The token id that fills shorter lists up; all row groups must be of one length.
        views: Makes view 1 and above.
        fingerprint: What stands for the content; without it, all of it is read here first. On a
            cluster give it, so that the workers alone read.

    Raises:
        FolderError: If a file cannot be read.
        DataError: If there is none, or one is damaged or does not fit.
    """
    url = str(path) if "://" in str(path) else str(Path(path).absolute())
    files = _list_files(url, ".parquet")
    groups, sizes = [], []
    for file in files:
        with _open(file) as parquet:
            rows = [
                parquet.metadata.row_group(group).num_rows
                for group in range(parquet.num_row_groups)
            ]
        groups += [(file, group) for group, count in enumerate(rows) if count]
        sizes += [count for count in rows if count]
    if not groups:
        raise DataError(f"expected rows in the .parquet files of {url}, got none")
    load = partial(
        _read_group, groups, target=target, inputs=inputs, padding=padding,
        class_names=tuple(class_names),
    )  # fmt: skip
    return StreamedSet(sizes, load, class_names=class_names, views=views, fingerprint=fingerprint)


def stream_images(
    folder: Path | str,
    *,
    size: tuple[int, int] | None = None,
    colors: Colors = "RGB",
    class_names: Sequence[str] | None = None,
    part_examples: int = 2048,
    views: ViewFn | None = None,
    fingerprint: str | None = None,
) -> StreamedSet:
    """Read a folder that has a folder of images for each class; images are decoded when needed.

    The arguments are those of `read_image_folder`. Examples are numbered class by class; parts take
    every n-th of them, so that each has images of all classes. `fingerprint` is as for
    `stream_table`.

    Raises:
        AttarError: If Pillow is not installed.
        DataError: If the images or classes do not fit.
    """
    paths, labels = list_images(Path(folder).absolute(), class_names)
    names = tuple(class_names or sorted(set(labels.to_pylist())))
    parts = -(-len(paths) // part_examples)
    order = np.concatenate([np.arange(len(paths))[first::parts] for first in range(parts)])
    sizes = [len(range(first, len(paths), parts)) for first in range(parts)]
    starts = np.cumsum([0, *sizes])
    load = partial(_read_images, paths, labels, order, starts, size, colors, names)
    return StreamedSet(sizes, load, class_names=names, views=views, fingerprint=fingerprint)


def _read_images(
    paths: Sequence[Path],
    labels: Any,  # noqa: ANN401
    order: Any,  # noqa: ANN401
    starts: Any,  # noqa: ANN401
    size: tuple[int, int] | None,
    colors: Colors,
    class_names: tuple[str, ...],
    number: int,
) -> TransferSet:
    chosen = order[starts[number] : starts[number + 1]]
    images = read_images([paths[place] for place in chosen], size=size, colors=colors)
    return make_labeled_set(
        images, labels.take(pa.array(chosen)), class_names=class_names, classes=None,
        source=f"part {number}",
    )  # fmt: skip


def _read_group(
    groups: Sequence[tuple[str, int]],
    number: int,
    *,
    target: str | None,
    inputs: str | Sequence[str] | None,
    padding: int | None,
    class_names: tuple[str, ...],
) -> TransferSet:
    file, group = groups[number]
    with _open(file) as parquet:
        table = parquet.read_row_group(group)
    return convert_table(
        table, inputs=inputs, target=target, class_names=class_names, classes=None,
        padding=padding, source=f"row group {group} of {file}",
    )  # fmt: skip


def _list_files(url: str, suffix: str) -> list[str]:
    try:
        files, path = pyarrow.fs.FileSystem.from_uri(url)
        scheme = url.partition("://")[0] + "://" if "://" in url else ""
        if files.get_file_info(path).type == pyarrow.fs.FileType.File:
            return [url]
        found = files.get_file_info(pyarrow.fs.FileSelector(path, recursive=True))
    except (OSError, pa.ArrowException) as error:
        reason = error if isinstance(error, OSError) else OSError(str(error))
        raise file_error("read", url, reason) from error
    names = sorted(each.path for each in found if each.path.endswith(suffix))
    if not names:
        raise DataError(f"expected {suffix} files in {url}, got none")
    return [scheme + name for name in names]


def _open(url: str) -> Any:  # noqa: ANN401
    try:
        files, path = pyarrow.fs.FileSystem.from_uri(url)
        return pyarrow.parquet.ParquetFile(path, filesystem=files)
    except OSError as error:
        raise file_error("read", url, error) from error
    except pa.ArrowException as error:
        raise DataError(f"{url} is damaged, or no Parquet file: {error}") from error
