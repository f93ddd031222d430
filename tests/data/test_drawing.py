import re
import shutil

import numpy as np
import pytest

pytest.importorskip("PIL")
pytest.importorskip("fontTools")

from attar.data import read_glyph_folder
from attar.data.drawing import draw_glyphs
from attar.data.fonts import Pen, find_drawn, find_faces
from attar.errors import AttarError, DataError, FolderError
from tests.fonts import MONO, SANS, SERIF, STIX, make_fonts, some_fonts

LETTERS = (ord("A"), ord("Z"))
SAMPLE = range(ord("A"), ord("Z") + 1)
SMALL = {"classes": 10, "characters": LETTERS, "side": 16}


@pytest.fixture(scope="module")
def fonts(tmp_path_factory):
    return some_fonts(tmp_path_factory.mktemp("fonts"))


@pytest.fixture(scope="module")
def drawn(fonts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn") / "set"
    return draw_glyphs(fonts, folder, **SMALL)


def test_every_class_is_drawn_by_every_training_face_up_to_designs(drawn):
    found = read_glyph_folder(drawn.folder)
    assert drawn.examples == {name: len(each.examples) for name, each in found.items()}
    train = found["train"]
    assert train.examples.class_names == tuple("ABCDEFGHIJ")
    assert train.examples.inputs.shape[1:] == (16, 16)
    counts = train.examples.hard_targets.bincount(minlength=10)
    assert counts.tolist() == [drawn.faces["train"]] * 10
    assert sum(drawn.faces.values()) == 7


def test_no_font_is_in_two_splits(drawn):
    files = np.load(drawn.folder / "meta.npz")["face_file"]
    fonts = [
        {re.split("[-.]", files[face])[0] for face in each.faces.tolist()}
        for each in read_glyph_folder(drawn.folder).values()
    ]
    assert sorted(len(each) for each in fonts) == [1, 1, 2]
    assert len(set.union(*fonts)) == 4


def test_letters_fill_the_image_and_stay_in_it(drawn):
    images = read_glyph_folder(drawn.folder)["train"].examples.inputs
    assert (images > 127).any(dim=2).sum(1).min() >= 8  # rows with ink, of 16
    edge = images.clone()
    edge[:, 1:-1, 1:-1] = 0
    assert (edge > 127).flatten(1).sum(1).float().mean() < 2


def test_the_same_seed_draws_the_same_bytes_and_another_one_other_lots(fonts, drawn, tmp_path):
    again = draw_glyphs(fonts, tmp_path / "again", **SMALL)
    for name in drawn.examples:
        one, two = (
            np.load(folder / f"{name}.npz")["images"] for folder in (drawn.folder, again.folder)
        )
        assert np.array_equal(one, two)
    faces = {
        tuple(
            read_glyph_folder(draw_glyphs(fonts, tmp_path / str(seed), **SMALL, seed=seed).folder)[
                "test"
            ]
            .faces.unique()
            .tolist()
        )
        for seed in range(1, 6)
    }
    assert len(faces) > 1


def test_fewer_designs_are_chosen_by_lot(fonts, tmp_path):
    drawn = draw_glyphs(fonts, tmp_path / "set", **SMALL, designs=2, held_out_fonts=0)
    train = read_glyph_folder(drawn.folder)["train"]
    assert train.examples.hard_targets.bincount().tolist() == [2] * 10
    assert len(train.faces.unique()) > 2
    assert drawn.examples == {"train": 20}


def test_faces_that_look_alike_are_merged(fonts, tmp_path):
    twins = shutil.copytree(fonts, tmp_path / "fonts")
    shutil.copy(twins / f"{SERIF}.ttf", twins / "Another.ttf")
    drawn = draw_glyphs(twins, tmp_path / "set", **SMALL)
    assert drawn.merged == ("DejaVu Serif",)
    assert sum(drawn.faces.values()) == 7


def test_a_damaged_font_is_left_out_and_told(fonts, tmp_path):
    some = shutil.copytree(fonts, tmp_path / "fonts")
    (some / "broken.ttf").write_bytes((some / f"{SANS}.ttf").read_bytes()[:5000])
    (some / "text.otf").write_text("no font")
    drawn = draw_glyphs(some, tmp_path / "set", **SMALL)
    assert [path.name for path in drawn.unreadable] == ["broken.ttf", "text.otf"]
    assert sum(drawn.faces.values()) == 7


def test_blank_glyphs_are_no_characters(fonts):
    faces, _ = find_faces(fonts)
    pen = Pen(faces[0], 16, SAMPLE)
    space, no_break_space, letter = 0x20, 0xA0, ord("A")
    assert find_drawn(pen, [space, no_break_space, letter]).tolist() == [False, False, True]


def test_placeholders_are_no_characters(tmp_path):
    """This font draws one image for each block of Unicode, whatever the character."""
    faces, _ = find_faces(make_fonts(tmp_path, "LastResortHE-Regular"))
    points = list(range(0x4E00, 0x4E10))
    assert faces[0].code_points.issuperset(points)
    assert not find_drawn(Pen(faces[0], 32, points), points).any()


def test_characters_that_a_face_lacks_are_none(tmp_path):
    faces, _ = find_faces(make_fonts(tmp_path, MONO))
    assert find_drawn(Pen(faces[0], 16, SAMPLE), [0x4E00, ord("A")]).tolist() == [False, True]


def test_progress_goes_from_looking_to_drawing(fonts, tmp_path):
    seen = []
    draw_glyphs(fonts, tmp_path / "set", **SMALL, progress=seen.append)
    assert [each.fraction for each in seen] == sorted(each.fraction for each in seen)
    assert str(seen[0]).startswith("looking · ")
    assert str(seen[-1]).startswith("drawing · ")


def test_fonts_without_the_characters_are_told(fonts, tmp_path):
    with pytest.raises(DataError, match=r"U\+4E00-9FFF in the fonts of .*got none in 7 faces"):
        draw_glyphs(fonts, tmp_path / "set", classes=10)
    assert not (tmp_path / "set").exists()


def test_fonts_with_too_few_characters_are_told(fonts, tmp_path):
    with pytest.raises(DataError, match=r"expected 27 characters that the fonts draw, got 26"):
        draw_glyphs(fonts, tmp_path / "set", classes=27, characters=LETTERS)


def test_too_few_fonts_to_hold_out_are_told(tmp_path):
    two = make_fonts(tmp_path / "fonts", SANS, STIX)
    with pytest.raises(DataError, match=r"expected 3 fonts or more.*got 2; hold fewer out"):
        draw_glyphs(two, tmp_path / "set", **SMALL)


def test_a_folder_without_fonts_is_told(tmp_path):
    (tmp_path / "fonts").mkdir()
    (tmp_path / "fonts" / "readme.txt").touch()
    with pytest.raises(DataError, match=r"expected fonts \(\.otc, .*got none"):
        draw_glyphs(tmp_path / "fonts", tmp_path / "set", **SMALL)
    with pytest.raises(FolderError, match=r"expected a folder of fonts, got .*nowhere"):
        draw_glyphs(tmp_path / "nowhere", tmp_path / "set", **SMALL)


def test_a_folder_of_damaged_fonts_is_told(tmp_path):
    (tmp_path / "a.ttf").write_text("no font")
    with pytest.raises(DataError, match="got 1 damaged ones"):
        draw_glyphs(tmp_path, tmp_path / "set", **SMALL)


def test_files_that_are_there_stay_unharmed(fonts, tmp_path):
    (tmp_path / "train.npz").write_text("mine")
    with pytest.raises(FolderError, match="contains other files"):
        draw_glyphs(fonts, tmp_path, **SMALL)
    assert (tmp_path / "train.npz").read_text() == "mine"


def test_an_odd_side_is_told(fonts, tmp_path):
    with pytest.raises(AttarError, match="even side of at least 8 pixels, got 15"):
        draw_glyphs(fonts, tmp_path / "set", **SMALL | {"side": 15})
