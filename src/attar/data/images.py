"""Transfer sets out of folders of images; needs the extra `vision`."""

import errno
import hashlib
import os
import re
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from attar.data.labels import make_labeled_set
from attar.data.transfer_set import TransferSet
from attar.errors import AttarError, DataError, file_error
from attar.files import make_folder

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")

HOST = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())

Decode = Callable[[Path], NDArray[np.uint8]]
Colors = Literal["RGB", "L"]  # Pillow's names: three channels, or one of gray


def read_image_folder(
    folder: Path | str,
    *,
    size: tuple[int, int] | None = None,
    colors: Colors = "RGB",
    class_names: Sequence[str] | None = None,
    unlabeled: bool = False,
    cache: Path | str | None = None,
    workers: int | None = None,
) -> TransferSet:
    """Read a folder that has a folder of images for each class, named like the class.

    Every image is decoded once, here, to bytes `[channels, height, width]`: training reads them as
    fast as any other tensor, and no epoch pays for decoding. They stay in memory, or in a file in
    the folder `cache` that is mapped into memory, and that the next call finds again.

    Images are taken in the order of their class and path, at any depth. Files whose suffix is not
    that of an image are passed over, and so is whatever starts with a dot.

    Args:
        folder: The folder of folders.
        size: Height and width. An image is scaled until it covers them, and its center is cut out;
            without a size, all images must be of one.
        colors: `RGB` for 3 channels, `L` for one of gray.
        class_names: Those of the classes, in order; by default the folders' names, sorted. A class
            may then be without a folder. Give a test set those of its training set.
        unlabeled: Take every image in the folder, at any depth, without a hard target. Requires
            `class_names`.
        cache: The folder to keep decoded images in; by default they are kept in memory.
        workers: How many threads decode; by default one for each processor.

    Raises:
        AttarError: If Pillow is not installed.
        DataError: If an image is damaged, has more than 8 bits a channel, or is of another size
            than the first; if a folder has no images; or if the classes do not fit.
        FolderError: If a folder cannot be read or written.
    """
    folder = Path(folder)
    _import_pillow(folder)
    paths, labels = list_images(folder, class_names, unlabeled=unlabeled)
    decode = partial(_decode, size=size, colors=colors)
    shape = (len(paths), *decode(paths[0]).shape)
    if cache is None:
        images = np.empty(shape, np.uint8)
        _decode_all(images, paths, decode, workers)
    else:
        images = _decode_to_file(Path(cache), shape, paths, decode, workers, f"{size} {colors}")
    return make_labeled_set(
        images, labels, class_names=class_names, classes=None, source=f"the folder {folder}"
    )


def read_images(
    paths: Sequence[Path], *, size: tuple[int, int] | None, colors: Colors
) -> NDArray[np.uint8]:
    """Decode images, all of one size, to bytes `[examples, channels, height, width]`."""
    decode = partial(_decode, size=size, colors=colors)
    images = np.empty((len(paths), *decode(paths[0]).shape), np.uint8)
    _decode_all(images, list(paths), decode, None)
    return images


def list_images(
    folder: Path, class_names: Sequence[str] | None, *, unlabeled: bool = False
) -> tuple[list[Path], Any]:
    """List the images of a folder of folders, and the class of each; null of unlabeled ones."""
    if unlabeled:
        if class_names is None:
            raise DataError(
                f"expected class_names= of the unlabeled images in {folder}, got none; "
                "name the teacher's classes, in order"
            )
        paths = _find_images(folder)
        if not paths:
            raise DataError(f"expected images ({', '.join(SUFFIXES)}) in {folder}, got none")
        return paths, pa.nulls(len(paths), pa.string())
    try:
        classes = sorted(
            each for each in folder.iterdir() if each.is_dir() and not each.name.startswith(".")
        )
    except OSError as error:
        raise file_error("read the folder", folder, error) from error
    if not classes:
        raise DataError(
            f"expected a folder for each class in {folder}, got none; if the images have no class, "
            "give unlabeled=True and class_names="
        )
    known = None if class_names is None else set(class_names)
    paths, labels = [], []
    for each in classes:
        if known is not None and each.name not in known:
            told = ", ".join(map(repr, list(class_names or ())[:5]))
            raise DataError(
                f"expected folders of the classes {told}, got {each.name!r} in {folder}; "
                "is class_names= complete, and spelled alike?"
            )
        found = _find_images(each)
        if not found:
            raise DataError(
                f"expected images ({', '.join(SUFFIXES)}) of the class {each.name!r}, "
                f"got none in {each}; remove it, and name the class in class_names= to keep it"
            )
        paths += found
        labels += [each.name] * len(found)
    return paths, pa.array(labels, pa.string())


