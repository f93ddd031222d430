"""Streamed sets out of Parquet files and folders of images; both may be larger than memory."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet
import torch
from numpy.typing import NDArray
from torch import Tensor

from attar.data.columns import convert_table
from attar.data.companions import leave_out
from attar.data.images import Colors, list_images, read_images
from attar.data.labels import find_classes
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
    ignore: str | Sequence[str] = (),
    views: ViewFn | None = None,
    fingerprint: str | None = None,
) -> StreamedSet:
    """Read a Parquet file, or a folder of such, by row groups: a few of them are in memory.

    Args:
        path: The file or folder, or its URL, such as `s3://bucket/folder`. Files are taken in the
            order of their names.
        target: The column of hard targets; None if the set has none.
        class_names: Those of the classes, in order.
        inputs: The columns of inputs, in order; by default all others, in the order of the first
            file.
        padding: The token id that fills shorter lists up; all row groups must be of one length.
        ignore: Columns to leave out, as for `read_table`.
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
    columns: list[str] = []  # of the first file
    for file in files:
        with _open(file) as parquet:
            rows = [
                parquet.metadata.row_group(group).num_rows
                for group in range(parquet.num_row_groups)
            ]
            names = parquet.schema_arrow.names
        if inputs is None:
            columns = columns or names
            if sorted(names) != sorted(columns):
                raise DataError(
                    f"expected the same columns in all files, {columns[:8]}, got {names[:8]} in "
                    f"{file}; give inputs="
                )
        groups += [(file, group) for group, count in enumerate(rows) if count]
        sizes += [count for count in rows if count]
    if not groups:
        raise DataError(f"expected rows in the .parquet files of {url}, got none")
    if inputs is None:  # in one order, whatever order each file has
        ignored = [ignore] if isinstance(ignore, str) else ignore
        inputs = [name for name in leave_out(columns, ignored, url) if name != target]
    names = tuple(class_names)
    load = partial(
        _read_group,
        groups,
        target=target,
        inputs=inputs,
        padding=padding,
        ignore=ignore,
        class_names=names,
    )
    return StreamedSet(
        sizes,
        load,
        class_names=class_names,
        views=views,
        fingerprint=fingerprint,
        load_targets=partial(_read_targets, groups, sizes, target=target, class_names=names),
    )


def stream_images(
    folder: Path | str,
    *,
    size: tuple[int, int] | None = None,
    colors: Colors = "RGB",
    class_names: Sequence[str] | None = None,
    unlabeled: bool = False,
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
    paths, labels = list_images(Path(folder).absolute(), class_names, unlabeled=unlabeled)
    names = tuple(sorted(set(labels.to_pylist())) if class_names is None else class_names)
    parts = -(-len(paths) // part_examples)
    numbers = np.arange(len(paths))
    places = [numbers[first::parts] for first in range(parts)]  # of the examples of each part
    load = partial(_read_images, paths, labels, places, size, colors, names)
    return StreamedSet(
        [len(each) for each in places],
        load,
        class_names=names,
        views=views,
        fingerprint=fingerprint,
        load_targets=partial(_find_targets, labels, places, names),
    )


def _read_images(
    paths: Sequence[Path],
    labels: Any,  # noqa: ANN401
    places: Sequence[NDArray[np.int64]],
    size: tuple[int, int] | None,
    colors: Colors,
    class_names: tuple[str, ...],
    number: int,
) -> TransferSet:
    images = read_images([paths[place] for place in places[number]], size=size, colors=colors)
    targets = _find_targets(labels, places, class_names, number)
    return TransferSet(images, targets, class_names=class_names)


def _find_targets(
    labels: Any,  # noqa: ANN401
    places: Sequence[NDArray[np.int64]],
    class_names: tuple[str, ...],
    number: int,
) -> Tensor:
    here = labels.take(pa.array(places[number]))
    return torch.tensor(find_classes(here, class_names, f"part {number}")[0])


def _read_group(
    groups: Sequence[tuple[str, int]],
    number: int,
    *,
    target: str | None,
    inputs: str | Sequence[str] | None,
    padding: int | None,
    ignore: str | Sequence[str],
    class_names: tuple[str, ...],
) -> TransferSet:
    file, group = groups[number]
    return convert_table(
        _read_columns(file, group, None),
        inputs=inputs,
        target=target,
        class_names=class_names,
        classes=None,
        padding=padding,
        ignore=ignore,
        source=f"row group {group} of {file}",
    )


def _read_targets(
    groups: Sequence[tuple[str, int]],
    sizes: Sequence[int],
    number: int,
    *,
    target: str | None,
    class_names: tuple[str, ...],
) -> Tensor:
    if target is None:
        return torch.full((sizes[number],), -1)
    file, group = groups[number]
    source = f"row group {group} of {file}"
    table = _read_columns(file, group, [target])
    if target not in table.column_names:
        raise DataError(f"expected a column {target!r} of hard targets in {source}; give target=")
    found = find_classes(
        table[target].combine_chunks(), class_names, f"column {target!r} of {source}"
    )
    return torch.tensor(found[0])


def _read_columns(file: str, group: int, columns: list[str] | None) -> Any:  # noqa: ANN401
    try:
        with _open(file) as parquet:
            return parquet.read_row_group(group, columns=columns)
    except pa.ArrowException as error:
        raise DataError(f"{file} is damaged, in row group {group}: {error}") from error
    except OSError as error:
        raise file_error("read", file, error) from error


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
