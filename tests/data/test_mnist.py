import shutil
from importlib.resources import files

import pytest
import torch

from attar.data import load_mnist
from attar.data import mnist as module
from attar.errors import DataError

PACKAGED = files("attar.data") / "files" / "mnist"
NAMES = sorted(module.SHA256)


@pytest.fixture(scope="module")
def mnist():
    return load_mnist()


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(PACKAGED, tmp_path / "mnist")


def test_there_are_60000_and_10000_digits_of_28_by_28(mnist):
    assert (len(mnist.train), len(mnist.test)) == (60_000, 10_000)
    for digits in (mnist.train, mnist.test):
        assert digits.inputs.shape[1:] == (28, 28)
        assert digits.inputs.dtype == torch.uint8
        assert digits.class_names == tuple("0123456789")
        assert digits.views is None


def test_the_first_labels_are_known(mnist):
    assert mnist.train.hard_targets[:5].tolist() == [5, 0, 4, 1, 9]
    assert mnist.test.hard_targets[:5].tolist() == [7, 2, 1, 0, 4]


def test_the_counts_of_each_digit_are_canonical(mnist):
    train = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    test = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]  # the paper's 1010 threes
    assert torch.bincount(mnist.train.hard_targets).tolist() == train
    assert torch.bincount(mnist.test.hard_targets).tolist() == test


def test_mean_and_spread_of_the_pixels_are_the_known_ones(mnist):
    pixels = mnist.train.inputs[:, :, :].float().div_(255)
    assert pixels.mean().item() == pytest.approx(0.1307, abs=1e-4)
    assert pixels.std().item() == pytest.approx(0.3081, abs=1e-4)


def test_a_batch_is_scaled_to_zero_to_one(mnist):
    inputs = mnist.test.batch(torch.arange(100)).inputs
    assert inputs.dtype == torch.float32
    assert (inputs.min().item(), inputs.max().item()) == (0.0, 1.0)


def test_the_fingerprints_never_change(mnist):  # stored targets hang on them
    assert (
        mnist.train.fingerprint()
        == "af4ea2648052d11d40e0cd04692ec9620ff5c93ac8d3b2da81a6f2cbed7510ea"
    )
    assert (
        mnist.test.fingerprint()
        == "6450f964e8f926892721b6faf3d903505206a8a227a4aaa6dccd7dd9c5d27638"
    )


def test_a_copied_folder_gives_the_same_sets(mnist, folder):
    copied = load_mnist(folder)
    assert copied.train.fingerprint() == mnist.train.fingerprint()
    assert copied.test.fingerprint() == mnist.test.fingerprint()


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_is_named_with_both_hashes(folder, name):
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name} is damaged: expected SHA-256") as caught:
        load_mnist(folder)
    expected, _, found = str(caught.value).partition(", found ")
    assert module.SHA256[name] in expected
    assert len(found.split(";")[0]) == 64


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(DataError, match=f"cannot read .*{name}: No such file.*; copy"):
        load_mnist(folder)


def test_a_damaged_package_says_to_reinstall(monkeypatch):
    monkeypatch.setitem(module.SHA256, "t10k-labels-idx1-ubyte.gz", "0" * 64)
    with pytest.raises(DataError, match=r"t10k-labels.* is damaged: .*; reinstall attar"):
        load_mnist()
