from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from attar.data import read_glyph_folder, read_glyphs
from attar.data.glyphs import pack_images, unpack_images
from attar.errors import DataError, FolderError

CJK15K = Path(__file__).parents[3] / "shared" / "data" / "cjk15k"


@pytest.fixture
def split(tmp_path):
    """Write a split of three examples, two pixels each way, and its `meta.npz`."""

    def write(folder=tmp_path, name="train.npz", **changed):
        given = {
            "images": np.array([[0x0F, 0x80], [0, 0], [0xFF, 0xFF]], np.uint8),
            "label": np.array([1, 0, 1], np.uint16),
            "face": np.array([2, 0, 1], np.uint8),
        }
        held = {key: value for key, value in (given | changed).items() if value is not None}
        np.savez_compressed(folder / name, **held)
        points = np.array([0x4E00, 0x4E8C], np.uint32)
        np.savez(folder / "meta.npz", classes=points, face_name=np.array(["a", "b", "c"]))
        return folder / name

    return write


def test_two_pixels_a_byte_by_hand(split):
    found = read_glyphs(split())
    first = found.examples.batch(torch.tensor([0])).inputs
    torch.testing.assert_close(first, torch.tensor([[[0.0, 1.0], [8 / 15, 0.0]]]))
    assert found.examples.hard_targets.tolist() == [1, 0, 1]
    assert found.examples.class_names == ("一", "二")
    assert found.faces.tolist() == [2, 0, 1]
    assert found.face_names == ("a", "b", "c")


@given(
    arrays.arrays(np.uint8, st.sampled_from([(1, 2, 2), (3, 4, 4)]), elements=st.integers(0, 15))
)
def test_packing_loses_nothing_of_four_bits(grays):
    images = grays * np.uint8(17)
    assert np.array_equal(unpack_images(pack_images(images), Path("x.npz")), images)


@given(st.integers(0, 255))
def test_packing_takes_the_nearest_gray(value):
    image = np.full((1, 2, 2), value, np.uint8)
    kept = int(unpack_images(pack_images(image), Path("x.npz"))[0, 0, 0])
    assert abs(kept - value) <= 8


def test_a_split_without_meta_calls_classes_by_number(split):
    path = split()
    path.with_name("meta.npz").unlink()
    found = read_glyphs(path)
    assert found.examples.class_names == ("0", "1")
    assert found.face_names == ()


def test_a_split_elsewhere_takes_the_names_that_it_is_told(split, tmp_path):
    path = split()
    (tmp_path / "elsewhere").mkdir()
    moved = path.rename(tmp_path / "elsewhere" / "test.npz")
    assert read_glyphs(moved, meta=tmp_path / "meta.npz").examples.class_names == ("一", "二")


def test_a_folder_has_its_splits_by_name(split, tmp_path):
    split()
    split(name="val.npz")
    assert sorted(read_glyph_folder(tmp_path)) == ["train", "val"]


def test_a_folder_that_is_none_says_how_to_make_one(tmp_path):
    with pytest.raises(FolderError, match=r"train\.npz, got .*attar data glyphs"):
        read_glyph_folder(tmp_path / "none")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"face": None}, r"'images', 'label' and 'face' of glyphs in .*got 'images', 'label'"),
        ({"images": np.zeros((3, 3), np.uint8)}, r"two pixels a byte, got uint8 \[3, 3\]"),
        ({"images": np.zeros((3, 2), np.int16)}, r"of uint8.*got int16 \[3, 2\]"),
        ({"images": np.zeros((0, 2), np.uint8)}, r"got uint8 \[0, 2\]"),
        ({"label": np.zeros(2, np.int64)}, r"integers \[3\], one for each image, as 'label'"),
        ({"face": np.zeros(3)}, r"as 'face' of .*got float64 \[3\]"),
        ({"label": np.array([0, 1, 2])}, r"hard targets in 0\.\.1"),
    ],
)
def test_what_does_not_fit_is_told(split, changed, message):
    with pytest.raises(DataError, match=message):
        read_glyphs(split(**changed))


def test_code_points_beyond_unicode_are_told(split, tmp_path):
    path = split()
    np.savez(tmp_path / "meta.npz", classes=np.array([65, 0x110000]))
    with pytest.raises(DataError, match=r"code points in 0\.\.1114111 .*got 1114112"):
        read_glyphs(path)


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.9])
def test_a_cut_off_file_is_told(split, kept):
    path = split()
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if kept < 1 else kept])
    with pytest.raises(DataError, match=r"train\.npz is damaged"):
        read_glyphs(path)


def test_a_flipped_byte_is_told(split):
    path = split()
    content = bytearray(path.read_bytes())
    at = content.index(b"images.npy") + 30  # within the compressed array
    content[at] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        read_glyphs(path)


def test_python_objects_are_never_unpickled(split):
    path = split(label=np.array([{}, {}, {}], object))
    with pytest.raises(DataError, match="damaged"):
        read_glyphs(path)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(FolderError, match=r"cannot read .*none\.npz"):
        read_glyphs(tmp_path / "none.npz")


@pytest.mark.skipif(not CJK15K.exists(), reason="needs cjk15k beside the checkout")
def test_cjk15k_is_as_described():
    found = read_glyphs(CJK15K / "val.npz")
    assert found.examples.inputs.shape == (45_000, 32, 32)
    assert found.examples.class_names[:2] == ("一", "丁")
    assert found.examples.hard_targets.bincount().unique().tolist() == [3]
    assert len(found.faces.unique()) == 3
