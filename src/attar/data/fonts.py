"""Faces of fonts: which characters they have, what these look like; needs the extra `vision`."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attar.errors import DataError, FolderError, MissingExtraError, file_error

SUFFIXES = (".otc", ".otf", ".ttc", ".ttf")
SHARED = 3  # an image that so many characters of a face have is a placeholder
_UNMAPPED = "\uffff"  # never a character: every font answers with its placeholder
_LEAST_INK = 2.0  # pixels of full ink; less is a blank glyph
_MARGIN = 1  # pixels around a face's characters
_MEASURED_AT = 128  # pixels of an em, to find out how large a face draws


@dataclass(frozen=True, slots=True)
class Face:
    """One face of a font file, such as its bold one."""

    path: Path
    index: int  # in a collection, else 0
    name: str
    code_points: frozenset[int]

    @property
    def font(self) -> str:
        """What it belongs to: files whose names agree up to a hyphen are one font."""
        return self.path.stem.split("-")[0].lower()


def find_faces(folder: Path) -> tuple[list[Face], list[Path]]:
    """Open every font in a folder, at any depth.

    Returns:
        The faces in the order of their paths, and the files that are no readable font.

    Raises:
        FolderError: If the folder cannot be read.
        DataError: If it has no font, or none that can be read.
        MissingExtraError: If Pillow or fontTools is not installed.
    """
    _imports()
    if not folder.is_dir():
        raise FolderError(f"expected a folder of fonts, got {folder}")
    try:
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    except OSError as error:
        raise file_error("read the folder", folder, error) from error
    if not paths:
        raise DataError(
            f"expected fonts ({', '.join(SUFFIXES)}) in {folder}, got none; install some, "
            "or name the folder that they lie in, such as /usr/share/fonts"
        )
    faces: list[Face] = []
    unreadable = []
    for path in paths:
        try:
            faces += _open_faces(path)
        except Exception:  # whatever fontTools meets in a damaged file
            unreadable.append(path)
    if not faces:
        raise DataError(f"expected a readable font in {folder}, got {len(unreadable)} damaged ones")
    return faces, unreadable


class Pen:
    """Draws the characters of a face, all at one size and place, so that most fill the image."""

    def __init__(self, face: Face, side: int, sample: Sequence[int]) -> None:
        """Measure the face.

        Args:
            face: Whose characters are drawn.
            side: Height and width of the images in pixels.
            sample: Code points from which size and place are found; the face may lack some.

        Raises:
            DataError: If Pillow cannot use the face.
        """
        _, self._image, self._draw, fonts = _imports()
        self.face, self.side = face, side

        def load(size: int) -> Any:  # noqa: ANN401 (Pillow's)
            try:
                font = fonts.truetype(
                    str(face.path), size, face.index, layout_engine=fonts.Layout.BASIC
                )
            except (OSError, ValueError) as error:
                raise DataError(f"cannot use {face.path}: {error}; remove it") from error
            return font

        measured = load(_MEASURED_AT)
        boxes = np.array(
            [
                measured.getbbox(chr(point), anchor="ms")
                for point in sample
                if point in face.code_points
            ]
            or [(0, -_MEASURED_AT, _MEASURED_AT, 0)],
            dtype=float,
        )  # [sample, 4]: left, top, right, bottom; from the middle of the baseline
        top, bottom = np.quantile(boxes[:, 1], 0.02), np.quantile(boxes[:, 3], 0.98)
        widest = 2 * np.quantile(np.abs(boxes[:, [0, 2]]), 0.98)
        scale = (side - 2 * _MARGIN) / max(bottom - top, widest, 1.0)
        size = max(4, round(_MEASURED_AT * scale))
        middle = (top + bottom) / 2 * size / _MEASURED_AT
        self._font, self._at = load(size), (side / 2, side / 2 - middle)
        self._placeholder = self.draw(_UNMAPPED)

    def draw(self, character: str) -> NDArray[np.uint8]:
        """Draw one character, `[side, side]`, 0 for paper and 255 for ink."""
        image = self._image.new("L", (self.side, self.side))
        self._draw.Draw(image).text(self._at, character, 255, self._font, "ms")
        return np.asarray(image)

    def is_drawn(self, image: NDArray[np.uint8]) -> bool:
        """Tell whether an image is neither blank nor the face's placeholder."""
        is_blank = bool(image.sum() < 255 * _LEAST_INK)
        return not is_blank and not np.array_equal(image, self._placeholder)


def find_drawn(pen: Pen, code_points: Sequence[int]) -> NDArray[np.bool_]:
    """Tell which characters a face really draws: not blank, no placeholder, `[code points]`.

    A placeholder is what the face answers for a character it lacks, or one image for three
    characters or more.
    """
    hashes, drawn = np.zeros(len(code_points), np.int64), np.zeros(len(code_points), bool)
    for place, point in enumerate(code_points):
        if point in pen.face.code_points:
            image = pen.draw(chr(point))
            drawn[place], hashes[place] = pen.is_drawn(image), hash(image.tobytes())
    _, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    return drawn & (counts[inverse] < SHARED)


def _open_faces(path: Path) -> list[Face]:
    fonts, *_ = _imports()
    faces = []
    with path.open("rb") as file:  # opened here, as fontTools leaves a damaged file open
        is_collection = file.read(4) == b"ttcf"
        file.seek(0)
        opened = (fonts.TTCollection if is_collection else fonts.TTFont)(file, lazy=True)
        for index, font in enumerate(opened.fonts if is_collection else [opened]):
            name = font["name"].getDebugName(4) or path.stem
            faces.append(Face(path, index, str(name), frozenset(font.getBestCmap() or ())))
    return faces


@cache
def _imports() -> tuple[Any, Any, Any, Any]:
    try:
        from fontTools import ttLib
        from PIL import Image, ImageDraw, ImageFont
    except ImportError as error:
        raise MissingExtraError(
            f"{error.name} is not installed, which is needed to draw glyphs; "
            "run `pip install 'attar[vision]'`"
        ) from error
    return ttLib, Image, ImageDraw, ImageFont
