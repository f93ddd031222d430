import numpy as np
import pytest
import torch

from attar.data import read_npz
from attar.errors import DataError, ShapeError

INPUTS = np.array([[0, 255], [51, 102]], dtype=np.uint8)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "set.npz"


def test_inputs_hard_targets_and_class_names_are_read(path):
    np.savez(path, inputs=INPUTS, hard_targets=[1, -1], class_names=["cat", "dog"])
    transfer = read_npz(path)
    assert torch.equal(transfer.inputs, torch.from_numpy(INPUTS))
    assert transfer.hard_targets.tolist() == [1, -1]
    assert transfer.class_names == ("cat", "dog")


def test_a_compressed_file_without_hard_targets_is_read(path):
    np.savez_compressed(path, inputs=INPUTS.astype(np.float32))
    transfer = read_npz(path, classes=3)
    assert transfer.hard_targets.tolist() == [-1, -1]
    assert transfer.classes == 3


def test_a_missing_file_is_named(path):
    with pytest.raises(DataError, match=r"cannot read .*set\.npz: No such file"):
        read_npz(path)


def test_what_is_there_instead_of_inputs_is_named(path):
    np.savez(path, x=INPUTS, y=[0, 1])
    with pytest.raises(DataError, match=r"set\.npz: expected arrays inputs and .*, got x, y$"):
        read_npz(path)


def test_nothing_is_unpickled(path):
    np.savez(path, inputs=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match=r"set\.npz is no whole \.npz file of plain arrays: Object"):
        read_npz(path)


def test_a_single_array_is_refused(path):
    with path.open("wb") as file:
        np.save(file, INPUTS)
    with pytest.raises(DataError, match=r"set\.npz: expected an \.npz file, got one array"):
        read_npz(path)


@pytest.mark.parametrize("kept", [0, 10, 300])
def test_a_truncated_file_is_refused(path, kept):
    np.savez(path, inputs=INPUTS, hard_targets=[0, 1])
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"set\.npz is no whole \.npz file of plain arrays"):
        read_npz(path)


def test_a_flipped_byte_is_found(path):
    np.savez(path, inputs=np.zeros((50, 50), dtype=np.uint8), hard_targets=np.arange(50))
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"no whole \.npz file of plain arrays: Bad CRC"):
        read_npz(path)


def test_what_a_transfer_set_refuses_comes_with_the_file(path):
    np.savez(path, inputs=INPUTS, hard_targets=[0, 1, 2])
    with pytest.raises(ShapeError, match=r"cannot use .*set\.npz: expected one hard target for"):
        read_npz(path)