def _find_images(folder: Path) -> list[Path]:
    try:
        return sorted(
            path
            for path in folder.rglob("*")
            if path.suffix.lower() in SUFFIXES
            and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        )
    except OSError as error:
        raise file_error("read the folder", folder, error) from error


def _decode(path: Path, *, size: tuple[int, int] | None, colors: Colors) -> NDArray[np.uint8]:
    image_module, image_ops = _import_pillow(path)
    try:
        with image_module.open(path) as image:
            if image.mode.startswith(("I", "F")):
                raise DataError(
                    f"expected 8 bits a channel, got an image of mode {image.mode} in {path}; "
                    "convert it, or make a TransferSet of an array"
                )
            upright = image_ops.exif_transpose(image)
            # By way of RGBA, as a palette may have a transparent color.
            plain = upright.convert("RGBA") if upright.mode == "P" else upright
            plain = plain.convert(colors)
            if size is not None:
                plain = image_ops.fit(plain, size[::-1], method=image_module.Resampling.BILINEAR)
    except (OSError, SyntaxError, ValueError, image_module.DecompressionBombError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"cannot decode {path}: {str(error).splitlines()[0]}; is the file damaged?"
        ) from error
    pixels = np.asarray(plain)  # [height, width] or [height, width, 3]
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _decode_all(
    images: NDArray[np.uint8], paths: list[Path], decode: Decode, workers: int | None
) -> None:
    def fill(index: int) -> None:
        pixels = decode(paths[index])
        if pixels.shape != images.shape[1:]:
            raise DataError(
                f"expected images of one size, got {list(pixels.shape[1:])} in {paths[index]} and "
                f"{list(images.shape[2:])} in {paths[0]}; give size=(height, width)"
            )
        images[index] = pixels

    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        futures = [pool.submit(fill, index) for index in range(len(paths))]
        try:
            for future in futures:
                future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _decode_to_file(
    cache: Path,
    shape: tuple[int, ...],
    paths: list[Path],
    decode: Decode,
    workers: int | None,
    settings: str,
) -> NDArray[np.uint8]:
    """Decode to a `.npy` file named by what it holds, or find it there; answer it mapped."""
    sha256 = hashlib.sha256(f"{shape} {settings}".encode())
    for path in paths:
        status = path.stat()
        sha256.update(repr((str(path.absolute()), status.st_size, status.st_mtime_ns)).encode())
    final = make_folder(cache) / f"images-{sha256.hexdigest()[:16]}.npy"
    if not final.exists():
        _remove_stale(cache)
        partial_path = final.with_name(f".{final.name}.{HOST}.{os.getpid()}.partial")
        try:
            images = np.lib.format.open_memmap(partial_path, "w+", np.uint8, shape)
            _allocate(partial_path)
            _decode_all(images, paths, decode, workers)
            images.flush()
            partial_path.replace(final)
        except OSError as error:
            raise file_error("write", final, error) from error
        finally:
            partial_path.unlink(missing_ok=True)
    return np.lib.format.open_memmap(final, mode="r")


def _allocate(path: Path) -> None:
    """Reserve the blocks of a sparse file: writing to a mapped page on a full disk is a SIGBUS.

    Raises:
        OSError: If the disk is full.
    """
    if not hasattr(os, "posix_fallocate"):  # macOS, Windows
        return
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # of this kind of disk
                raise


def _remove_stale(cache: Path) -> None:
    """Remove partial files of processes of this machine that were killed."""
    if os.name != "posix":
        return
    for path in cache.glob(f".images-*.npy.{HOST}.*.partial"):
        try:
            os.kill(int(path.name.split(".")[-2]), 0)  # signal 0 only asks whether it is there
        except ProcessLookupError:
            path.unlink(missing_ok=True)
        except (OSError, ValueError):
            continue


def _import_pillow(path: Path) -> tuple[Any, Any]:
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise AttarError(
            f"{error.name} is not installed, which is needed to read {path}; "
            "run `pip install 'attar[vision]'`"
        ) from error
    return Image, ImageOps
