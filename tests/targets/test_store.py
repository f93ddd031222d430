import math
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.errors import AttarError, DataError, ShapeError, StoreError
from attar.losses import DenseTargets, to_probabilities
from attar.targets import Dense, SoftTargets, Sparse, StorePlan, TargetWriter, inspect, merge
from attar.targets.encoding import decode, encode

from .conftest import ENCODINGS, SPARSE, contents, fill, make_plan, teacher_logits

# What is kept


@pytest.mark.parametrize("classes", [50, 3000, 4099])
@pytest.mark.parametrize("spread", [1.0, 0.0])
def test_the_largest_are_found_among_many_classes_as_well(classes, spread):
    logits = spread * torch.randn(6, classes, generator=torch.Generator().manual_seed(0))
    logits[0, -3:] += 9  # where no group is whole
    generator = np.random.default_rng(0)
    kept = decode(encode(logits, Sparse(k=9), generator), Sparse(k=9), classes)
    expected = logits.topk(9).values - logits.amax(-1, keepdim=True)
    torch.testing.assert_close(kept.logits, expected, rtol=1e-3, atol=1e-3)
    relative = logits - logits.amax(-1, keepdim=True)
    torch.testing.assert_close(relative.gather(-1, kept.indices), kept.logits, rtol=1e-3, atol=1e-3)
    assert all(len(row.unique()) == 9 for row in kept.indices)
    rest = relative.scatter(-1, kept.indices, -torch.inf).logsumexp(-1)
    torch.testing.assert_close(kept.tail[:, -1], rest)


# How it is cut


@pytest.mark.parametrize(
    ("examples", "shards"), [(1, 1), (256, 1), (257, 2), (20_000, 8), (10_000_000, 153)]
)
def test_by_default_there_are_shards_for_several_workers_and_for_going_on(examples, shards):
    # A set of 20,000 examples was one shard: one worker's, and all of it lost when it was killed.
    assert make_plan(Sparse(k=2), examples=examples, classes=5, shard_examples=0).blocks == shards


# What goes in comes out


@pytest.mark.parametrize("encoding", ENCODINGS, ids=str)
def test_what_is_read_is_what_the_teacher_said(tmp_path, encoding):
    plan = make_plan(encoding)
    logits = teacher_logits(plan)[0, 0]
    targets = fill(tmp_path, plan).finish()
    got = targets.batch(torch.arange(10))
    relative = logits - logits.amax(-1, keepdim=True)
    if isinstance(got, DenseTargets):
        torch.testing.assert_close(got.logits, relative, atol=1e-3, rtol=1e-3)
        return
    expected = relative.gather(-1, got.indices)
    torch.testing.assert_close(got.logits, expected, atol=1e-3, rtol=1e-3)
    top = relative.topk(encoding.k).indices
    torch.testing.assert_close(got.indices[:, : encoding.k], top)
    for temperature in (1.0, 2.0, 4.0, 8.0):
        p = torch.softmax(logits / temperature, -1)
        kept = to_probabilities(got, temperature=temperature)
        torch.testing.assert_close(kept.largest, p.gather(-1, top), atol=2e-3, rtol=0)
        rest = p.scatter(-1, top, 0.0).sum(-1)
        if encoding.betas == SPARSE.betas:
            torch.testing.assert_close(kept.tail, rest, atol=2e-3, rtol=0)


@pytest.fixture(scope="module", params=[Dense(), SPARSE], ids=str)
def views_and_members(request, tmp_path_factory):
    plan = make_plan(request.param, members=("a", "b"), views=2)
    return fill(tmp_path_factory.mktemp("store"), plan).finish()


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(0, 1), st.integers(0, 1))
def test_any_examples_come_in_any_order(views_and_members, indices, view, member):
    everything = views_and_members.batch(torch.arange(10), view, member)
    some = views_and_members.batch(torch.tensor(indices), view, member)
    for name in ("indices", "logits", "tail", "tail_slopes"):
        if hasattr(some, name):
            assert torch.equal(getattr(some, name), getattr(everything, name)[indices])


def test_views_and_members_are_kept_apart(views_and_members):
    logits = teacher_logits(views_and_members.plan)
    for view in range(2):
        together = views_and_members.batch(torch.tensor([7, 2]), view)
        for member in range(2):
            alone = views_and_members.batch(torch.tensor([7, 2]), view, member)
            assert torch.equal(together.logits[member], alone.logits)
            expected = logits[view, member, [7, 2]].sort(descending=True).values
            expected = (expected - expected[:, :1])[:, : 4 if hasattr(alone, "tail") else None]
            got = alone.logits.sort(descending=True).values
            torch.testing.assert_close(got, expected, atol=1e-2, rtol=0)


