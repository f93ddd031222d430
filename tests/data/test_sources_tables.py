"""Tables and arrays into transfer sets: columns.py, labels.py, tables.py."""

import re
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from attar.data import TransferSet, read_arrays, read_table
from attar.errors import DataError, FolderError, ShapeError

CSV = "length,width,species\n5.1,3.5,setosa\n6.3,3.3,virginica\n7.0,3.2,\n"


def write_csv(tmp_path, text):
    path = tmp_path / "a.csv"
    path.write_text(text, encoding="utf-8")
    return path


def write_parquet(tmp_path, **columns):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=2)
    return path


def inputs_of(transfer: TransferSet) -> list:
    return transfer.batch(torch.arange(len(transfer))).inputs.tolist()


# Columns of numbers


def test_a_csv_by_hand(tmp_path):
    transfer = read_table(write_csv(tmp_path, CSV), target="species")
    assert transfer.class_names == ("setosa", "virginica")
    assert transfer.hard_targets.tolist() == [0, 1, -1]
    torch.testing.assert_close(transfer.inputs, torch.tensor([[5.1, 3.5], [6.3, 3.3], [7.0, 3.2]]))


def test_all_formats_give_one_set(tmp_path):
    columns = {"x": [1, 2, 3], "ok": [True, False, True], "y": [0.5, -1.0, 2.0], "c": list("bab")}
    paths = [write_parquet(tmp_path, **columns)]
    rows = [",".join(map(str, row)) for row in zip(*columns.values(), strict=True)]
    text = "\n".join([",".join(columns), *rows])
    paths.append(write_csv(tmp_path, text))
    paths.append(tmp_path / "a.tsv")
    paths[-1].write_text(text.replace(",", "\t"))
    sets = [read_table(str(path), target="c") for path in paths]
    assert len({each.fingerprint() for each in sets}) == 1
    assert inputs_of(sets[0]) == [[1.0, 1.0, 0.5], [2.0, 0.0, -1.0], [3.0, 1.0, 2.0]]


def test_inputs_chooses_columns_and_their_order(tmp_path):
    path = write_parquet(tmp_path, a=[1, 2], b=[3, 4], name=["x", "y"], c=[0, 1])
    assert inputs_of(read_table(path, target="c", inputs=["b", "a"])) == [[3.0, 1.0], [4.0, 2.0]]
    assert inputs_of(read_table(path, target="c", inputs="a")) == [[1.0], [2.0]]


def test_columns_of_bytes_are_numbers_and_not_scaled(tmp_path):
    path = write_parquet(tmp_path, a=pa.array([0, 255], pa.uint8()), c=[0, 1])
    assert inputs_of(read_table(path, target="c")) == [[0.0], [255.0]]


def test_a_set_without_hard_targets(tmp_path):
    path = write_parquet(tmp_path, a=[1.0, 2.0])
    transfer = read_table(path, target=None, classes=3)
    assert transfer.hard_targets.tolist() == [-1, -1]
    assert read_table(path, target=None, class_names=["x", "y"]).class_names == ("x", "y")
    with pytest.raises(DataError, match=r"class_names= or classes=, as a\.parquet has no hard tar"):
        read_table(path, target=None)


# Lists


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (pa.list_(pa.float64()), torch.float32),
        (pa.list_(pa.float32(), 2), torch.float32),
        (pa.large_list(pa.float16()), torch.float32),
        (pa.list_(pa.uint8()), torch.uint8),
        (pa.list_(pa.int32()), torch.int64),
    ],
)
def test_a_column_of_lists_keeps_its_kind_of_numbers(tmp_path, kind, expected):
    values = [np.array(each, dtype=kind.value_type.to_pandas_dtype()) for each in ([1, 2], [3, 4])]
    path = write_parquet(tmp_path, pixels=pa.array(values * 2, kind), c=[0, 1, 1, 0])
    transfer = read_table(path, target="c")
    assert transfer.inputs.dtype == expected
    assert transfer.inputs.tolist() == [[1, 2], [3, 4], [1, 2], [3, 4]]


def test_lists_of_lists_are_axes(tmp_path):
    images = np.arange(24).reshape(3, 2, 4)
    path = write_parquet(tmp_path, image=pa.array(images.tolist()), c=[0, 1, 1])
    assert torch.equal(read_table(path, target="c").inputs, torch.from_numpy(images))


