import errno
import hashlib
import os
from pathlib import Path

import pytest

from attar.errors import FolderError
from attar.files import make_folder, sha256, write_atomically


@pytest.mark.parametrize("content", [b"", b"\r\n\n\0\xff", bytes(range(256)) * 10_000])
def test_what_is_written_is_what_is_read(tmp_path, content):
    write_atomically(tmp_path / "file", content)
    assert (tmp_path / "file").read_bytes() == content


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"old and longer")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_bytes_are_synced_to_the_disk_before_the_name_is_changed(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda file: (events.append("fsync"), fsync(file))[1])
    monkeypatch.setattr(
        Path, "replace", lambda path, to: (events.append("replace"), replace(path, to))[1]
    )
    write_atomically(tmp_path / "file", b"content")
    assert events[:2] == ["fsync", "replace"]


def test_a_reader_never_sees_half_of_a_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    seen = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (seen.append(path.read_bytes()), fsync(file))[1])
    write_atomically(path, b"new")
    assert seen[0] == b"old"
    assert path.read_bytes() == b"new"


def test_a_full_disk_leaves_the_earlier_content_and_no_temporary_file(tmp_path, full_disk):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with full_disk(1000), pytest.raises(FolderError, match=r"cannot write .*file: ") as caught:
        write_atomically(path, bytes(5000))
    assert str(path) in str(caught.value)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), OSError(errno.EIO, "no such luck")])
def test_an_interrupted_write_leaves_the_earlier_content(tmp_path, monkeypatch, interruption):
    def fail(file):
        raise interruption

    path = tmp_path / "file"
    write_atomically(path, b"old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises((KeyboardInterrupt, FolderError)):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FolderError, match=r"cannot write .*gone/file: No such file or directory"):
        write_atomically(tmp_path / "gone" / "file", b"content")


def test_a_folder_that_is_a_file_gives_our_error(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(FolderError, match=r"cannot write .*file/below: Not a directory"):
        write_atomically(tmp_path / "file" / "below", b"content")
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_folder_is_not_replaced_by_a_file(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(FolderError, match=r"cannot write .*folder"):
        write_atomically(tmp_path / "folder", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_folders_are_made_with_those_above_them(tmp_path):
    folder = tmp_path / "one" / "two"
    assert make_folder(folder) == folder
    assert make_folder(folder).is_dir()  # the second time, too


@pytest.mark.parametrize("below", ["", "below", "below/deeper"])
def test_a_folder_barred_by_a_file_is_named(tmp_path, below):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FolderError, match=r"cannot make the folder .*file") as caught:
        make_folder(tmp_path / "file" / below)
    assert "\n" not in str(caught.value)


def test_checksums_are_the_published_ones():
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert (sha256(b""), sha256(b"abc")) == (empty, abc)
    assert sha256(bytes(1000)) == hashlib.sha256(bytes(1000)).hexdigest()
