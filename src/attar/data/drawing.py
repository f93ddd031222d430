"""Makes a set of glyphs out of the fonts that a user has: thousands of classes, drawn in a minute.

Each face is gone through twice, so that no more images than one face's are ever in memory: first to
see which characters it really draws, then to draw those that were chosen, straight into the files.
"""

import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attar.data.counter import draw_bits, mix_seed
from attar.data.fonts import Face, Pen, find_drawn, find_faces
from attar.data.glyphs import META, pack_images
from attar.errors import AttarError, DataError, FolderError, check_positive, file_error
from attar.files import make_folder
from attar.progress import reporting

SPLITS = ("train", "val", "test")
CJK = (0x4E00, 0x9FFF)  # the block of CJK unified ideographs
_SAMPLE = 64  # characters on which faces are measured and compared
_COMPARED = 8  # faces that share fewer of them are not compared
_ALIKE = 0.05  # mean difference, as a fraction of the ink, below which two faces are one
_ORDER, _FONTS = 0, 1  # two streams of seeds


@dataclass(frozen=True, slots=True)
class DrawingProgress:
    """How far the drawing of a set is."""

    what: str  # "looking" or "drawing"
    face: str
    fraction: float

    def __str__(self) -> str:
        return f"{self.what} · {self.face}"


@dataclass(frozen=True, slots=True)
class DrawnSet:
    """What was drawn."""

    folder: Path
    classes: int
    examples: dict[str, int]  # by split
    faces: dict[str, int]  # by split
    merged: tuple[str, ...]  # faces left out because another looks the same
    unreadable: tuple[Path, ...]  # files that are no font


@dataclass(frozen=True, slots=True)
class _Plan:
    faces: list[Face]
    pens: list[Pen]
    splits: list[str]  # of each face
    code_points: list[int]  # of each class
    chosen: NDArray[np.bool_]  # [faces, classes]