def test_token_ids_are_padded_to_the_longest(tmp_path):
    path = write_parquet(tmp_path, ids=[[5, 6, 7], [8], [], [9, 1]], c=[0, 1, 1, 0])
    transfer = read_table(path, target="c", padding=1)
    assert inputs_of(transfer) == [[5, 6, 7], [8, 1, 1], [1, 1, 1], [9, 1, 1]]
    assert transfer.batch(torch.arange(2)).inputs.dtype == torch.int64


def test_an_attention_mask_must_agree_with_the_padding_token(tmp_path):
    ids, names = [[5, 6, 7], [8, 0]], ["cat", "dog"]
    path = write_parquet(tmp_path, input_ids=ids, attention_mask=[[1, 1, 1], [1, 0]], c=names)
    transfer = read_table(path, inputs="input_ids", target="c", padding=0)
    assert transfer.inputs.tolist() == [[5, 6, 7], [8, 0, 0]]
    path = write_parquet(tmp_path, input_ids=ids, attention_mask=[[1, 1, 0], [1, 0]], c=names)
    with pytest.raises(DataError, match=r"0 at the padding token 0 alone, got another .* row 0 of"):
        read_table(path, inputs="input_ids", target="c", padding=0)
    ids = [[5, 6], [8, 0]]
    path = write_parquet(tmp_path, input_ids=ids, attention_mask=[[1, 1], [1, 0]], c=names)
    with pytest.raises(DataError, match=r"padding token None alone, .* row 1 .*: give padding="):
        read_table(path, inputs="input_ids", target="c")


def test_padding_inside_a_text_is_an_error(tmp_path):
    path = write_parquet(tmp_path, ids=[[0, 5, 6], [5, 0, 6]], c=[0, 1])
    with pytest.raises(DataError, match=r"got it between them in row 1; pass another padding="):
        read_table(path, target="c", padding=0)


def test_ragged_lists_name_the_row(tmp_path):
    path = write_parquet(tmp_path, ids=[[1, 2], [3, 4], [5]], c=[0, 1, 1])
    with pytest.raises(
        DataError, match=r"column 'ids' of .*, got 2 in row 0 and 1 in row 2; .*pad"
    ):
        read_table(path, target="c")
    path = write_parquet(tmp_path, ids=[[[1.0], [2.0]], [[3.0], [4.0, 5.0]]], c=[0, 1])
    with pytest.raises(DataError, match="got 1 in row 0 and 2 in row 1"):
        read_table(path, target="c", padding=0)


def test_lists_beside_other_columns_ask_for_a_choice(tmp_path):
    path = write_parquet(tmp_path, a=[1.0, 2.0], ids=[[1], [2]], c=[0, 1])
    with pytest.raises(DataError, match=r"one column of lists, .* got 'a', 'ids'; give inputs="):
        read_table(path, target="c")


# Hard targets


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_names_become_classes_in_their_order(tmp_path, kind):
    names = pa.array(["dog", None, "cat", "dog"], kind)
    for labels in (names, names.cast(pa.string()).dictionary_encode()):
        path = write_parquet(tmp_path, a=[1.0, 2.0, 3.0, 4.0], c=labels)
        transfer = read_table(path, target="c")
        assert transfer.class_names == ("cat", "dog")
        assert transfer.hard_targets.tolist() == [1, -1, 0, 1]
        transfer = read_table(path, target="c", class_names=["dog", "bee", "cat"])
        assert transfer.hard_targets.tolist() == [0, -1, 2, 0]


def test_a_name_that_is_no_class_is_told_with_its_row(tmp_path):
    path = write_parquet(tmp_path, a=[1.0, 2.0, 3.0], c=["dog", "cow", "cow"])
    with pytest.raises(
        DataError, match=r"the classes 'dog', 'cat', got 'cow' in column 'c' .*row 1"
    ):
        read_table(path, target="c", class_names=["dog", "cat"])
    with pytest.raises(DataError, match="expected 3 class_names as classes says, got 2"):
        read_table(path, target="c", classes=3)


def test_truth_values_and_indices_are_classes(tmp_path):
    path = write_parquet(tmp_path, a=[1.0, 2.0, 3.0], c=[True, None, False])
    transfer = read_table(path, target="c")
    assert (transfer.class_names, transfer.hard_targets.tolist()) == (("false", "true"), [1, -1, 0])
    path = write_parquet(tmp_path, a=[1.0, 2.0, 3.0], c=[1, None, 0])
    transfer = read_table(path, target="c")
    assert (transfer.class_names, transfer.hard_targets.tolist()) == (("0", "1"), [1, -1, 0])


