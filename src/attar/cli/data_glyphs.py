"""`attar data glyphs` and `attar data cjk15k`: characters drawn by many fonts."""

from pathlib import Path
from typing import Annotated

import typer

from attar.cli.terminal import showing
from attar.data import read_glyph_folder
from attar.data.drawing import draw_glyphs
from attar.errors import AttarError, DataError

CJK15K = {"classes": 15_000, "train": 240_000, "val": 45_000}


def glyphs(
    fonts: Annotated[Path, typer.Option(help="Folder with fonts, searched recursively.")],
    classes: Annotated[int, typer.Option(help="Number of characters.")],
    out: Annotated[Path, typer.Option(help="Folder to create.")] = Path("data/glyphs"),
    characters: Annotated[
        str, typer.Option(help="Range of code points of the characters, in hexadecimal.")
    ] = "4E00-9FFF",
    designs: Annotated[
        int,
        typer.Option(help="Maximum training examples per character, each of a different design."),
    ] = 16,
    held_out_fonts: Annotated[
        int, typer.Option(help="Fonts held out for val, and as many others for test.")
    ] = 1,
    side: Annotated[int, typer.Option(help="Height and width of the images in pixels.")] = 32,
    seed: Annotated[int, typer.Option(help="Random seed for choosing fonts and designs.")] = 0,
) -> None:
    """Draw a set of characters, split by font, from the fonts that you have.

    The classes are the characters that most fonts contain. Blank glyphs, placeholders and
    duplicate faces are left out.
    """
    points = _parse_characters(characters)
    with showing() as show:
        drawn = draw_glyphs(
            fonts,
            out,
            classes=classes,
            characters=points,
            designs=designs,
            held_out_fonts=held_out_fonts,
            side=side,
            seed=seed,
            progress=show,
        )
    for path in drawn.unreadable:
        print(f"left out, not a readable font: {path}")
    if drawn.merged:
        print(f"left out, duplicates of other faces: {', '.join(drawn.merged)}")
    for split, examples in drawn.examples.items():
        print(f"{split}: {examples:,} examples by {drawn.faces[split]} faces")
    print(f"{drawn.folder}: {drawn.classes:,} classes")


def cjk15k(
    folder: Annotated[Path, typer.Argument(help="Folder of the set.", metavar="FOLDER")],
) -> None:
    """Check a copy of cjk15k, 15,000 characters drawn by 115 faces, or any folder of glyphs."""
    splits = read_glyph_folder(folder)
    for name, split in splits.items():
        faces, labels = split.faces.unique(), split.examples.hard_targets.unique()
        print(
            f"{name}: {len(split.examples):,} examples, {len(labels):,} of "
            f"{split.examples.classes:,} classes, {len(faces)} faces, "
            f"{'×'.join(map(str, split.examples.inputs.shape[1:]))} pixels"
        )
        for other, glyphs_there in splits.items():
            shared = set(faces.tolist()) & set(glyphs_there.faces.tolist())
            if other < name and shared:
                raise DataError(
                    f"expected splits by font in {folder}, got face {min(shared)} in both "
                    f"{other} and {name}"
                )


def _parse_characters(text: str) -> tuple[int, int]:
    try:
        first, last = (int(part.strip().upper().removeprefix("U+"), 16) for part in text.split("-"))
    except ValueError as error:
        raise AttarError(
            f"expected two code points such as 4E00-9FFF as characters, got {text!r}"
        ) from error
    if not 0 <= first <= last <= 0x10FFFF:
        raise AttarError(f"expected code points in ascending order up to 10FFFF, got {text!r}")
    return first, last
