"""pandas DataFrames as inputs: number_columns.py, and the names of columns."""

import pickle

import numpy as np
import pytest
import torch

from attar import TransferSet, from_dataset
from attar.errors import DataError, ShapeError

pandas = pytest.importorskip("pandas", reason="pandas is not installed")
FRAME = pandas.DataFrame({"b": [1, 2, 3], "a": [0.5, 1.5, -2.0], "ok": [True, False, True]})
TARGETS = [0, 1, 1]


def test_a_frame_of_numbers_becomes_a_set_with_feature_names():
    made = TransferSet(FRAME, np.array(TARGETS))
    assert made.inputs.tolist() == [[1, 0.5, 1], [2, 1.5, 0], [3, -2, 1]]
    assert (made.inputs.dtype, made.feature_names) == (torch.float32, ("b", "a", "ok"))
    plain = TransferSet(made.inputs, np.array(TARGETS))
    assert plain.feature_names is None
    assert plain.fingerprint() == made.fingerprint()  # stores that were made before still fit
    filled = FRAME.astype({"b": "Int64"})
    assert TransferSet(filled, np.array(TARGETS)).fingerprint() == made.fingerprint()


def test_feature_names_stay_with_the_set():
    made = TransferSet(FRAME, pandas.Series(TARGETS))
    kept = made.subset(torch.tensor([2, 0])).with_views(None).without_hard_targets()
    assert kept.feature_names == pickle.loads(pickle.dumps(made)).feature_names == ("b", "a", "ok")
    assert TransferSet(FRAME.set_axis([0, 1, 2], axis=1), classes=2).feature_names is None
    named = TransferSet(torch.zeros(3, 2), classes=2, feature_names=["x", "y"])
    assert named.feature_names == ("x", "y")


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (["x", "y", "z"], r"numbers in column 'c' of the DataFrame, got .*string.*get_dummies"),
        (pandas.Categorical(["x", "y", "x"]), r"column 'c' .*, got categories of .*string"),
        ([1.0, None, 2.0], r"everywhere in column 'c' .*, got none in row 1; fill .*predict_proba"),
        (pandas.array([1, None, 2], "Int64"), r"everywhere in column 'c' .* none in row 1"),
        ([1, "x", None], r"numbers in column 'c' of the DataFrame, got object"),
        (pandas.to_datetime(["2026-01-01"] * 3), r"column 'c' of the DataFrame, got timestamp"),
        ([1.0, np.inf, 2.0], r"finite numbers of float32 in column 'c' .*, got inf in row 1"),
    ],
)
def test_columns_that_are_no_numbers_are_named(column, message):
    with pytest.raises(DataError, match=message):
        TransferSet(FRAME.assign(c=column), np.array(TARGETS))


def test_frames_that_do_not_fit_are_errors():
    with pytest.raises(DataError, match=r"rows and columns in the DataFrame, got \[0, 3\]"):
        TransferSet(FRAME[:0], classes=2)
    with pytest.raises(DataError, match=r"different names in the DataFrame, got \['a'\] twice"):
        TransferSet(FRAME.set_axis(["a", "b", "a"], axis=1), classes=2)
    with pytest.raises(DataError, match="no feature_names beside a DataFrame, got some"):
        TransferSet(FRAME, classes=2, feature_names=["x", "y", "z"])
    shuffled = pandas.Series(TARGETS, index=[2, 0, 1])
    with pytest.raises(DataError, match=r"one index of the DataFrame and of the Series"):
        TransferSet(FRAME, shuffled)
    assert TransferSet(FRAME, shuffled.to_numpy()).hard_targets.tolist() == TARGETS


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["x"], r"each column of inputs .*, got 1 feature_names for inputs \[3, 2\]"),
        (["x", "x"], "feature_names to differ, got 'x' more than once"),
        (["x", 1], r"feature_names as a list of strings, got \['x', 1\]"),
        ("xy", "feature_names as a list of strings, got 'xy'"),
    ],
)
def test_feature_names_that_do_not_fit_are_errors(names, message, shape_hints_off):
    with pytest.raises(DataError, match=message):
        TransferSet(torch.zeros(3, 2), classes=2, feature_names=names)


# Hard targets


@pytest.mark.parametrize(
    "labels",
    [np.array(["b", "a", "b"]), np.array(["b", "a", None], object), pandas.Series([*"bab"])],
)
def test_texts_as_hard_targets_say_how_to_make_indices_of_them(labels):
    with pytest.raises(
        DataError, match=r"got texts such as 'b'; try names, indices = numpy\.uniqu"
    ):
        TransferSet(torch.zeros(3, 2), labels)
    names, indices = np.unique(["b", "a", "b"], return_inverse=True)
    made = TransferSet(torch.zeros(3, 2), indices, class_names=names.tolist())
    assert (made.class_names, made.hard_targets.tolist()) == (("a", "b"), [1, 0, 1])


def test_a_hard_target_that_wraps_around_is_not_none():
    with pytest.raises(DataError, match=r"below 2\*\*63, got 18446744073709551615 at index 1"):
        TransferSet(torch.zeros(2, 1), np.array([0, 2**64 - 1], np.uint64), classes=3)


def test_labels_that_start_at_1_are_told_where_they_are_read():
    class OneBased(torch.utils.data.Dataset):
        def __len__(self):
            return 6

        def __getitem__(self, index):
            return torch.ones(3), index % 3 + 1

    with pytest.raises(DataError, match=r"got none of \[0\]; indices start at 0"):
        from_dataset(OneBased(), target=1)


def test_a_series_of_another_length_is_an_error():
    with pytest.raises(ShapeError, match="one hard target for each example"):
        TransferSet(torch.zeros(2, 1), pandas.Series(TARGETS))
