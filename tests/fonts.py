"""Folders of fonts for tests, out of those that matplotlib brings along."""

import shutil
from pathlib import Path

import matplotlib

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
SANS, SERIF, MONO, STIX = "DejaVuSans", "DejaVuSerif", "DejaVuSansMono", "STIXGeneral"


def make_fonts(folder, *names):
    """Copy fonts, named without `.ttf`, into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copy(FONTS / f"{name}.ttf", folder)
    return folder


def some_fonts(folder):
    """Copy seven faces of four fonts; files that agree up to a hyphen are one font."""
    bold = [f"{name}-Bold" for name in (SANS, SERIF, MONO)]
    return make_fonts(folder, SANS, SERIF, MONO, STIX, *bold)
