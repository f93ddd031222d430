import gzip
import hashlib
import struct

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from attar.data import read_idx
from attar.errors import DataError

CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def encode(numbers: np.ndarray) -> bytes:
    head = struct.pack(">HBB", 0, CODES[numbers.dtype.str[1:]], numbers.ndim)
    lengths = struct.pack(f">{numbers.ndim}I", *numbers.shape)
    return head + lengths + numbers.astype(numbers.dtype.newbyteorder(">")).tobytes()


def write(folder, content: bytes):
    path = folder / "numbers.gz"
    path.write_bytes(gzip.compress(content))
    return path


def test_four_bytes_by_hand(tmp_path):
    content = bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 2, 7, 0, 255, 1])
    numbers = read_idx(write(tmp_path, content))
    assert numbers.dtype == torch.uint8
    assert numbers.tolist() == [[7, 0], [255, 1]]


@given(
    numbers=st.sampled_from(sorted(CODES)).flatmap(
        lambda code: arrays.arrays(code, arrays.array_shapes(min_side=0))
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_what_was_written_is_read(tmp_path, numbers):
    read = read_idx(write(tmp_path, encode(numbers))).numpy()
    assert read.dtype == numbers.dtype
    np.testing.assert_array_equal(read, numbers)


def test_the_answer_may_be_written_to(tmp_path):
    numbers = read_idx(write(tmp_path, encode(np.zeros(3, "u1"))))
    numbers += 1
    assert numbers.tolist() == [1, 1, 1]


def test_the_right_hash_is_no_error(tmp_path):
    path = write(tmp_path, encode(np.arange(3, dtype="u1")))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_idx(path, sha256=digest).tolist() == [0, 1, 2]


def test_another_hash_names_both_and_the_remedy(tmp_path):
    path = write(tmp_path, encode(np.arange(3, dtype="u1")))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(DataError) as caught:
        read_idx(path, sha256="0" * 64, remedy="fetch it again")
    assert str(caught.value) == (
        f"{path} is damaged: expected SHA-256 {'0' * 64}, found {digest}; fetch it again"
    )


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*numbers\.gz: No such file"):
        read_idx(tmp_path / "numbers.gz")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(DataError, match="cannot read"):
        read_idx(tmp_path)


@pytest.mark.parametrize("kept", [0, 1, 9, 20, -1, -9])
def test_a_cut_gzip_file_is_an_error(tmp_path, kept):
    path = write(tmp_path, encode(np.arange(200, dtype="u1")))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"numbers\.gz is not"):
        read_idx(path)


@given(place=st.integers(0, 10_000), change=st.integers(1, 255))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
def test_a_changed_byte_is_an_error_or_harmless(tmp_path, place, change):
    numbers = np.random.default_rng(0).integers(0, 256, (5, 40), dtype="u1")
    path = write(tmp_path, encode(numbers))
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= change
    path.write_bytes(content)
    try:
        read = read_idx(path)
    except DataError:
        return
    np.testing.assert_array_equal(read.numpy(), numbers)  # it was in gzip's own header


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "two zero bytes first"),
        (b"\0\0\x08", "two zero bytes first"),
        (b"GIF89a", "two zero bytes first.*GIF8"),
        (b"\0\0\x0a\x01\0\0\0\x01\0", "number type of .* got 10"),
        (b"\0\0\x08\x03\0\0\0\x01", "header of 16 bytes for 3 axes, got 8"),
        (b"\0\0\x08\x01\0\0\0\x03\0\0", r"expected 3 bytes of numbers for shape \[3\], got 2"),
        (b"\0\0\x08\x01\0\0\0\x01\0\0", r"expected 1 bytes of numbers for shape \[1\], got 2"),
        (b"\0\0\x08\x02\xff\xff\xff\xff\xff\xff\xff\xff", "18446744065119617025 bytes"),
    ],
)
def test_what_is_not_idx_says_why(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_idx(write(tmp_path, content))
