"""Folders of images into transfer sets: images.py."""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from attar.data import read_image_folder, stream_images
from attar.data.images import HOST
from attar.errors import AttarError, DataError, FolderError

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed: extra vision")

GENERATOR = np.random.default_rng(0)
PIXELS = GENERATOR.integers(0, 256, (5, 6, 4, 3), dtype=np.uint8)  # [images, height, width, colors]


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path):
    """Two dogs, one of them deeper, and three cats."""
    root = tmp_path / "images"
    for index, name in enumerate(["cat/a.png", "cat/b.BMP", "cat/c.webp", "dog/x/z.png"]):
        save(root / name, PIXELS[index], **({"lossless": True} if "webp" in name else {}))
    save(root / "dog" / "y.png", PIXELS[4])
    (root / "notes.txt").write_text("hello")
    (root / "dog" / "Thumbs.db").write_bytes(b"hello")
    (root / "dog" / ".hidden.png").write_bytes(b"hello")
    (root / ".trash").mkdir()
    return root


def test_a_folder_by_hand(folder):
    transfer = read_image_folder(str(folder))
    assert transfer.class_names == ("cat", "dog")
    assert transfer.hard_targets.tolist() == [0, 0, 0, 1, 1]
    assert transfer.inputs.dtype == torch.uint8
    expected = PIXELS[[0, 1, 2, 3, 4]].transpose(0, 3, 1, 2)  # "x/z.png" comes before "y.png"
    assert torch.equal(transfer.inputs, torch.from_numpy(expected))
    batch = transfer.batch(torch.tensor([4]))
    torch.testing.assert_close(batch.inputs[0], torch.from_numpy(expected[4] / 255).float())


def test_how_many_decode_changes_nothing(folder):
    fingerprints = {read_image_folder(folder, workers=count).fingerprint() for count in (1, 2, 7)}
    assert len(fingerprints) == 1


def test_class_names_order_the_classes_and_may_have_no_folder(folder):
    transfer = read_image_folder(folder, class_names=["dog", "bee", "cat"])
    assert transfer.classes == 3
    assert transfer.hard_targets.tolist() == [2, 2, 2, 0, 0]


def test_images_are_scaled_and_their_center_is_cut_out(tmp_path):
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, 4:12] = 200  # the center
    save(tmp_path / "a" / "wide.png", pixels)
    save(tmp_path / "a" / "tall.png", pixels.transpose(1, 0, 2))
    transfer = read_image_folder(tmp_path, size=(8, 8))
    assert transfer.inputs.shape == (2, 3, 8, 8)
    assert (transfer.inputs == 200).all()
    assert read_image_folder(tmp_path, size=(2, 4)).inputs.shape == (2, 3, 2, 4)


def test_gray_images_have_one_channel_if_asked_for(folder, tmp_path):
    assert read_image_folder(folder, colors="L").inputs.shape == (5, 1, 6, 4)
    save(tmp_path / "gray" / "a" / "a.png", PIXELS[0, :, :, 0])
    gray = read_image_folder(tmp_path / "gray", colors="L").inputs
    assert torch.equal(gray[0, 0], torch.from_numpy(PIXELS[0, :, :, 0]))
    assert read_image_folder(tmp_path / "gray").inputs.shape == (1, 3, 6, 4)


def test_palettes_transparency_and_orientation_are_applied(tmp_path):
    image = Image.fromarray(PIXELS[0])
    (tmp_path / "a").mkdir()
    image.quantize(256).save(tmp_path / "a" / "a.png", transparency=b"\0" * 3)
    image.convert("RGBA").save(tmp_path / "a" / "b.png")
    exif = image.getexif()
    exif[274] = 3  # upside down
    image.rotate(180).save(tmp_path / "a" / "c.png", exif=exif)
    inputs = read_image_folder(tmp_path).inputs
    for pixels in inputs:
        assert torch.equal(pixels, torch.from_numpy(PIXELS[0].transpose(2, 0, 1)))


# The cache