@settings(max_examples=15)
@given(scale=st.floats(0.01, 3e4), shift=st.floats(-1e6, 1e6))
def test_logits_of_any_size_are_kept_to_one_part_in_a_thousand(scale, shift):
    plan = make_plan(Dense(), examples=4)
    logits = teacher_logits(plan)[0, 0].double() / 9 * scale
    with tempfile.TemporaryDirectory() as folder:
        writer = TargetWriter(Path(folder), plan)
        writer.write(plan.shard(0), [logits + shift])
        got = writer.finish().batch(torch.arange(4)).logits
    expected = (logits - logits.amax(-1, keepdim=True)).clamp(min=-65504).float()
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-5)


def test_other_programs_read_the_shards(store):
    with pa.memory_map(str(store.folder / "shard-00000.arrow")) as file:
        table = pa.ipc.open_file(file).read_all()
    assert table.column_names == ["index", "logit", "tail", "tail_slope"]
    assert table.schema.field("index").type == pa.list_(pa.uint16(), 4)
    assert table.num_rows == 4
    assert table["logit"][0].as_py()[0] == 0


def test_32_of_14000_classes_take_fewer_than_160_bytes(tmp_path):
    plan = make_plan(Sparse(k=32), examples=512, classes=14_000, shard_examples=512)
    writer = TargetWriter(tmp_path, plan)
    rows = torch.randn(8, 14_000).mul(2)
    writer.write(plan.shard(0), [rows] * 64)
    summary = inspect(writer.finish())
    assert 154 <= summary.bytes_per_example < 157.5  # 512 rows share 1.7 kB of Arrow
    at_two = summary.costs[2]
    assert at_two.temperature == 2
    assert at_two.tail_error < 1e-3


# Bytes


@pytest.mark.parametrize("encoding", ENCODINGS, ids=str)
def test_batches_order_and_interruptions_leave_no_trace(tmp_path, encoding):
    plan = make_plan(encoding, views=2, members=("a", "b"))
    fill(tmp_path / "one", plan, batch_size=4).finish()
    fill(tmp_path / "two", plan, shards={5, 1}, batch_size=1)
    again = fill(tmp_path / "two", plan, batch_size=3)
    assert again.missing() == ()
    again.finish()
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_bytes_do_not_hang_on_batches_or_threads(tmp_path):
    plan = make_plan(Sparse(k=32), examples=20, classes=3000, shard_examples=20)
    threads, found = torch.get_num_threads(), set()
    try:
        for count, size in ((1, 1), (1, 20), (2, 7), (2, 20)):
            torch.set_num_threads(count)
            writer = fill(tmp_path / f"{count} {size}", plan, batch_size=size)
            writer.finish()
            found.add((writer.folder / "manifest.json").read_bytes())
    finally:
        torch.set_num_threads(threads)
    assert len(found) == 1


def test_a_shard_that_failed_leaves_nothing(tmp_path):
    plan = make_plan()
    writer = fill(tmp_path, plan, shards={0})
    before = contents(tmp_path)

    def dying_teacher():
        yield teacher_logits(plan)[0, 0, 4:6]
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        writer.write(plan.shard(1), dying_teacher())
    assert contents(tmp_path) == before
    assert [shard.number for shard in writer.missing()] == [1, 2]


def test_a_shard_cut_off_while_labeling_is_missing_again(tmp_path):
    writer = fill(tmp_path, make_plan())
    path = tmp_path / "shard-00001.arrow"
    path.write_bytes(path.read_bytes()[:-1])
    (tmp_path / "shard-00002.json").write_text("{", encoding="utf-8")
    assert [shard.number for shard in writer.missing()] == [1, 2]


def test_merged_stores_are_the_store_of_one_writer(tmp_path):
    plan = make_plan(views=2)
    fill(tmp_path / "one", plan).finish()
    fill(tmp_path / "a", plan, shards={0, 3, 4})
    fill(tmp_path / "b", plan, shards={1, 2, 3, 5})
    merged = merge([tmp_path / "a", tmp_path / "b"], tmp_path / "merged")
    merged.verify()
    assert contents(tmp_path / "merged") == contents(tmp_path / "one")
    merge([tmp_path / "merged"], tmp_path / "copy")
    with pytest.raises(StoreError, match="new or empty folder to merge into"):
        merge([tmp_path / "merged"], tmp_path / "copy")


