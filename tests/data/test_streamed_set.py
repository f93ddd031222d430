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


def test_what_is_wrong_with_parts_is_told(tmp_path):
    data = make_jittered()
    with pytest.raises(DataError, match=r"expected parts of one example or more, got \[3, 0\]"):
        StreamedSet([3, 0], Parts(data), class_names="abcde")
    wrong = StreamedSet([6, 2], Parts(data), class_names=tuple("abcde"))
    with pytest.raises(DataError, match="expected 2 examples of 5 classes in part 1, got 1 of 5"):
        wrong.batch(torch.tensor([7]))
    parts, _ = streamed(data)
    store = label(make_network(), parts, tmp_path)
    with pytest.raises(AttarError, match="expected a temperature for a streamed set, got auto"):
        distill(
            make_network(), parts, store, temperature="auto", soft_weight=1.0, hard_weight=0.0,
            epochs=1,
        )  # fmt: skip
