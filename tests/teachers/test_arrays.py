import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import attar
from attar.errors import DataError, FolderError, ShapeError
from attar.teachers import as_teacher

from .batches import make_batch

SCORES = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
PROBABILITIES = np.exp(SCORES) / np.exp(SCORES).sum(axis=1, keepdims=True)
INDEX = np.array([5, 3, 0, 9, 1, 2])


def ask(teacher, *indices: int) -> torch.Tensor:
    return teacher.logits(make_batch(torch.zeros(len(indices), 1), list(indices)))


def save(path, **columns) -> str:
    """Write columns of lists or numbers to Parquet."""
    pq.write_table(pa.table({name: pa.array(list(each)) for name, each in columns.items()}), path)
    return str(path)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, ">f4"])
def test_rows_are_examples_in_order(kind):
    teacher = as_teacher(SCORES.astype(kind), classes=3, examples=6)
    assert (teacher.classes, teacher.members, teacher.reads_inputs) == (3, None, False)
    torch.testing.assert_close(
        ask(teacher, 4, 0).float(), torch.from_numpy(SCORES[[4, 0]]), atol=2e-3, rtol=1e-3
    )


def test_a_tensor_is_as_good_as_an_array():
    teacher = as_teacher(torch.from_numpy(SCORES).bfloat16().float(), classes=3)
    assert ask(teacher, 1).shape == (1, 3)
    answer = ask(as_teacher(SCORES, classes=3), 1)
    answer.zero_()  # a copy
    assert SCORES[1].any()


def test_each_file_answers_the_same(tmp_path):
    np.save(tmp_path / "a.npy", SCORES)
    np.savez(tmp_path / "a.npz", logits=SCORES)
    np.savez(tmp_path / "p.npz", probabilities=PROBABILITIES)
    np.save(tmp_path / "p.npy", PROBABILITIES)
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(SCORES.ravel()), 3)
    pq.write_table(pa.table({"logits": fixed}), tmp_path / "fixed.parquet")
    save(tmp_path / "lists.parquet", logits=SCORES)
    save(tmp_path / "wide.parquet", a=SCORES[:, 0], b=SCORES[:, 1], c=SCORES[:, 2])
    save(tmp_path / "p.parquet", probabilities=PROBABILITIES)
    for path in sorted(tmp_path.iterdir()):
        answers = "probabilities" if path.name == "p.npy" else None
        teacher = as_teacher(path, classes=3, examples=6, answers=answers)
        logits = ask(teacher, 5, 0, 2)
        torch.testing.assert_close(
            logits.softmax(dim=1), torch.from_numpy(PROBABILITIES[[5, 0, 2]]), msg=path.name
        )


def test_an_index_says_where_rows_belong(tmp_path):
    np.savez(tmp_path / "a.npz", logits=SCORES, index=INDEX)
    save(tmp_path / "a.parquet", index=INDEX, logits=SCORES)
    save(tmp_path / "wide.parquet", a=SCORES[:, 0], index=INDEX, b=SCORES[:, 1], c=SCORES[:, 2])
    for path in sorted(tmp_path.iterdir()):
        teacher = as_teacher(path, classes=3, examples=10)
        logits = ask(teacher, 9, 0, 5)
        torch.testing.assert_close(logits, torch.from_numpy(SCORES[[3, 2, 0]]))
        for absent in (4, 10):
            with pytest.raises(DataError, match=f"with 6 rows has none for example {absent}; was"):
                ask(teacher, 9, absent)


def write_wide(path, names, scores=PROBABILITIES) -> str:
    return save(path, **{name: scores[:, place] for place, name in enumerate(names)})


NAMES = ["cat", "dog", "bee"]


def test_columns_called_as_the_classes_are_matched_by_name(tmp_path):  # they went by position
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    moved = ["dog", "bee", "cat"]
    columns = [NAMES.index(name) for name in moved]
    file = write_wide(tmp_path / "moved.parquet", moved, PROBABILITIES[:, columns])
    np.savez(tmp_path / "moved.npz", probabilities=PROBABILITIES[:, columns], class_names=moved)
    frame = pandas.DataFrame(PROBABILITIES[:, columns], columns=moved)
    frame.insert(1, "index", np.arange(6)[::-1])
    for source in (file, tmp_path / "moved.npz", frame, frame.iloc[::-1]):
        teacher = as_teacher(source, class_names=NAMES, examples=6, answers="probabilities")
        places = [5, 0, 2] if not isinstance(source, pandas.DataFrame) else [0, 5, 3]
        torch.testing.assert_close(
            ask(teacher, *places).exp().float(), torch.from_numpy(PROBABILITIES[[5, 0, 2]])
        )


