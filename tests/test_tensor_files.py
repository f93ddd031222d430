"""Files of tensors notice every changed byte that changes what is read."""

import pytest
import safetensors.torch
import torch

from attar.errors import FolderError
from attar.tensor_files import read_tensors, write_tensors


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "w.safetensors"
    tensors = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([3, 4])}
    write_tensors(path, tensors, kind="weights", version=1, note="x")
    return path


def test_what_is_written_is_read(path):
    found = read_tensors(path, kind="weights", version=1)
    assert found.header == {"kind": "weights", "version": 1, "note": "x"}
    assert found.tensors["a"].tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    assert found.tensors["b"].tolist() == [3, 4]


def test_the_same_content_gives_the_same_bytes(tmp_path):
    for place in range(8):
        tensors = {"a": torch.arange(3), "b": torch.ones(2)}
        write_tensors(tmp_path / str(place), tensors, kind="weights", version=1)
    assert len({(tmp_path / str(place)).read_bytes() for place in range(8)}) == 1


def test_the_file_has_the_rights_that_a_new_file_has(path):
    other = path.with_name("other")
    other.touch()
    assert path.stat().st_mode == other.stat().st_mode


def test_no_changed_byte_changes_what_is_read(path):
    before, content = read_tensors(path, kind="weights", version=1), path.read_bytes()
    for place in range(len(content)):
        for bit in (0, 3, 5, 7):
            changed = bytearray(content)
            changed[place] ^= 1 << bit
            path.write_bytes(changed)
            try:
                found = read_tensors(path, kind="weights", version=1, foreign=True)
            except FolderError:
                continue
            assert found.header == before.header
            assert all(
                torch.equal(found.tensors[name], before.tensors[name]) for name in before.tensors
            )
            assert found.tensors.keys() == before.tensors.keys()


@pytest.mark.parametrize(
    ("kind", "version", "text"),
    [
        ("ensemble", 1, "expected .* to contain ensemble, got weights"),
        ("weights", 0, "newer attar"),
    ],
)
def test_another_kind_or_a_newer_version_is_refused(path, kind, version, text):
    with pytest.raises(FolderError, match=text):
        read_tensors(path, kind=kind, version=version)


def test_a_foreign_file_is_read_only_where_it_is_asked_for(tmp_path):
    path = tmp_path / "theirs.safetensors"
    safetensors.torch.save_file({"a": torch.ones(2)}, path)
    assert read_tensors(path, kind="weights", version=1, foreign=True).header is None
    with pytest.raises(FolderError, match="no header and checksum"):
        read_tensors(path, kind="weights", version=1)
