import pickle
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from labeled import CLASSES, EXAMPLES, make_jittered, make_network

from attar import (
    StreamedSet,
    TransferSet,
    distill,
    evaluate,
    label,
    read_image_folder,
    read_table,
    stream_images,
    stream_table,
)
from attar.data import cut
from attar.errors import AttarError, DataError, FolderError

SIZES = (6, 1, 7, 8)  # 22


class Parts:
    """Slices of a set; it notes which were loaded."""

    def __init__(self, data, sizes=SIZES):
        self.data, self.sizes, self.loaded = data, sizes, []

    def __call__(self, number):
        self.loaded.append(number)
        rows = slice(sum(self.sizes[:number]), sum(self.sizes[: number + 1]))
        names = self.data.class_names
        return TransferSet(self.data.inputs[rows], self.data.hard_targets[rows], class_names=names)


def streamed(data, sizes=SIZES):
    parts = Parts(data, sizes)
    return StreamedSet(sizes, parts, class_names=data.class_names, views=data.views), parts


def test_it_answers_what_the_same_examples_in_memory_do():
    data = make_jittered()
    parts, _ = streamed(data)
    assert (len(parts), parts.classes, parts.class_names) == (EXAMPLES, CLASSES, data.class_names)
    assert parts.fingerprint() == data.fingerprint()
    indices = torch.tensor([21, 0, 6, 5, 6, 13, 14])
    for view in (0, 3):
        found, expected = parts.batch(indices, view), data.batch(indices, view)
        for name in ("inputs", "hard_targets", "indices"):
            assert torch.equal(getattr(found, name), getattr(expected, name)), (view, name)
    again = pickle.loads(pickle.dumps(parts))
    assert torch.equal(again.batch(indices).inputs, data.batch(indices).inputs)


def test_a_set_in_memory_is_pickled_whole():
    data = make_jittered().subset(torch.tensor([3, 1]))
    again = pickle.loads(pickle.dumps(data))
    assert again.fingerprint() == data.fingerprint()
    every = torch.arange(2)
    assert torch.equal(again.batch(every, 2).inputs, data.batch(every, 2).inputs)


def test_an_epoch_shows_every_example_once_and_loads_every_part_once():
    parts, loads = streamed(make_jittered(), sizes=(2,) * 11)
    orders = []
    for seed in (0, 0, 1):
        loads.loaded.clear()
        sizes = [3] * 7 + [1]
        batches = list(cut(parts.shuffle(torch.Generator().manual_seed(seed)), sizes))
        assert [len(each) for each in batches] == sizes
        for each in batches:
            parts.batch(each)
        orders.append(torch.cat(batches).tolist())
        parts._hold()
        assert max(Counter(loads.loaded).values()) == 1
    assert sorted(orders[0]) == list(range(EXAMPLES)) != orders[0]
    assert orders[0] == orders[1] != orders[2]


def test_a_student_of_parts_goes_on_where_it_stopped_with_the_same_bytes(tmp_path):
    data = make_jittered()
    parts, _ = streamed(data)
    whole = label(make_network(), data, tmp_path / "whole", views=(0, 1), shard_examples=4)
    store = label(make_network(), parts, tmp_path / "parts", views=(0, 1), shard_examples=4)
    assert whole.fingerprint() == store.fingerprint()

    class StopError(Exception):
        pass

    def learn(name, stop=None):
        def progress(step):
            if step.index == stop:
                raise StopError

        student = make_network(seed=3)
        options = {"soft_weight": 1.0, "hard_weight": 0.1, "epochs": 3, "batch_size": 5}
        distill(
            student, parts, store, temperature=2.0, checkpoint=tmp_path / name,
            progress=progress, **options,
        )  # fmt: skip
        return student.state_dict()

    undisturbed = learn("a.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "attar.training.run.time.monotonic",
            lambda clock=[0]: clock.append(0) or 1e3 * len(clock),
        )
        with pytest.raises(StopError):
            learn("b.safetensors", stop=8)
    stopped = learn("b.safetensors")
    assert all(torch.equal(stopped[name], undisturbed[name]) for name in undisturbed)


