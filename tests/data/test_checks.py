import numpy as np
import pytest
import torch

from attar.data import TransferSet
from attar.errors import DataError, ShapeError


def make_unlabeled(inputs) -> TransferSet:
    return TransferSet(inputs, classes=2)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_inputs_that_are_not_finite_name_the_first_example(value, dtype):
    inputs = torch.zeros(9, 2, 2, dtype=dtype)
    inputs[4, 1, 0] = value
    inputs[6] = float("nan")
    with pytest.raises(DataError, match=f"expected finite inputs, got {value} in example 4;"):
        make_unlabeled(inputs)


def test_the_largest_floats_are_finite():
    make_unlabeled(torch.full((3, 4), torch.finfo(torch.float32).max))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), ()])
def test_an_empty_set_is_an_error(shape):
    with pytest.raises(DataError, match=r"with one or more, got \["):
        make_unlabeled(torch.zeros(shape))


@pytest.mark.parametrize(
    "inputs",
    [
        torch.zeros(3, 2, dtype=torch.int16),
        torch.zeros(3, 2, dtype=torch.bool),
        torch.zeros(3, 2, dtype=torch.complex64),
        np.zeros((3, 2), np.int8),
    ],
)
def test_inputs_of_another_type_are_an_error(inputs):
    with pytest.raises(DataError, match=r"uint8, to be scaled .* int64, .* got \[3, 2\]"):
        make_unlabeled(inputs)


def test_ragged_inputs_ask_for_one_shape(shape_hints_off):
    ragged = np.array([np.zeros(2), np.zeros(3)], dtype=object)
    with pytest.raises(DataError, match=r"array of object; are all examples of one shape\?"):
        make_unlabeled(ragged)
    with pytest.raises(DataError, match="tensor or a NumPy array, got list"):
        make_unlabeled([[0.0], [0.0, 1.0]])


def test_arrays_of_no_torch_type_are_an_error():
    with pytest.raises(DataError, match="inputs of numbers, got texts such as 'a'; for texts"):
        make_unlabeled(np.array(["a", "b"]))
    with pytest.raises(DataError, match="inputs of a type that torch has"):
        make_unlabeled(np.zeros((2, 2), np.longdouble))


def test_lengths_that_differ_name_both():
    with pytest.raises(ShapeError, match=r"got inputs \[3, 2\], hard_targets \[4\]"):
        TransferSet(torch.zeros(3, 2), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ShapeError, match=r"got inputs \[3, 2\], hard_targets \[3, 1\]"):
        TransferSet(torch.zeros(3, 2), torch.zeros(3, 1, dtype=torch.int64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.complex64])
def test_targets_that_are_no_integers_are_an_error(dtype):
    with pytest.raises(DataError, match=r"hard_targets of integers, class indices, got \[3\]"):
        TransferSet(torch.zeros(3, 2), torch.zeros(3, dtype=dtype))


@pytest.mark.parametrize("wrong", [3, -2, 2**40])
def test_a_target_out_of_range_names_the_first(wrong):
    targets = torch.tensor([0, -1, wrong, 2, 99])
    with pytest.raises(DataError, match=rf"in 0\.\.2, or -1 for none, got {wrong} at index 2"):
        TransferSet(torch.zeros(5, 2), targets, classes=3)


def test_a_target_below_minus_one_needs_no_stated_classes_to_be_wrong():
    with pytest.raises(DataError, match="got -7 at index 1"):
        TransferSet(torch.zeros(3, 2), torch.tensor([0, -7, 1]))


def test_unknown_classes_ask_for_them():
    with pytest.raises(DataError, match=r"got no hard target; pass classes="):
        TransferSet(torch.zeros(3, 2))
    with pytest.raises(DataError, match=r"got no hard target; pass classes="):
        TransferSet(torch.zeros(3, 2), torch.full((3,), -1))
    with pytest.raises(DataError, match=r"got 1000000000000; pass classes="):
        TransferSet(torch.zeros(1, 2), torch.tensor([10**12]))


def test_class_names_must_agree_differ_and_be_names(shape_hints_off):
    inputs = torch.zeros(3, 2)
    with pytest.raises(DataError, match="expected 3 class_names as classes says, got 2"):
        TransferSet(inputs, class_names=["a", "b"], classes=3)
    with pytest.raises(DataError, match="got 'b' at 1 and at 3"):
        TransferSet(inputs, class_names=["a", "b", "c", "b"])
    with pytest.raises(DataError, match="one class name or more, got none"):
        TransferSet(inputs, class_names=[])
    with pytest.raises(DataError, match="got one string 'ab'"):
        TransferSet(inputs, class_names="ab")
    with pytest.raises(DataError, match="to be strings, got 1 at 0"):
        TransferSet(inputs, class_names=[1, 2])
    with pytest.raises(DataError, match="classes > 0, got 0"):
        TransferSet(inputs, classes=0)


@pytest.mark.parametrize("ask", ["batch", "subset"])
def test_indices_out_of_range_name_the_first(ask, shape_hints_off):
    transfer = TransferSet(torch.zeros(40, 2), torch.arange(40) % 4 - 1)
    for wrong in (40, -1):
        with pytest.raises(DataError, match=rf"in 0\.\.39, got {wrong} at position 1"):
            getattr(transfer, ask)(torch.tensor([0, wrong, 77]))
    with pytest.raises(DataError, match=r"one or more, got \[0\]"):
        getattr(transfer, ask)(torch.tensor([], dtype=torch.int64))
    with pytest.raises(DataError, match=r"got \[40\] bool; try mask\.nonzero"):
        getattr(transfer, ask)(transfer.hard_targets > 0)
    with pytest.raises(DataError, match="tensor of int64, got list"):
        getattr(transfer, ask)([0, 1])
    with pytest.raises(DataError, match=r"in 0\.\.1, got 2 at position 0"):
        getattr(transfer.subset(torch.tensor([8, 9])), ask)(torch.tensor([2]))