def test_a_cache_answers_the_same_and_is_found_again(folder, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    plain = read_image_folder(folder)
    assert read_image_folder(folder, cache=cache).fingerprint() == plain.fingerprint()
    (kept,) = cache.iterdir()
    before = kept.stat().st_mtime_ns
    assert read_image_folder(folder, cache=str(cache)).fingerprint() == plain.fingerprint()
    assert [each.stat().st_mtime_ns for each in cache.iterdir()] == [before]


def test_a_cache_is_left_alone_when_images_or_settings_change(folder, tmp_path):
    cache = tmp_path / "cache"
    read_image_folder(folder, cache=cache)
    read_image_folder(folder, cache=cache, size=(6, 4))
    read_image_folder(folder, cache=cache, colors="L")
    save(folder / "cat" / "a.png", 255 - PIXELS[0])
    os.utime(folder / "cat" / "a.png", ns=(1, 1))
    changed = read_image_folder(folder, cache=cache)
    assert changed.fingerprint() == read_image_folder(folder).fingerprint()
    assert len(list(cache.iterdir())) == 4


def test_what_could_not_be_finished_leaves_nothing(folder, tmp_path):
    (folder / "dog" / "y.png").write_bytes(b"hello")
    with pytest.raises(DataError):
        read_image_folder(folder, cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


# Errors


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif", "a.tif"])
@pytest.mark.parametrize("kept", [0.0, 0.5, None])
def test_a_damaged_image_is_named(tmp_path, name, kept):
    large = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = save(tmp_path / "cat" / name, large)
    content = path.read_bytes()
    damaged = b"nothing of the kind" if kept is None else content[: int(kept * len(content))]
    path.write_bytes(damaged)
    with pytest.raises(DataError, match=rf"cannot decode .*{name}: .*; is the file damaged\?"):
        read_image_folder(tmp_path)


def test_images_of_different_sizes_ask_for_one(folder):
    path = save(folder / "dog" / "large.png", np.zeros((9, 7, 3), np.uint8))
    with pytest.raises(DataError, match=rf"got \[9, 7\] in {path} and \[6, 4\] in .*; give size="):
        read_image_folder(folder)


def test_sixteen_bits_a_channel_are_an_error(tmp_path):
    save(tmp_path / "a" / "a.png", np.zeros((4, 4), np.uint16))
    with pytest.raises(DataError, match=r"8 bits a channel, got .* mode I;16 in .*a\.png; convert"):
        read_image_folder(tmp_path)


def test_folders_that_do_not_fit_are_errors(folder, tmp_path):
    with pytest.raises(DataError, match=r"the classes 'dog', got 'cat' in .*; is class_names="):
        read_image_folder(folder, class_names=["dog"])
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match=r"of the class 'empty', got none in .*empty; remove it"):
        read_image_folder(folder)
    (tmp_path / "flat").mkdir()
    with pytest.raises(DataError, match=r"a folder for each class in .*flat, got none"):
        read_image_folder(tmp_path / "flat")
    with pytest.raises(FolderError, match=r"cannot read the folder .*gone: No such file"):
        read_image_folder(tmp_path / "gone")
    with pytest.raises(FolderError, match=r"cannot make the folder .*notes\.txt"):
        (folder / "empty").rmdir()
        read_image_folder(folder, cache=folder / "notes.txt")


def test_a_missing_pillow_names_the_extra(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(
        AttarError, match=r"PIL is not installed, .* run `pip install 'attar\[vision\]'`"
    ):
        read_image_folder(folder)


# Images without classes


def test_hidden_folders_are_passed_over_at_any_depth(folder):
    before = read_image_folder(folder).fingerprint()
    save(folder / "dog" / ".ipynb_checkpoints" / "z.png", PIXELS[0])
    save(folder / ".trash" / "z.png", PIXELS[0])
    assert read_image_folder(folder).fingerprint() == before
    assert len(read_image_folder(folder, unlabeled=True, class_names=["x"])) == 5


def test_unlabeled_images_may_lie_in_one_folder(folder, tmp_path):
    flat = tmp_path / "flat"
    for index, pixels in enumerate(PIXELS[:2]):
        save(flat / f"{index}.png", pixels)
    transfer = read_image_folder(flat, unlabeled=True, class_names=["x", "y"])
    assert torch.equal(transfer.inputs, torch.from_numpy(PIXELS[:2].transpose(0, 3, 1, 2)))
    assert (transfer.class_names, transfer.hard_targets.tolist()) == (("x", "y"), [-1, -1])
    streamed = stream_images(flat, unlabeled=True, class_names=["x", "y"], part_examples=8)
    assert streamed.fingerprint() == transfer.fingerprint()
    assert streamed.hard_targets.tolist() == [-1, -1]
    with pytest.raises(DataError, match=r"none; if the images have no class, give unlabeled=True"):
        read_image_folder(flat)
    for read in (read_image_folder, stream_images):
        with pytest.raises(DataError, match=r"class_names= of the unlabeled images in .*flat, got"):
            read(flat, unlabeled=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"expected images .* in .*empty, got none"):
        read_image_folder(tmp_path / "empty", unlabeled=True, class_names=["x"])
    # Folders are no classes then; the images are those of the labeled set.
    nested = read_image_folder(folder, unlabeled=True, class_names=["x", "y"])
    assert torch.equal(nested.inputs, read_image_folder(folder).inputs)
    assert nested.hard_targets.tolist() == [-1] * 5


# The cache


def test_a_disk_that_is_full_is_told_before_anything_is_mapped(folder, tmp_path, monkeypatch):
    asked = []

    def allocate(descriptor, offset, size):
        asked.append(size)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", allocate, raising=False)
    with pytest.raises(FolderError, match=r"cannot write .*images-.*npy: No space left on device"):
        read_image_folder(folder, cache=tmp_path / "cache")
    assert asked == [128 + 5 * 3 * 6 * 4]  # NumPy's header, and all images
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="processes are asked for by signal 0")
def test_what_a_killed_process_left_in_the_cache_is_removed(folder, tmp_path):
    cache = tmp_path / "cache"
    read_image_folder(folder, cache=cache)
    (final,) = cache.iterdir()
    final.unlink()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    stale = cache / f".{final.name}.{HOST}.{ended.pid}.partial"
    running = cache / f".images-0.npy.{HOST}.{os.getpid()}.partial"
    elsewhere = cache / f".images-0.npy.another.{ended.pid}.partial"
    for path in (stale, running, elsewhere):
        path.touch()
    read_image_folder(folder, cache=cache)
    assert {path.name for path in cache.iterdir()} == {final.name, running.name, elsewhere.name}
