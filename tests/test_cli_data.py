"""`attar data`: what it makes, what it says of a set, and of what is wrong."""

import numpy as np
import pytest

pytest.importorskip("PIL")
pytest.importorskip("fontTools")

from attar import cli
from tests.fonts import some_fonts


@pytest.fixture
def command(capsys, shape_hints_off):
    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            cli.main(["data", *map(str, arguments)])
        return caught.value.code or 0, capsys.readouterr()

    return run


@pytest.fixture
def drawn(command, tmp_path):
    fonts = some_fonts(tmp_path / "fonts")
    options = ["--classes", 5, "--characters", "41-5A", "--side", 16, "--out", tmp_path / "set"]
    return tmp_path / "set", *command("glyphs", "--fonts", fonts, *options)


def test_glyphs_are_drawn_and_checked(drawn, command):
    folder, code, said = drawn
    assert code == 0
    assert f"{folder}: 5 classes" in said.out
    code, said = command("cjk15k", folder)
    assert code == 0
    assert "5 of 5 classes" in said.out
    assert "16×16 pixels" in said.out


def test_a_set_whose_splits_share_a_face_is_refused(drawn, command):
    folder, *_ = drawn
    (folder / "test.npz").write_bytes((folder / "train.npz").read_bytes())
    code, said = command("cjk15k", folder)
    assert code == 2
    assert "expected splits by font" in said.err


def test_a_damaged_split_is_told_in_one_line(drawn, command):
    folder, *_ = drawn
    (folder / "val.npz").write_bytes(b"PK")
    code, said = command("cjk15k", folder)
    assert (code, said.err.count("\n")) == (2, 1)
    assert "val.npz is damaged" in said.err


@pytest.mark.parametrize(
    ("characters", "message"),
    [
        ("41", "two code points such as 4E00-9FFF"),
        ("x-y", "got 'x-y'"),
        ("5A-41", "in ascending order"),
        ("0-110000", "up to 10FFFF"),
    ],
)
def test_characters_that_are_no_range_are_told(command, tmp_path, characters, message):
    options = ["--fonts", tmp_path, "--classes", 5, "--characters", characters]
    code, said = command("glyphs", *options, "--out", tmp_path / "set")
    assert code == 2
    assert message in said.err
    assert not (tmp_path / "set").exists()


def test_code_points_may_be_written_as_unicode_does(command, tmp_path):
    fonts = some_fonts(tmp_path / "fonts")
    options = ["--classes", 3, "--characters", "U+0041-U+0045", "--side", 16]
    code, _ = command("glyphs", "--fonts", fonts, *options, "--out", tmp_path / "set")
    assert code == 0
    assert np.load(tmp_path / "set" / "meta.npz")["classes"].tolist() == [0x41, 0x42, 0x43]


def test_a_folder_without_fonts_is_told_in_one_line(command, tmp_path):
    code, said = command("glyphs", "--fonts", tmp_path, "--classes", 5, "--out", tmp_path / "set")
    assert (code, said.err.count("\n")) == (2, 1)
    assert "got none; install some" in said.err
