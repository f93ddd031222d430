"""Sets of glyphs: characters as drawn by many fonts; thousands of classes in a few megabytes.

A folder of glyphs has `train.npz`, `val.npz`, perhaps further splits, and `meta.npz`. No font
is in two splits. Arrays of a split:

- `images`, uint8 `[examples, side * side / 2]`: 4-bit gray, row by row, two pixels a byte with
  the left one in the high nibble; 0 is paper, 15 is ink.
- `label`, integers `[examples]`: the class.
- `face`, integers `[examples]`: which design of the character this is, a face of a font.

Arrays of `meta.npz`: `classes`, the code point of each class; `face_name`, texts.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor

from attar.data.npz import read_npz
from attar.data.transfer_set import TransferSet
from attar.errors import DataError, FolderError

META = "meta.npz"
_GRAYS = 17  # times 15, the largest of 4 bits, makes 255


@dataclass(frozen=True, slots=True)
class Glyphs:
    """One split: the examples, and the face that drew each."""

    examples: TransferSet  # images [side, side], stored as bytes
    faces: Int64[Tensor, " examples"]
    face_names: tuple[str, ...]  # of all splits' faces; none if there is no `meta.npz`


def read_glyphs(path: Path | str, *, meta: Path | str | None = None) -> Glyphs:
    """Read one split of glyphs, a `.npz` file.

    Args:
        path: The file.
        meta: The file that names classes and faces; by default the `meta.npz` beside it. Without
            one, classes are called by their numbers.

    Returns:
        The glyphs. Images are `[side, side]`, answered in [0, 1], 0 being paper; classes are named
        by their characters.

    Raises:
        FolderError: If a file cannot be read.
        DataError: If one is damaged, lacks an array, or the arrays do not fit each other.
    """
    path = Path(path)
    names, arrays = read_npz(path, ["images", "label", "face"])
    for name in ("images", "label", "face"):
        if name not in arrays:
            raise DataError(
                f"expected arrays 'images', 'label' and 'face' of glyphs in {path}, "
                f"got {', '.join(map(repr, names)) or 'none'}"
            )
    images = unpack_images(arrays["images"], path)
    labels = _to_integers(arrays["label"], "label", len(images), path)
    faces = _to_integers(arrays["face"], "face", len(images), path)
    characters, face_names = _read_meta(path, meta)
    examples = TransferSet(images, labels, class_names=characters)
    return Glyphs(examples, torch.from_numpy(faces), face_names)


def read_glyph_folder(folder: Path | str) -> dict[str, Glyphs]:
    """Read every split of a folder of glyphs, by its name: `train`, `val` and so on.

    Raises:
        FolderError: If there is no `train.npz`, or a file cannot be read.
        DataError: As `read_glyphs`.
    """
    folder = Path(folder)
    if not (folder / "train.npz").is_file():
        raise FolderError(
            f"expected a folder of glyphs with train.npz, got {folder}; "
            "`attar data glyphs` draws one from the fonts that you have"
        )
    paths = sorted(path for path in folder.glob("*.npz") if path.name != META)
    return {path.stem: read_glyphs(path) for path in paths}


def unpack_images(packed: NDArray[Any], path: Path) -> NDArray[np.uint8]:
    """Turn two pixels a byte `[examples, bytes]` into bytes `[examples, side, side]`, 0 to 255."""
    pixels = 2 * packed.shape[1] if packed.ndim == 2 else 0
    side = math.isqrt(pixels)
    if packed.dtype != np.uint8 or not len(packed) or not side or side**2 != pixels or side % 2:
        raise DataError(
            "expected images [examples, side * side / 2] of uint8, two pixels a byte, "
            f"got {packed.dtype} {list(packed.shape)} in {path}"
        )
    images = np.empty((*packed.shape, 2), np.uint8)
    np.right_shift(packed, 4, out=images[..., 0])
    np.bitwise_and(packed, 15, out=images[..., 1])
    images *= _GRAYS
    return images.reshape(-1, side, side)


def pack_images(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turn bytes `[examples, side, side]` into two pixels of 4 bits a byte, each rounded."""
    flat = (images.reshape(len(images), -1).astype(np.uint16) + _GRAYS // 2) // _GRAYS
    packed: NDArray[np.uint8] = (flat[:, 0::2] << 4 | flat[:, 1::2]).astype(np.uint8)
    return packed


def read_characters(meta: Path | str) -> tuple[str, ...]:
    """Read the character of each class from a `meta.npz`; errors are those of `read_glyphs`."""
    characters, _ = _read_meta(Path(meta), meta)
    return characters or ()


def _read_meta(
    path: Path, meta: Path | str | None
) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """Return the characters and the names of the faces, as far as something names them."""
    file = path.with_name(META) if meta is None else Path(meta)
    if meta is None and not file.exists():
        return None, ()
    _, arrays = read_npz(file, ["classes", "face_name"])
    points = arrays.get("classes")
    if points is None or points.ndim != 1 or points.dtype.kind not in "iu" or not len(points):
        raise DataError(f"expected an array 'classes' of code points in {file}, got none")
    if int(points.min()) < 0 or int(points.max()) > 0x10FFFF:
        wrong = int(points.max() if points.min() >= 0 else points.min())
        raise DataError(f"expected code points in 0..1114111 as 'classes' of {file}, got {wrong}")
    faces = arrays.get("face_name", np.array([], str))
    return tuple(chr(point) for point in points), tuple(str(name) for name in faces)


def _to_integers(values: NDArray[Any], name: str, examples: int, path: Path) -> NDArray[np.int64]:
    if values.dtype.kind not in "iu" or values.shape != (examples,):
        raise DataError(
            f"expected integers [{examples}], one for each image, as {name!r} of {path}, "
            f"got {values.dtype} {list(values.shape)}"
        )
    return values.astype(np.int64)