def test_what_cannot_be_merged(tmp_path):
    fill(tmp_path / "a", make_plan(), shards={0})
    fill(tmp_path / "b", make_plan(), shards={1})
    fill(tmp_path / "other", make_plan(Sparse(k=5)), shards={2})
    with pytest.raises(StoreError, match=r"1 of 3 shards .* shard-00002.arrow .*examples 8 to 9"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "merged")
    with pytest.raises(StoreError, match=r"encoding Sparse\(k=5.* not Sparse\(k=4"):
        merge([tmp_path / "a", tmp_path / "other"], tmp_path / "merged")
    TargetWriter(tmp_path / "c", make_plan()).write(make_plan().shard(0), [torch.zeros(4, 12)])
    with pytest.raises(StoreError, match=r"different shard-00000.arrow"):
        merge([tmp_path / "a", tmp_path / "c"], tmp_path / "merged")
    with pytest.raises(StoreError, match="no soft-target store"):
        merge([tmp_path], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


# What is measured


def test_inspect_tells_sizes_entropy_and_errors(tmp_path):
    plan = make_plan(examples=600, shard_examples=600, classes=50)
    targets = fill(tmp_path, plan, batch_size=100).finish()
    summary = inspect(targets)
    assert (summary.examples, summary.classes, summary.shards) == (600, 50, 1)
    assert summary.total_bytes == (tmp_path / "shard-00000.arrow").stat().st_size
    assert summary.measured_rows == 2
    first, last = summary.costs[0], summary.costs[-1]
    assert (first.temperature, last.temperature) == (1, 20)
    assert first.entropy_nats < last.entropy_nats < math.log(50)
    assert all(cost.tail_error < 0.01 and cost.error < 0.01 for cost in summary.costs)
    assert all(cost.lost_nats > 0 for cost in summary.costs)


# Whatever can be wrong with arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.tensor([3, 10]),), r"indices in 0..9, got 10"),
        ((torch.tensor([-1]),), r"got -1"),
        ((torch.tensor([0.5]),), r"of int64"),
        ((torch.tensor([0]), 1), r"one of the views 0 of .*, got 1"),
        ((torch.tensor([0]), 0, 1), r"a member in 0..0, got 1"),
    ],
)
def test_a_batch_that_is_not_there(shape_hints_off, store, arguments, message):
    with pytest.raises(DataError, match=message):
        store.batch(*arguments)


def test_logits_that_do_not_fit(tmp_path):
    plan = make_plan()
    writer, shard = TargetWriter(tmp_path, plan), plan.shard(1)
    bad = torch.zeros(4, 12)
    bad[2, 5] = math.nan
    with pytest.raises(DataError, match="got nan for example 6, view 0, member 0"):
        writer.write(shard, [bad])
    with pytest.raises(ShapeError, match=r"expected logits \[rows, 12\].*\[4, 11\]"):
        writer.write(shard, [torch.zeros(4, 11)])
    with pytest.raises(ShapeError, match=r"expected 4 rows .*examples 4 to 7\), got 3"):
        writer.write(shard, [torch.zeros(3, 12)])
    with pytest.raises(ShapeError, match="got more"):
        writer.write(shard, [torch.zeros(3, 12), torch.zeros(2, 12)])
    with pytest.raises(StoreError, match=r"still lacks 3 of 3 shards, such as shard-00000.arrow"):
        writer.finish()


def test_encodings_that_make_no_sense():
    for arguments, message in [
        ({"k": 0}, "k >= 1"),
        ({"k": 1, "betas": (0.5,)}, "the last one 1"),
        ({"k": 1, "betas": (0.5, 0.5, 1.0)}, "ascending"),
        ({"k": 1, "draws": 2, "draw_temperature": 3.0}, "among the betas"),
        ({"k": 1, "seed": -1}, "seed"),
    ]:
        with pytest.raises(AttarError, match=message):
            Sparse(**arguments)
    with pytest.raises(AttarError, match="at most 12 classes, got 13"):
        make_plan(Sparse(k=13))


def test_a_folder_with_something_else(tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(StoreError, match=r"contains other files \(thesis.txt"):
        TargetWriter(tmp_path, make_plan())
    with pytest.raises(StoreError, match=r"not a soft-target store: it has no manifest.json"):
        SoftTargets.open(tmp_path)


def test_a_fingerprint_is_made_of_named_fields(tmp_path):
    # Once it was made of a dataclass's repr, so that a new field refused every old checkpoint.
    plan = StorePlan(2, ("a", "b"), Dense(), data="d", teacher="t")
    writer = TargetWriter(tmp_path, plan)
    for shard in writer.missing():
        writer.write(shard, [torch.tensor([[1.0, 3.0], [0.5, 0.0]])])
    expected = "046b3cece602f49bdd8fa7794668bc0bd726586df1af499062e11f125b261e10"
    assert writer.finish().fingerprint() == expected