def test_indices_with_gaps_ask_how_many_classes_there_are(tmp_path):
    path = write_parquet(tmp_path, a=[1.0, 2.0, 3.0], c=[1, 4, 2])
    with pytest.raises(
        DataError, match=r"0\.\.4 in column 'c' of a\.parquet, got none of \[0, 3\]"
    ):
        read_table(path, target="c")
    assert read_table(path, target="c", classes=5).classes == 5
    assert read_table(path, target="c", class_names=list("abcde")).classes == 5
    with pytest.raises(DataError, match=r"in 0\.\.2, or -1 for none, got 4 at index 1"):
        read_table(path, target="c", classes=3)


def test_targets_of_another_type_are_an_error(tmp_path):
    path = write_parquet(tmp_path, a=[1.0, 2.0], c=[0.5, 1.0])
    with pytest.raises(DataError, match=r"truth values in column 'c' of .*, got double; turn them"):
        read_table(path, target="c")
    path = write_parquet(tmp_path, a=[1.0, 2.0], c=pa.array([None, None], pa.string()))
    with pytest.raises(DataError, match=r"expected class names in .* got none; pass class_names="):
        read_table(path, target="c")


# Columns that do not fit


def test_missing_columns_list_those_that_are_there(tmp_path):
    path = write_csv(tmp_path, CSV)
    with pytest.raises(
        DataError, match=r"'label' of hard targets in a\.csv, got 'length', 'width'"
    ):
        read_table(path, target="label")
    with pytest.raises(
        DataError, match=r"which are 'length', .*, got column 'height'; give inputs"
    ):
        read_table(path, target="species", inputs=["width", "height"])
    for inputs in ([], ["species"]):
        with pytest.raises(DataError, match=r"as inputs, 'species' as target; give inputs="):
            read_table(path, target="species", inputs=inputs)


def test_columns_that_come_twice_are_an_error(tmp_path):
    path = write_csv(tmp_path, "a,b,a\n1,2,3\n")
    with pytest.raises(DataError, match=r"different names in a\.csv, got 'a' twice"):
        read_table(path, target="b")
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"different names in a\.parquet, got 'a' twice"):
        read_table(tmp_path / "a.parquet", target="a")


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (["x", "y"], "string"),
        (pa.array([0, 1], pa.timestamp("ms")), r"timestamp\[ms\]"),
        ([{"a": 1}, {"a": 2}], "struct<a: int64>"),
        ([["x"], ["y"]], "string"),
    ],
)
def test_columns_of_another_type_are_named(tmp_path, column, kind):
    path = write_parquet(tmp_path, a=column, c=[0, 1])
    with pytest.raises(
        DataError, match=rf"numbers in column 'a' of .*, got {kind}; turn them into"
    ):
        read_table(path, target="c")


@pytest.mark.parametrize("column", [[1.0, None], [[1.0], None], [[1.0], [None]], [[1], [None]]])
def test_values_that_are_missing_name_column_and_row(tmp_path, column):
    path = write_parquet(tmp_path, a=column, c=[0, 1])
    with pytest.raises(DataError, match=r"everywhere in column 'a' of .*, got none in row 1; fill"):
        read_table(path, target="c", padding=0)


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), 1e39])
def test_values_that_are_not_finite_name_column_and_row(tmp_path, value):
    path = write_parquet(tmp_path, a=[1.0, 2.0], b=[0.0, value], c=[0, 1])
    told = re.escape(str(value))
    with pytest.raises(DataError, match=rf"in column 'b' of a\.parquet, got {told} in row 1; drop"):
        read_table(path, target="c")
    path = write_parquet(tmp_path, a=[[1.0], [float("nan")]], c=[0, 1])
    with pytest.raises(DataError, match="got nan in example 1"):
        read_table(path, target="c")


# Files that do not fit


def test_files_without_rows_are_an_error(tmp_path):
    with pytest.raises(DataError, match=r"one row or more in a\.csv, got none"):
        read_table(write_csv(tmp_path, "a,b\n"), target="b")
    path = write_parquet(tmp_path, a=pa.array([], pa.float32()), b=pa.array([], pa.int64()))
    with pytest.raises(DataError, match=r"one row or more in a\.parquet, got none"):
        read_table(path, target="b")