def draw_glyphs(
    fonts: Path | str,
    folder: Path | str,
    *,
    classes: int,
    characters: tuple[int, int] = CJK,
    designs: int = 16,
    held_out_fonts: int = 1,
    side: int = 32,
    seed: int = 0,
    progress: Callable[[DrawingProgress], None] | None = None,
) -> DrawnSet:
    """Draw the characters of many fonts into `train.npz`, `val.npz`, `test.npz` and `meta.npz`.

    Classes are the characters that the most faces draw. Blank glyphs and placeholders are left
    out, and so is a face that looks like one before it. No font is in two splits: files whose names
    agree up to the first hyphen are one font.

    Args:
        fonts: A folder that has fonts at any depth.
        folder: The new set's; it must not be there, or be empty.
        classes: How many characters.
        characters: First and last code point to choose them from.
        designs: At most so many training examples of a class, each of another face.
        held_out_fonts: Fonts for `val` and as many others for `test`, chosen by lot among
            those that draw at least as many of the characters as half of the fonts do; 0 for none.
        side: Height and width of the images in pixels, even.
        seed: Of the lots.
        progress: Called before each face; `attar.ProgressBar()` shows how far it is.

    Returns:
        What was drawn.

    Raises:
        FolderError: If a folder cannot be read or written, or the new one holds files.
        DataError: If there are no fonts, or they lack the characters.
        AttarError: If an argument is out of range.
        MissingExtraError: If Pillow or fontTools is not installed.
    """
    check_positive(classes=classes, designs=designs, side=side)
    if side % 2 or side < 8:
        raise AttarError(f"expected an even side of at least 8 pixels, got {side}")
    fonts, folder = Path(fonts), Path(folder)
    faces, unreadable = find_faces(fonts)
    points = _wanted(faces, characters, fonts)
    if make_folder(folder) and any(folder.iterdir()):
        raise FolderError(f"{folder} contains other files; choose another folder with --out")
    sample = points[:: max(1, len(points) // _SAMPLE)][:_SAMPLE]
    with reporting(progress) as report:
        kept, pens, merged = _merge_alike(faces, sample, side)
        drawn = np.zeros((len(kept), len(points)), bool)
        for place, pen in enumerate(pens):
            report(DrawingProgress("looking", pen.face.name, place / len(kept) / 2))
            drawn[place] = find_drawn(pen, points)
        splits = _split(kept, drawn, held_out_fonts, seed)
        plan = _choose(kept, pens, splits, points, drawn, classes, designs, seed)
        examples = _write(plan, folder, report)
        _write_meta(plan, folder, fonts)
    return DrawnSet(
        folder=folder,
        classes=len(plan.code_points),
        examples=examples,
        faces={split: plan.splits.count(split) for split in SPLITS},
        merged=tuple(face.name for face in merged),
        unreadable=tuple(unreadable),
    )


def _wanted(faces: Sequence[Face], characters: tuple[int, int], fonts: Path) -> list[int]:
    """List the code points in question that any face claims to have."""
    first, last = characters
    points = sorted(
        {point for face in faces for point in face.code_points if first <= point <= last}
    )
    if not points:
        raise DataError(
            f"expected characters U+{first:04X}-{last:04X} in the fonts of {fonts}, got none in "
            f"{len(faces)} faces; give other --characters, or install fonts that have them"
        )
    return points


def _merge_alike(
    faces: Sequence[Face], sample: Sequence[int], side: int
) -> tuple[list[Face], list[Pen], list[Face]]:
    """Leave out faces that lack the whole sample, or look on it like one before."""
    kept: list[tuple[Face, Pen, NDArray[np.float32], NDArray[np.bool_]]] = []
    merged = []
    for face in faces:
        if face.code_points.isdisjoint(sample):
            continue
        pen = Pen(face, side, sample)
        drawn = find_drawn(pen, sample)
        images = np.stack([pen.draw(chr(point)) for point in sample]).astype(np.float32)
        if any(_look_alike(images, drawn, *other[2:]) for other in kept):
            merged.append(face)
        else:
            kept.append((face, pen, images, drawn))
    return [each[0] for each in kept], [each[1] for each in kept], merged


def _look_alike(
    images: NDArray[np.float32],
    drawn: NDArray[np.bool_],
    others: NDArray[np.float32],
    others_drawn: NDArray[np.bool_],
) -> bool:
    both = drawn & others_drawn
    if both.sum() < min(_COMPARED, len(both)):
        return False
    difference = np.abs(images[both] - others[both]).mean()
    return bool(difference < _ALIKE * images[both].mean())


def _split(faces: list[Face], drawn: NDArray[np.bool_], held_out: int, seed: int) -> list[str]:
    """Say for each face which split its font is in."""
    fonts = sorted({face.font for face in faces})
    if held_out and len(fonts) < 2 * held_out + 1:
        raise DataError(
            f"expected {2 * held_out + 1} fonts or more, to hold {held_out} out for val and "
            f"{held_out} for test, got {len(fonts)}; hold fewer out, or install more fonts"
        )
    covers = [int(drawn[[face.font == font for face in faces]].any(axis=0).sum()) for font in fonts]
    good = [font for font, count in zip(fonts, covers, strict=True) if count >= np.median(covers)]
    order = torch.randperm(
        len(good), generator=torch.Generator().manual_seed(mix_seed(seed, _FONTS))
    ).tolist()
    lots = [good[place] for place in order]
    val, test = lots[:held_out], lots[held_out : 2 * held_out]
    return [
        "val" if face.font in val else "test" if face.font in test else "train" for face in faces
    ]


def _choose(
    faces: list[Face],
    pens: list[Pen],
    splits: list[str],
    points: list[int],
    drawn: NDArray[np.bool_],
    classes: int,
    designs: int,
    seed: int,
) -> _Plan:
    """Choose the classes, and which training faces draw each of them."""
    trains = np.array([split == "train" for split in splits])
    counts = drawn[trains].sum(axis=0)  # [points]
    drawable = int((counts > 0).sum())
    if drawable < classes:
        raise DataError(
            f"expected {classes} characters that the fonts draw, got {drawable}, blank glyphs and "
            "placeholders left out; give fewer --classes, other --characters, or more fonts"
        )
    best = np.sort(np.argsort(-counts, kind="stable")[:classes])
    chosen = drawn[:, best]  # [faces, classes]
    # Of the training faces that draw a class, those with the lowest lots.
    lots = draw_bits(mix_seed(seed, _ORDER), 0, torch.from_numpy(best), draws=len(faces)).numpy().T
    lots = np.where(chosen & trains[:, None], lots, np.iinfo(np.int64).max)
    ranks = lots.argsort(axis=0, kind="stable").argsort(axis=0)
    chosen &= ~trains[:, None] | (ranks < designs)
    return _Plan(faces, pens, splits, [points[place] for place in best], chosen)


def _write(plan: _Plan, folder: Path, report: Callable[[DrawingProgress], None]) -> dict[str, int]:
    examples = {}
    done = 0
    for split in SPLITS:
        places = [place for place, each in enumerate(plan.splits) if each == split]
        count = int(plan.chosen[places].sum())
        if not count:
            continue
        examples[split] = count
        faces, labels = np.nonzero(plan.chosen[places])
        side = plan.pens[0].side
        path = folder / f"{split}.npz"
        partial = path.with_name(f".{path.name}.partial")
        try:
            with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
                with archive.open("images.npy", "w", force_zip64=True) as file:
                    file.write(_header((count, side * side // 2)))
                    for place in places:
                        report(
                            DrawingProgress(
                                "drawing", plan.faces[place].name, 0.5 + done / len(plan.faces) / 2
                            )
                        )
                        done += 1
                        file.write(_draw_face(plan, place))
                _write_array(archive, "label", labels.astype(np.uint32))
                _write_array(archive, "face", np.array(places, np.uint32)[faces])
            partial.replace(path)
        except OSError as error:
            raise file_error("write", path, error) from error
        finally:
            partial.unlink(missing_ok=True)
    return examples


def _draw_face(plan: _Plan, place: int) -> bytes:
    pen = plan.pens[place]
    images = [pen.draw(chr(plan.code_points[at])) for at in np.flatnonzero(plan.chosen[place])]
    return pack_images(np.stack(images)).tobytes() if images else b""


def _header(shape: tuple[int, ...]) -> bytes:
    """Return what stands before the bytes of an array of this shape in a `.npy` file."""
    buffer = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue()


def _write_array(archive: zipfile.ZipFile, name: str, values: NDArray[Any]) -> None:
    with archive.open(f"{name}.npy", "w") as file:
        np.lib.format.write_array(file, values, allow_pickle=False)


def _write_meta(plan: _Plan, folder: Path, fonts: Path) -> None:
    with zipfile.ZipFile(folder / META, "w", zipfile.ZIP_DEFLATED) as archive:
        _write_array(archive, "classes", np.array(plan.code_points, np.uint32))
        _write_array(archive, "face_name", np.array([face.name for face in plan.faces]))
        files = [f"{face.path.relative_to(fonts)}#{face.index}" for face in plan.faces]
        _write_array(archive, "face_file", np.array(files))