def test_the_order_of_the_classes_is_in_the_fingerprint_of_named_columns(tmp_path):
    file = write_wide(tmp_path / "a.parquet", NAMES)
    orders = [NAMES, ["dog", "cat", "bee"], ["0", "1", "2"]]
    made = [as_teacher(file, class_names=names).fingerprint() for names in orders]
    assert made[0] == made[2] != made[1]


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (["dog", "bee", "cow"], r"lacks \['cat'\] and has \['cow'\]; rename its columns"),
        (
            ["x", "y", "z"],
            r"\['cat', 'dog', 'bee'\], got \['x', 'y', 'z'\] .* pass only the val",
        ),
        (["id", *NAMES], r"lacks \[\] and has \['id'\]; .* remove those that are not classes"),
    ],
)
def test_columns_of_other_names_are_not_taken_by_position(tmp_path, columns, told):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    scores = np.zeros((6, len(columns)))
    for source in (
        write_wide(tmp_path / "a.parquet", columns, scores),
        pandas.DataFrame(scores, columns=columns),
    ):
        with pytest.raises(DataError, match=told):
            as_teacher(source, class_names=NAMES)


def test_names_are_not_compared_where_one_side_has_numbers(tmp_path):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    numbered = pandas.DataFrame(SCORES)  # columns 0, 1, 2
    named = write_wide(tmp_path / "a.parquet", ["x", "y", "z"], SCORES)
    moved = pandas.DataFrame(SCORES[:, ::-1], columns=[2, 1, 0])
    for source, names in ((numbered, NAMES), (named, ["0", "1", "2"]), (moved, ["0", "1", "2"])):
        logits = ask(as_teacher(source, class_names=names, examples=6), 3, 1)
        torch.testing.assert_close(logits, torch.from_numpy(SCORES[[3, 1]]))


def test_tables_that_hold_no_scores_are_errors():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    with pytest.raises(
        DataError, match=r"one column of numbers per class in the DataFrame, got {'cat': '"
    ):
        as_teacher(pandas.DataFrame({"cat": ["a"], "dog": [1.0]}), class_names=["cat", "dog"])
    twice = pandas.DataFrame([[1.0, 2.0]], columns=["cat", "cat"])
    with pytest.raises(DataError, match=r"columns with different names in the DataFrame"):
        as_teacher(twice, class_names=["cat", "dog"])
    with pytest.raises(ShapeError, match="7 examples, got 6 rows in the DataFrame"):
        as_teacher(pandas.DataFrame(SCORES), classes=3, examples=7)


def test_slices_of_parquet_row_groups_stay_in_order(tmp_path):
    table = pa.table({"logits": pa.array(list(SCORES))})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    logits = ask(as_teacher(tmp_path / "a.parquet", classes=3), *range(6))
    torch.testing.assert_close(logits, torch.from_numpy(SCORES))


def test_an_example_without_a_row_is_named():
    with pytest.raises(DataError, match="the array with 6 rows has none for example 6; was it"):
        ask(as_teacher(SCORES, classes=3), 0, 6, 8)


def test_the_fingerprint_is_of_the_bytes(tmp_path):
    np.save(tmp_path / "a.npy", SCORES)
    np.save(tmp_path / "b.npy", SCORES)
    np.save(tmp_path / "c.npy", SCORES + 1)
    files = [as_teacher(tmp_path / f"{name}.npy", classes=3).fingerprint() for name in "abc"]
    assert files[0] == files[1] != files[2]
    as_probabilities = as_teacher(tmp_path / "a.npy", classes=3, answers="probabilities")
    assert as_probabilities.fingerprint() != files[0]
    arrays = [as_teacher(each, classes=3).fingerprint() for each in (SCORES, SCORES, SCORES + 1)]
    assert arrays[0] == arrays[1] != arrays[2]


def test_sizes_that_do_not_fit_name_both_sides():
    with pytest.raises(ShapeError, match="transfer set's 4 classes, got one of 3: the array"):
        as_teacher(SCORES, classes=4)
    with pytest.raises(ShapeError, match="transfer set's 7 examples, got 6 rows in the array; add"):
        as_teacher(SCORES, classes=3, examples=7)
    with pytest.raises(ShapeError, match=r"got \[6, 3, 1\] in the array; an ensemble is a list"):
        as_teacher(SCORES[:, :, None], classes=3)
    with pytest.raises(DataError, match="scores of floats, got int64 in the array"):
        as_teacher(SCORES.astype(np.int64), classes=3)