def test_parquet_files_are_streamed_by_row_groups(tmp_path):
    draw = np.random.default_rng(0)
    table = pa.table(
        {"a": draw.normal(size=20), "b": draw.normal(size=20), "kind": ["x", "y"] * 10}
    )
    (tmp_path / "set").mkdir()
    pyarrow.parquet.write_table(table[:12], tmp_path / "set" / "0.parquet", row_group_size=5)
    pyarrow.parquet.write_table(table[12:], tmp_path / "set" / "1.parquet", row_group_size=5)
    pyarrow.parquet.write_table(table, tmp_path / "all.parquet")
    whole = read_table(tmp_path / "all.parquet", target="kind")
    for place in (tmp_path / "set", (tmp_path / "set").as_uri()):
        parts = stream_table(place, target="kind", class_names=["x", "y"])
        assert repr(parts) == "StreamedSet(20 examples in 5 parts, 2 classes)"
        assert parts.fingerprint() == whole.fingerprint()
    with pytest.raises(FolderError, match=r"cannot read .*gone"):
        stream_table(tmp_path / "gone", target=None, class_names=["x"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"expected .parquet files in .*empty, got none"):
        stream_table(tmp_path / "empty", target=None, class_names=["x"])
    (tmp_path / "set" / "2.parquet").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"2.parquet is damaged, or no Parquet file"):
        stream_table(tmp_path / "set", target="kind", class_names=["x", "y"])


