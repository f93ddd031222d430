import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.data import Batch, Jitter, TransferSet
from attar.errors import DataError, ShapeError

EXAMPLES = 40
INDICES = st.lists(st.integers(0, EXAMPLES - 1), min_size=1, max_size=60).map(torch.tensor)


def make_set(**changes) -> TransferSet:
    """Forty small images, expected different temperatures, in three classes and one without."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(0, 256, (EXAMPLES, 5, 6), generator=generator, dtype=torch.uint8)
    hard_targets = torch.arange(EXAMPLES) % 4 - 1
    return TransferSet(inputs, hard_targets, **{"views": Jitter(pixels=2, seed=3), **changes})


def make_unlabeled(inputs) -> TransferSet:
    return TransferSet(inputs, classes=2)


def same(one: Batch, other: Batch) -> bool:
    return torch.equal(one.inputs, other.inputs) and torch.equal(
        one.hard_targets, other.hard_targets
    )


def pick(batch: Batch, order: torch.Tensor) -> Batch:
    return Batch(batch.inputs[order], batch.hard_targets[order], batch.indices[order])


# Batches


def test_a_batch_by_hand():
    pixels = np.array([[0, 255], [51, 102], [1, 2]], dtype=np.uint8)
    batch = TransferSet(pixels, np.array([2, -1, 0])).batch(torch.tensor([1, 0]))
    torch.testing.assert_close(batch.inputs, torch.tensor([[0.2, 0.4], [0.0, 1.0]]))
    assert batch.hard_targets.tolist() == [-1, 2]
    assert batch.indices.tolist() == [1, 0]


@given(order=st.permutations(range(EXAMPLES)), view=st.integers(0, 5))
@settings(max_examples=30)
def test_the_order_of_a_batch_changes_nothing(order, view):
    order, transfer = torch.tensor(order), make_set()
    plain = transfer.batch(torch.arange(EXAMPLES), view)
    shuffled = transfer.batch(order, view)
    assert same(pick(shuffled, torch.argsort(order)), plain)
    assert torch.equal(shuffled.indices, order)


@given(first=INDICES, second=INDICES, view=st.integers(0, 5))
def test_batches_join(first, second, view):
    transfer = make_set()
    joined = transfer.batch(torch.cat([first, second]), view)
    parts = [transfer.batch(first, view), transfer.batch(second, view)]
    assert torch.equal(joined.inputs, torch.cat([part.inputs for part in parts]))
    assert torch.equal(joined.hard_targets, torch.cat([part.hard_targets for part in parts]))


@given(indices=INDICES, view=st.integers(0, 5))
@settings(max_examples=20)
def test_the_same_arguments_give_the_same_bytes(indices, view):
    assert same(make_set().batch(indices, view), make_set().batch(indices, view))


def test_view_zero_is_the_plain_example_and_calls_no_view():
    def fail(inputs, example_ids, view):
        raise AssertionError("view 0 was made by the views")

    indices = torch.arange(EXAMPLES)
    plain = make_set(views=None).batch(indices)
    assert same(make_set(views=fail).batch(indices), plain)
    assert same(make_set(views=fail).batch(indices, 0), plain)


def test_views_see_stored_inputs_ids_and_number():
    seen = []

    def remember(inputs, example_ids, view):
        seen.append((inputs.dtype, example_ids.tolist(), view))
        return 255 - inputs

    transfer = make_set(views=remember)
    batch = transfer.batch(torch.tensor([4, 2]), view=9)
    assert seen == [(torch.uint8, [4, 2], 9)]
    torch.testing.assert_close(batch.inputs, 1 - transfer.batch(torch.tensor([4, 2])).inputs)


def test_with_views_replaces_them_and_leaves_the_old_set():
    transfer, indices = make_set(), torch.arange(EXAMPLES)
    other = transfer.with_views(Jitter(pixels=1, seed=8))
    assert other.views == Jitter(pixels=1, seed=8)
    assert transfer.views == Jitter(pixels=2, seed=3)
    assert not same(other.batch(indices, 1), transfer.batch(indices, 1))
    assert same(other.batch(indices), transfer.batch(indices))
    assert other.with_views(None).views is None


@pytest.mark.parametrize(
    ("given_as", "answered_as"),
    [
        (torch.uint8, torch.float32),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_bytes_are_scaled_and_floats_are_cast(given_as, answered_as):
    values = torch.tensor([[0, 51], [255, 102]])
    transfer = make_unlabeled(values.to(given_as))
    inputs = transfer.batch(torch.arange(2)).inputs
    expected = values.to(answered_as) / (255 if given_as == torch.uint8 else 1)
    assert inputs.dtype == answered_as
    assert transfer.inputs.dtype == given_as
    torch.testing.assert_close(inputs, expected)
    transfer.fingerprint()


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_token_ids_are_passed_on_unscaled(dtype):
    ids = torch.tensor([[101, 7, 102], [101, 102, 0]], dtype=dtype)
    transfer = make_unlabeled(ids)
    batch = transfer.batch(torch.tensor([1, 0]))
    assert batch.inputs.dtype == torch.int64
    assert batch.inputs.tolist() == [[101, 102, 0], [101, 7, 102]]
    assert transfer.inputs.dtype == dtype
    assert transfer.fingerprint() != make_unlabeled(ids.float()).fingerprint()
    batch.inputs.zero_()
    assert ids[0, 0] == 101


def test_a_batch_is_a_copy():
    inputs = torch.ones(3, 2)
    transfer = make_unlabeled(inputs)
    transfer.batch(torch.arange(3)).inputs.zero_()
    assert inputs.sum() == 6


def test_inputs_of_any_number_of_axes():
    for shape in [(4,), (4, 3), (4, 1, 2, 3, 2)]:
        assert make_unlabeled(torch.zeros(shape)).batch(torch.arange(2)).inputs.shape[0] == 2


def test_numpy_arrays_share_their_memory_and_may_be_read_only(tmp_path):
    path = tmp_path / "inputs.npy"
    np.save(path, np.arange(6, dtype=np.float32).reshape(3, 2))
    mapped = np.load(path, mmap_mode="r")
    transfer = make_unlabeled(mapped)
    assert transfer.inputs.data_ptr() == mapped.ctypes.data
    assert transfer.batch(torch.tensor([2])).inputs.tolist() == [[4.0, 5.0]]


@pytest.mark.parametrize("change", [np.flipud, np.asfortranarray, lambda a: a.astype(">f4")])
def test_numpy_arrays_of_any_memory_layout(change):
    values = change(np.arange(6, dtype=np.float32).reshape(3, 2))
    batch = make_unlabeled(values).batch(torch.arange(3))
    assert batch.inputs.tolist() == values.tolist()


def test_inputs_that_require_a_gradient_are_taken_without():
    transfer = make_unlabeled(torch.ones(2, 2, requires_grad=True))
    assert not transfer.batch(torch.arange(2)).inputs.requires_grad


# Classes and hard targets


def test_classes_come_from_targets_or_names_or_are_stated():
    inputs, targets = torch.zeros(3, 2), torch.tensor([0, -1, 4])
    assert TransferSet(inputs, targets).class_names == ("0", "1", "2", "3", "4")
    assert TransferSet(inputs, targets, classes=7).classes == 7
    assert TransferSet(inputs, targets, class_names=list("abcdef")).classes == 6
    assert TransferSet(inputs, class_names=["cat", "dog"]).class_names == ("cat", "dog")


def test_without_hard_targets_all_are_minus_one():
    transfer = make_unlabeled(torch.zeros(3, 2))
    assert transfer.hard_targets.tolist() == [-1, -1, -1]
    assert transfer.batch(torch.arange(2)).hard_targets.tolist() == [-1, -1]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.uint32, np.int64, np.uint64])
def test_targets_of_any_integer_type_become_int64(dtype):
    transfer = TransferSet(torch.zeros(2, 2), np.array([1, 0], dtype=dtype))
    assert transfer.hard_targets.dtype == torch.int64
    assert transfer.hard_targets.tolist() == [1, 0]


# Subsets


@given(indices=INDICES, view=st.integers(0, 5), data=st.data())
def test_a_subset_answers_as_the_whole_does(indices, view, data):
    transfer = make_set(class_names=["a", "b", "c"])
    subset = transfer.subset(indices)
    positions = torch.tensor(
        data.draw(st.lists(st.integers(0, len(indices) - 1), min_size=1, max_size=9))
    )
    batch = subset.batch(positions, view)
    assert len(subset) == len(indices)
    assert same(batch, transfer.batch(indices[positions], view))
    assert torch.equal(batch.indices, positions)
    assert torch.equal(subset.inputs, transfer.inputs[indices])
    assert torch.equal(subset.hard_targets, transfer.hard_targets[indices])
    assert torch.equal(subset.example_ids, indices)
    assert subset.class_names == transfer.class_names
    assert subset.views == transfer.views


@given(first=INDICES, data=st.data(), view=st.integers(0, 2))
def test_a_subset_of_a_subset_is_a_subset(first, data, view):
    second = torch.tensor(data.draw(st.lists(st.integers(0, len(first) - 1), min_size=1)))
    twice = make_set().subset(first).subset(second)
    once = make_set().subset(first[second])
    positions = torch.arange(len(second))
    assert same(twice.batch(positions, view), once.batch(positions, view))
    assert torch.equal(twice.example_ids, once.example_ids)
    assert twice.fingerprint() == once.fingerprint()


def test_a_subset_copies_no_inputs_and_keeps_its_own_indices():
    transfer, indices = make_set(), torch.tensor([3, 1])
    before = transfer.inputs.data_ptr()
    subset = transfer.subset(indices)
    indices.zero_()
    assert subset.example_ids.tolist() == [3, 1]
    assert subset.subset(torch.tensor([0])).with_views(None).example_ids.tolist() == [3]
    assert transfer.inputs.data_ptr() == before


def test_a_subset_without_a_class_keeps_its_number_of_classes():
    transfer = make_set()
    kept = (transfer.hard_targets < 2).nonzero()[:, 0]
    assert transfer.subset(kept).classes == 3


# Copies


def test_copies_and_pickles_answer_alike():  # a set may be sent to other processes
    transfer = make_set().subset(torch.tensor([5, 3]))
    for other in (copy.deepcopy(transfer), pickle.loads(pickle.dumps(transfer))):
        assert same(other.batch(torch.arange(2), 1), transfer.batch(torch.arange(2), 1))
        assert other.fingerprint() == transfer.fingerprint()


def test_its_text_tells_size_type_classes_and_views():
    text = "TransferSet([40, 5, 6] uint8, 3 classes, views=Jitter(pixels=2, seed=3))"
    assert repr(make_set()) == text


# Views that don't fit


def test_a_view_below_zero_is_an_error():
    with pytest.raises(DataError, match="expected view >= 0, got -1"):
        make_set().batch(torch.arange(2), view=-1)


def test_a_view_of_a_set_without_says_what_to_do():
    with pytest.raises(DataError, match=r"got view 1 of one without; try with_views"):
        make_set(views=None).batch(torch.arange(2), view=1)


def test_views_must_keep_shape_and_type():
    indices = torch.arange(2)
    with pytest.raises(ShapeError, match=r"keep \[2, 5, 6\] torch\.uint8, got \[2, 5, 3\]"):
        make_set(views=lambda inputs, ids, view: inputs[..., :3]).batch(indices, 1)
    with pytest.raises(ShapeError, match=r"got \[2, 5, 6\] torch\.float32"):
        make_set(views=lambda inputs, ids, view: inputs / 2).batch(indices, 1)