def test_damaged_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"a\.csv is damaged .*: .*Expected 2 columns, got 3"):
        read_table(write_csv(tmp_path, "a,b\n1,2\n1,2,3\n"), target="b")
    with pytest.raises(DataError, match=r"a\.csv is damaged or is not a"):
        read_table(write_csv(tmp_path, ""), target="b")
    path = write_parquet(tmp_path, a=[1.0, 2.0], c=[0, 1])
    content = path.read_bytes()
    for damaged in (b"", b"PAR1 nothing of the kind", content[: len(content) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"a\.parquet is damaged or is not a"):
            read_table(path, target="c")


def test_files_of_another_kind_are_an_error(tmp_path):
    with pytest.raises(FolderError, match=r"cannot read .*gone\.csv: .*"):
        read_table(tmp_path / "gone.csv", target="c")
    (tmp_path / "a.xlsx").write_bytes(b"")
    with pytest.raises(DataError, match=r"a \.parquet, \.csv or \.tsv file, got .*a\.xlsx"):
        read_table(tmp_path / "a.xlsx", target="c")
    with pytest.raises(DataError, match=r"a \.npz or \.npy file, got .*a\.xlsx"):
        read_arrays(tmp_path / "a.xlsx")


# NumPy's files


def test_arrays_of_a_file(tmp_path):
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    np.savez(tmp_path / "a.npz", inputs=pixels, hard_targets=np.array([1, -1, 0]))
    transfer = read_arrays(str(tmp_path / "a.npz"))
    expected = TransferSet(pixels, np.array([1, -1, 0]))
    assert transfer.fingerprint() == expected.fingerprint()
    np.savez(tmp_path / "b.npz", x=pixels, y=np.array(["b", "a", "b"]))
    named = read_arrays(tmp_path / "b.npz", inputs="x", target="y")
    assert (named.class_names, named.hard_targets.tolist()) == (("a", "b"), [1, 0, 1])
    np.savez(tmp_path / "c.npz", inputs=pixels, hard_targets=np.zeros(3, int), class_names=["x"])
    assert read_arrays(tmp_path / "c.npz").class_names == ("x",)
    assert read_arrays(tmp_path / "c.npz", target=None, classes=None).hard_targets.max() == -1


def test_inputs_alone_stay_on_disk(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((3, 2), np.float32))
    transfer = read_arrays(tmp_path / "a.npy", target=None, classes=2)
    assert (len(transfer), transfer.hard_targets.tolist()) == (3, [-1, -1, -1])
    with pytest.raises(
        DataError, match=r"'hard_targets' in a\.npy, got inputs alone; .*target=None"
    ):
        read_arrays(tmp_path / "a.npy", classes=2)


def test_arrays_that_do_not_fit_are_errors(tmp_path):
    def save(**arrays):
        np.savez(tmp_path / "a.npz", **arrays)
        return tmp_path / "a.npz"

    inputs, targets = np.zeros((3, 2), np.float32), np.array([0, 1, 0])
    with pytest.raises(DataError, match=r"an array 'inputs' in a\.npz, got 'x', 'y'; give inputs="):
        read_arrays(save(x=inputs, y=targets))
    with pytest.raises(DataError, match=r"array 'hard_targets' in a\.npz, got 'inputs', 'y'"):
        read_arrays(save(inputs=inputs, y=targets))
    for wrong in (targets[:, None], targets.astype(float)):
        with pytest.raises(DataError, match=r"names \[examples\] as array 'hard_targets' .* got"):
            read_arrays(save(inputs=inputs, hard_targets=wrong))
    with pytest.raises(ShapeError, match=r"inputs \[3, 2\], hard_targets \[2\]"):
        read_arrays(save(inputs=inputs, hard_targets=targets[:2]))
    with pytest.raises(DataError, match=r"got nan in example 0"):
        read_arrays(save(inputs=inputs * np.nan, hard_targets=targets))
    with pytest.raises(DataError, match=r"Object arrays cannot be loaded"):
        read_arrays(save(inputs=np.array([None]), hard_targets=targets))
    (tmp_path / "a.npz").write_bytes(b"PK\3\4 nothing")
    with pytest.raises(DataError, match=r"a\.npz is damaged or is not a"):
        read_arrays(tmp_path / "a.npz")


def test_a_file_may_lack_hard_targets_if_that_is_said(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", inputs=np.zeros((2, 3), np.float32))
    transfer = read_arrays(tmp_path / "a.npz", classes=3, may_lack_target=True)
    assert (transfer.classes, transfer.hard_targets.tolist()) == (3, [-1, -1])
    with pytest.raises(DataError, match=r"class_names= or classes=, as a\.npz has no hard targets"):
        read_arrays(tmp_path / "a.npz", may_lack_target=True)
    np.savez(tmp_path / "a.npz", inputs=np.zeros((2, 3), np.float32), hard_targets=[1, 0])
    assert read_arrays(tmp_path / "a.npz", may_lack_target=True).hard_targets.tolist() == [1, 0]


@pytest.mark.parametrize("kept", [0, 10, 300])
def test_a_truncated_file_of_arrays_is_refused(tmp_path, kept):
    np.savez(tmp_path / "a.npz", inputs=np.zeros((2, 2), np.uint8), hard_targets=[0, 1])
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:kept])
    with pytest.raises(DataError, match=r"a\.npz is damaged or is not a"):
        read_arrays(tmp_path / "a.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_flipped_byte_of_an_array_is_found(tmp_path, save):
    pixels = np.random.default_rng(0).integers(256, size=(50, 50)).astype(np.uint8)
    save(tmp_path / "a.npz", inputs=pixels, hard_targets=np.arange(50))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[1000] ^= 255
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.npz is damaged or is not a"):
        read_arrays(tmp_path / "a.npz")


# Names of columns


def test_the_columns_of_numbers_are_the_feature_names(tmp_path):
    path = write_parquet(tmp_path, a=[1, 2], b=[3, 4], c=[0, 1], d=[5, 6])
    assert read_table(path, target="c").feature_names == ("a", "b", "d")
    assert read_table(path, target="c", inputs=["d", "a"]).feature_names == ("d", "a")
    assert read_table(path, target="c", inputs="b").feature_names == ("b",)
    assert read_table(path, target="c", ignore="a").feature_names == ("b", "d")
    path = write_parquet(tmp_path, a=[[1], [2]], c=[0, 1])
    assert read_table(path, target="c").feature_names is None


def test_columns_are_ignored_if_they_are_there(tmp_path):
    path = write_parquet(tmp_path, a=[1, 2], name=["x", "y"], c=[0, 1])
    assert inputs_of(read_table(path, target="c", ignore=["name"])) == [[1.0], [2.0]]
    with pytest.raises(DataError, match=r"ignore= to name some of 'a', 'name', 'c' of .*, got 'x'"):
        read_table(path, target="c", ignore="x")


def test_an_input_that_comes_twice_is_an_error(tmp_path):
    path = write_parquet(tmp_path, a=[1, 2], b=[3, 4], c=[0, 1])
    with pytest.raises(DataError, match="expected different columns as inputs, got 'a', 'b', 'a'"):
        read_table(path, target="c", inputs=["a", "b", "a"])


# Columns beside token ids


IDS, ONES = [[2, 5, 3], [2, 6, 3]], [[1, 1, 1], [1, 1, 1]]


@pytest.mark.parametrize(
    "name", ["token_type_ids", "position_ids", "bbox", "global_attention_mask", "pixel_values"]
)
def test_further_inputs_of_a_model_are_not_dropped_silently(tmp_path, name):
    path = write_parquet(
        tmp_path, input_ids=IDS, attention_mask=ONES, **{name: [[0, 0, 0], [0, 1, 1]]}, c=[0, 1]
    )
    told = rf"one tensor of inputs .* got also '{name}', .* ignore=\['{name}'\]\. .* attar\.label\("
    with pytest.raises(DataError, match=told):
        read_table(path, target="c", inputs="input_ids")
    assert read_table(path, target="c", inputs="input_ids", ignore=name).inputs.tolist() == IDS


def test_token_types_that_are_all_0_change_nothing_and_other_columns_are_no_inputs(tmp_path):
    path = write_parquet(
        tmp_path,
        input_ids=IDS,
        token_type_ids=[[0, 0, 0], [0, 0, 0]],
        special_tokens_mask=ONES,
        text=["a", "b"],
        c=[0, 1],
    )
    assert read_table(path, target="c", inputs="input_ids").inputs.tolist() == IDS


def test_an_attention_mask_of_other_lengths_is_an_error(tmp_path):
    for mask in ([[1, 1, 1], [1, 1]], [[1, 1, 1, 0], [1, 1, 1, 0]]):
        path = write_parquet(tmp_path, input_ids=IDS, attention_mask=mask, c=[0, 1])
        with pytest.raises(DataError, match="attention_mask to be as long as the inputs"):
            read_table(path, target="c", inputs="input_ids", padding=0)
    path = write_parquet(tmp_path, input_ids=IDS, attention_mask=[[1, 1, 1], None], c=[0, 1])
    with pytest.raises(DataError, match="a value everywhere in column 'attention_mask'"):
        read_table(path, target="c", inputs="input_ids", padding=0)


def test_a_mask_of_inputs_that_are_no_token_ids_cannot_be_passed_on(tmp_path):
    sounds, masks = [[0.5, 0.1], [0.2, 0.0]], [[1, 1], [1, 0]]
    path = write_parquet(tmp_path, input_values=sounds, attention_mask=masks, c=[0, 1])
    with pytest.raises(DataError, match=r"to be 1 everywhere in .*ignore=\[.attention_mask.\]"):
        read_table(path, target="c", inputs="input_values")
    read_table(path, target="c", inputs="input_values", ignore="attention_mask")
    path = write_parquet(tmp_path, embedding=sounds, attention_mask=masks, input_ids=IDS, c=[0, 1])
    assert read_table(path, target="c", inputs="embedding").inputs.shape == (2, 2)  # of no model


def test_further_inputs_of_a_model_in_arrays_are_not_dropped_silently(tmp_path):
    path, ids = tmp_path / "a.npz", np.array([[2, 5, 0], [2, 6, 3]])

    def save(**more):
        np.savez(path, inputs=ids, hard_targets=np.array([0, 1]), **more)

    save(token_type_ids=ids * 0, attention_mask=np.ones((2, 3)), other=np.ones(1))
    assert read_arrays(path).inputs.tolist() == ids.tolist()
    for name in ("token_type_ids", "position_ids"):
        save(**{name: ids})
        with pytest.raises(DataError, match=rf"one tensor of inputs .* got also '{name}', which"):
            read_arrays(path)
        assert read_arrays(path, ignore=name).inputs.tolist() == ids.tolist()
    save(attention_mask=ids != 0)
    assert read_arrays(path, padding=0).inputs.tolist() == ids.tolist()
    with pytest.raises(
        DataError, match="0 at the padding token None alone, got another mask in row"
    ):
        read_arrays(path)
    save(attention_mask=np.ones((2, 2)))
    with pytest.raises(DataError, match=r"attention_mask of the shape \[2, 3\] in a\.npz, got \[2"):
        read_arrays(path)
    np.savez(path, inputs=ids / 2, hard_targets=np.array([0, 1]), token_type_ids=ids)  # no tokens
    assert read_arrays(path).inputs.shape == (2, 3)


# Files that come up in practice


def test_a_csv_in_latin_1_asks_for_utf_8(tmp_path):
    (tmp_path / "a.csv").write_bytes("Größe,c\n1,0\n2,1\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"column names in UTF-8 in a\.csv, .*; save the file in U"):
        read_table(tmp_path / "a.csv", target="c")
    (tmp_path / "a.csv").write_bytes("a,c\n1,Größe\n2,klein\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"got binary; turn them into integers or texts in UTF-8"):
        read_table(tmp_path / "a.csv", target="c")


def test_arrays_that_claim_more_than_there_is_are_damaged(tmp_path):
    def write(shape, name, version=None):
        header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
        content = b"\x93NUMPY\x01\x00v\x00" + header.encode()
        path = tmp_path / name
        if name.endswith(".npy"):
            path.write_bytes(content + bytes(24))
            return path
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("inputs.npy", content + bytes(24))
        return path

    for shape in ("(5, 10**15)", "(5, 1000000000000000)", "(1.5,)", "(", "(-1,)"):
        for name in ("a.npz", "a.npy"):
            with pytest.raises(DataError, match=r"a\.np. is damaged or is not a"):
                read_arrays(write(shape, name), target=None, classes=2)


def test_targets_that_are_no_class_indices_are_errors(tmp_path):
    inputs = np.zeros((2, 1), np.float32)
    np.savez(tmp_path / "a.npz", inputs=inputs, hard_targets=np.array([b"\xff", b"a"]))
    with pytest.raises(
        DataError, match="class names in ASCII in the bytes of array 'hard_targets'"
    ):
        read_arrays(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", inputs=inputs, hard_targets=np.array([2**63, 0], np.uint64))
    with pytest.raises(DataError, match="expected class indices in array 'hard_targets'"):
        read_arrays(tmp_path / "a.npz")


def test_class_names_of_bytes_are_read_as_texts(tmp_path):
    names = np.array([b"cat", b"dog"])
    np.savez(tmp_path / "a.npz", inputs=np.zeros((2, 1), np.float32), class_names=names)
    assert read_arrays(tmp_path / "a.npz", target=None).class_names == ("cat", "dog")