def test_images_are_streamed_in_parts_that_have_all_classes(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'attar[vision]'")
    data = make_jittered()
    for place, pixels in enumerate(data.inputs.numpy()):
        folder = tmp_path / data.class_names[int(data.hard_targets[place])]
        folder.mkdir(exist_ok=True)
        image.fromarray(pixels).save(folder / f"{place:02}.png")
    whole = read_image_folder(tmp_path, colors="L")
    parts = stream_images(tmp_path, colors="L", part_examples=11, views=data.views)
    assert repr(parts) == "StreamedSet(22 examples in 2 parts, 5 classes)"
    found, expected = parts.batch(torch.arange(EXAMPLES)), whole.batch(torch.arange(EXAMPLES))
    for part in found.hard_targets.split(11):
        assert set(part.tolist()) == set(range(CLASSES))
    rows = [
        sorted(zip(each.inputs.flatten(1).tolist(), each.hard_targets.tolist(), strict=True))
        for each in (found, expected)
    ]
    assert rows[0] == rows[1]
    seen = parts.batch(torch.tensor([20, 3]), view=2).inputs
    again = pickle.loads(pickle.dumps(parts)).with_views(data.views)
    assert torch.equal(again.batch(torch.tensor([20, 3]), view=2).inputs, seen)
    (tmp_path / "a" / "00.png").write_bytes(b"nothing")  # it is not read for what is given
    assert stream_images(tmp_path, colors="L", fingerprint="mine").fingerprint() == "mine"
    with pytest.raises(DataError, match=r"cannot decode .*00.png"):
        stream_images(tmp_path, colors="L").fingerprint()


def test_some_examples_are_taken_into_memory():
    data = make_jittered()
    parts, _ = streamed(data)
    few = parts.subset(torch.tensor([21, 3]))
    assert torch.equal(few.inputs, data.inputs[[21, 3]])
    assert torch.equal(few.hard_targets, data.hard_targets[[21, 3]])
    assert (few.class_names, few.views) == (data.class_names, data.views)


def test_hard_targets_are_read_once():
    data = make_jittered()
    parts, loads = streamed(data)
    assert torch.equal(parts.hard_targets, data.hard_targets)
    loads.loaded.clear()
    assert parts.fingerprint() == data.fingerprint()  # of the same reading
    assert torch.equal(parts.hard_targets, data.hard_targets)
    assert loads.loaded == []
    again = pickle.loads(pickle.dumps(parts))
    assert torch.equal(again.hard_targets, data.hard_targets)


def test_hard_targets_need_no_inputs_where_these_can_be_told_apart(tmp_path):
    data = make_jittered()
    loads = Parts(data)
    parts = StreamedSet(
        SIZES,
        loads,
        class_names=data.class_names,
        load_targets=lambda number: data.hard_targets.split(SIZES)[number],
    )
    assert torch.equal(parts.hard_targets, data.hard_targets)
    assert loads.loaded == []
    wrong = StreamedSet(
        SIZES,
        loads,
        class_names=data.class_names,
        load_targets=lambda number: data.hard_targets.flip(0).split(SIZES)[number],
    )
    assert len(wrong.hard_targets) == EXAMPLES
    with pytest.raises(DataError, match="hard targets of part 0 as they were read before"):
        wrong.batch(torch.tensor([0]))
    for made, message in (
        (torch.arange(6), "1 examples in part 1, got 6"),
        (torch.ones(6), "int6"),
    ):
        names = data.class_names
        bad = StreamedSet(
            SIZES, loads, class_names=names, load_targets=lambda _, made=made: made % 5
        )
        with pytest.raises(DataError, match=message):
            _ = bad.hard_targets


def test_the_labeled_examples_of_parts_are_those_of_the_set_in_memory():
    data = make_jittered()
    targets = data.hard_targets.clone()
    targets[[0, 6, 7, 21]] = -1  # 6 is all of part 1
    data = TransferSet(data.inputs, targets, class_names=data.class_names, views=data.views)
    parts, _ = streamed(data)
    found, expected = parts.labeled(), data.labeled()
    assert (len(found), found.labeled() is found) == (EXAMPLES - 4, True)
    assert found.fingerprint() == expected.fingerprint() != data.fingerprint()
    assert torch.equal(found.hard_targets, expected.hard_targets)
    assert torch.equal(found.example_ids, expected.example_ids)
    indices = torch.tensor([17, 0, 5, 3])
    for each in (found, pickle.loads(pickle.dumps(found)), found.with_views(data.views)):
        for view in (0, 2):
            batch, wanted = each.batch(indices, view), expected.batch(indices, view)
            assert torch.equal(batch.inputs, wanted.inputs)
            assert torch.equal(batch.hard_targets, wanted.hard_targets)
    order = torch.cat(list(found.shuffle(torch.Generator().manual_seed(0))))
    assert sorted(order.tolist()) == list(range(EXAMPLES - 4)) != order.tolist()
    assert torch.equal(found.subset(indices).inputs, expected.subset(indices).inputs)
    assert streamed(make_jittered())[0].labeled().fingerprint() == make_jittered().fingerprint()
    for each in (data, parts):
        with pytest.raises(DataError, match="expected hard targets in the set, got none"):
            each.without_hard_targets().labeled()


def test_hard_targets_can_be_left_out():
    data = make_jittered()
    expected = TransferSet(data.inputs, class_names=data.class_names)
    for each in (data, streamed(data)[0]):
        changed = each.without_hard_targets()
        assert changed.fingerprint() == expected.fingerprint() != each.fingerprint()
        assert changed.hard_targets.tolist() == [-1] * EXAMPLES
        assert changed.batch(torch.arange(3)).hard_targets.tolist() == [-1] * 3
        assert changed.subset(torch.tensor([1])).hard_targets.tolist() == [-1]
        assert each.batch(torch.arange(1)).hard_targets.tolist() == data.hard_targets[:1].tolist()
    named = StreamedSet(SIZES, Parts(data), class_names=data.class_names, fingerprint="mine")
    assert named.without_hard_targets().fingerprint() != "mine"


def test_a_streamed_set_is_evaluated_as_one_in_memory(shape_hints_off):
    data, network = make_jittered(), make_network()
    assert evaluate(network, streamed(data)[0]) == evaluate(network, data)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_indices_on_a_gpu_find_examples_in_memory():
    parts, _ = streamed(make_jittered())
    indices = torch.tensor([21, 3])
    found = parts.batch(indices.cuda(), view=1)
    assert torch.equal(found.inputs, parts.batch(indices, view=1).inputs)


def write_group(path, **columns):
    path.parent.mkdir(exist_ok=True)
    pyarrow.parquet.write_table(pa.table(columns), path)


def test_files_with_columns_in_another_order_are_read_by_name(tmp_path):
    write_group(tmp_path / "set" / "0.parquet", a=[1.0, 2.0], b=[3.0, 4.0], y=[0, 1])
    write_group(tmp_path / "set" / "1.parquet", y=[1, 0], b=[7.0, 8.0], a=[5.0, 6.0])
    parts = stream_table(tmp_path / "set", target="y", class_names=["0", "1"])
    rows = parts.batch(torch.arange(4))
    assert rows.inputs.tolist() == [[1.0, 3.0], [2.0, 4.0], [5.0, 7.0], [6.0, 8.0]]
    assert rows.hard_targets.tolist() == parts.hard_targets.tolist() == [0, 1, 1, 0]
    assert parts.feature_names == parts.subset(torch.tensor([0])).feature_names == ("a", "b")
    write_group(tmp_path / "set" / "2.parquet", y=[1], b=[7.0], a=[5.0], c=[1.0])
    with pytest.raises(DataError, match=r"the same columns in all files, .* in .*2\.parquet"):
        stream_table(tmp_path / "set", target="y", class_names=["0", "1"])
    ignored = {"inputs": ["b"], "target": "y", "class_names": ["0", "1"]}
    assert len(stream_table(tmp_path / "set", **ignored)) == 5


def test_row_groups_of_another_shape_or_type_are_named(tmp_path):
    write_group(tmp_path / "set" / "0.parquet", ids=[[1, 2], [3, 4]], y=[0, 1])
    write_group(tmp_path / "set" / "1.parquet", ids=[[5, 6, 7]], y=[1])
    parts = stream_table(tmp_path / "set", target="y", class_names=["0", "1"], padding=0)
    with pytest.raises(
        DataError,
        match=r"in all parts, \[2\] torch.int64, got \[3\] .* in part 1; write lists of one length",
    ):
        parts.batch(torch.arange(3))
    write_group(tmp_path / "set" / "1.parquet", ids=[[5.0, 6.0]], y=[1])
    parts = stream_table(tmp_path / "set", target="y", class_names=["0", "1"])
    with pytest.raises(DataError, match=r"torch.int64, got \[2\] torch.float32 in part 1"):
        parts.batch(torch.arange(3))


def test_further_inputs_of_a_model_in_row_groups_are_not_dropped_silently(tmp_path):
    types = [[0, 0], [0, 0], [0, 1]]
    columns = {"input_ids": [[1, 2]] * 3, "token_type_ids": types, "y": [0, 1, 1]}
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "a.parquet", row_group_size=2)
    options = {"target": "y", "inputs": "input_ids", "class_names": ["0", "1"]}
    parts = stream_table(tmp_path / "a.parquet", **options)
    with pytest.raises(DataError, match=r"row group 1 of .*, got also 'token_type_ids'"):
        parts.batch(torch.tensor([0, 2]))
    ignored = stream_table(tmp_path / "a.parquet", ignore="token_type_ids", **options)
    assert ignored.batch(torch.tensor([2])).inputs.tolist() == [[1, 2]]


def test_what_is_wrong_with_parts_is_told(tmp_path):
    data = make_jittered()
    with pytest.raises(DataError, match=r"expected parts of one example or more, got \[3, 0\]"):
        StreamedSet([3, 0], Parts(data), class_names="abcde")
    wrong = StreamedSet([6, 2], Parts(data), class_names=tuple("abcde"))
    with pytest.raises(
        DataError, match="expected 2 examples in part 1, got 1; has the data changed"
    ):
        wrong.batch(torch.tensor([7]))
    parts, _ = streamed(data)
    store = label(make_network(), parts, tmp_path)
    with pytest.raises(
        AttarError, match="expected a number as temperature of a streamed set, got auto"
    ):
        distill(
            make_network(), parts, store, temperature="auto", soft_weight=1.0, hard_weight=0.0,
            epochs=1,
        )  # fmt: skip