@pytest.mark.parametrize(
    ("index", "told"),
    [
        ([5, 3, 0, 9, 1, 5], "each position once .* got 5 twice"),
        ([5, 3, 0, -9, 1, 2], "positions >= 0"),
        ([5, 3, 0], r"index of 6 integers, one for each row, got int64 \[3\]"),
        ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], r"index of 6 integers, .* got float64 \[6\]"),
    ],
)
def test_an_index_that_does_not_fit_is_an_error(tmp_path, index, told):
    np.savez(tmp_path / "a.npz", logits=SCORES, index=np.array(index))
    with pytest.raises(DataError, match=told):
        as_teacher(tmp_path / "a.npz", classes=3)


def test_files_of_other_columns_are_errors(tmp_path):
    np.savez(tmp_path / "a.npz", scores=SCORES)
    with pytest.raises(DataError, match=r"either logits or probabilities .* got \['scores'\]"):
        as_teacher(tmp_path / "a.npz", classes=3)
    np.savez(tmp_path / "a.npz", logits=SCORES, probabilities=SCORES)
    with pytest.raises(DataError, match=r"either logits or probabilities .* got \['logits', 'pro"):
        as_teacher(tmp_path / "a.npz", classes=3)
    for columns in ({"a": list("abcdef")}, {"index": INDEX}):
        with pytest.raises(DataError, match="one column of numbers per class"):
            as_teacher(save(tmp_path / "a.parquet", **columns), classes=3)
    with pytest.raises(DataError, match=r"lists in column logits .* got double"):
        as_teacher(save(tmp_path / "a.parquet", logits=[1.0, 2.0]), classes=3)
    with pytest.raises(
        DataError, match=r"lists of the same length in column logits .* got \[1, 2\]"
    ):
        as_teacher(save(tmp_path / "a.parquet", logits=[[1.0], [1.0, 2.0]]), classes=3)
    for nulls in ([[1.0, None, 2.0]], [[1.0, 2.0, 3.0], None]):
        with pytest.raises(DataError, match=r"expected no nulls in .* got 1"):
            as_teacher(save(tmp_path / "a.parquet", logits=nulls), classes=3)
    twice = pa.Table.from_arrays([pa.array([1.0]), pa.array([2.0])], names=["a", "a"])
    pq.write_table(twice, tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"columns with different names .* got \['a', 'a'\]"):
        as_teacher(tmp_path / "a.parquet", classes=2)


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.parquet"])
def test_damaged_files_are_named(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"PK\3\4 nothing of the kind")
    with pytest.raises(DataError, match=rf"{name} is damaged or is not a"):
        as_teacher(path, classes=3)
    path.write_bytes(b"")
    with pytest.raises(DataError, match=rf"{name} is damaged or is not a"):
        as_teacher(path, classes=3)


def test_nothing_is_unpickled(tmp_path):
    objects = np.array([{"a": 1}, None], dtype=object)
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "a.npz", logits=objects)
    for name, told in {"a.npy": "Python objects in dtype", "a.npz": "Object arrays"}.items():
        with pytest.raises(DataError, match=told):
            as_teacher(tmp_path / name, classes=3)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(DataError, match=r"got .*folder\.npy"):
        as_teacher(tmp_path / "folder.npy", classes=3)
    (tmp_path / "loop.npy").symlink_to(tmp_path / "loop.npy")
    with pytest.raises(FolderError, match=r"cannot read .*loop\.npy"):
        as_teacher(tmp_path / "loop.npy", classes=3)


def test_a_bfloat16_tensor_of_scores_is_a_teacher():
    scores = torch.tensor([[1.0, 2.0], [3.0, 0.5]])
    for given in (scores.bfloat16(), scores.to_sparse()):
        teacher = as_teacher(given, classes=2)
        found = teacher.logits(
            attar.TransferSet(torch.zeros(2, 1), classes=2).batch(torch.arange(2))
        )
        torch.testing.assert_close(found, scores)


def test_masked_scores_are_refused():
    scores = np.ma.masked_array(np.ones((2, 2)), [[True, False], [False, False]])
    with pytest.raises(DataError, match="got a masked array; fill it in"):
        as_teacher(scores, classes=2)
