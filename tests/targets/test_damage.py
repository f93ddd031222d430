import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.errors import AttarError, StoreError, StoreWarning
from attar.targets import SoftTargets, Sparse, TargetWriter, inspect
from attar.targets import shards as shards_module
from attar.targets import store as store_module

from .conftest import contents, fill, flip, make_plan, seal, teacher_logits
from .flips import flips

SHARD = "shard-00001.arrow"


def test_a_missing_shard(store):
    (store.folder / SHARD).unlink()
    with pytest.raises(StoreError, match=r"shard-00001.arrow is missing.*4 to 7.*label again"):
        SoftTargets.open(store.folder)


def test_a_truncated_shard(store):
    path = store.folder / SHARD
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StoreError, match=r"shard-00001.arrow is truncated.*label again"):
        SoftTargets.open(store.folder)


def test_a_damaged_shard_is_refused_when_it_is_read(store):
    # Its numbers were handed out: students were trained from damaged shards, and nothing was said.
    flip(store.folder / SHARD)
    opened = SoftTargets.open(store.folder)
    message = r"shard-00001.arrow is damaged: expected SHA-256 .*4 to 7\); label again"
    for _ in range(2):
        with pytest.raises(StoreError, match=message):
            opened.batch(torch.tensor([0, 5]))
    with pytest.raises(StoreError, match=message):
        opened.verify()
    assert torch.equal(
        opened.batch(torch.tensor([0, 9])).logits, store.batch(torch.tensor([0, 9])).logits
    )


def test_no_flipped_byte_changes_what_is_read(tmp_path):
    # The long form of this is `PYTHONPATH=tests python -m targets.flips 2000`.
    assert sum(flips(154, tmp_path).values()) == 154


def test_each_shard_is_checked_once_whatever_the_threads_and_maps(store, monkeypatch):
    checked = []

    def sha256(content):
        time.sleep(0.01)  # so that threads meet
        checked.append(len(content))
        return known(content)

    known = shards_module.sha256
    monkeypatch.setattr(shards_module, "sha256", sha256)
    monkeypatch.setattr(store_module, "MOST_MAPPED", 1)
    opened, right = SoftTargets.open(store.folder), store.batch(torch.arange(10)).logits
    checked.clear()
    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(opened.batch, torch.arange(10)) for _ in range(8)]
    assert all(torch.equal(future.result().logits, right) for future in found)
    assert sorted(checked) == sorted(entry.bytes for entry in store.entries)


def test_verify_checks_shards_that_were_read_before(store):
    store.batch(torch.arange(10))
    flip(store.folder / SHARD)
    with pytest.raises(StoreError, match=r"shard-00001\.arrow is damaged"):
        store.verify()
    with pytest.raises(StoreError, match=r"shard-00001\.arrow is damaged"):
        store.batch(torch.tensor([5]))


def test_hundreds_of_shards_are_mapped_once_and_keep_no_file_open(tmp_path, monkeypatch):
    # Above 256 shards each batch mapped them anew: 13 ms instead of 0.2.
    monkeypatch.setattr(os, "fsync", lambda file: None)  # it takes most of the time
    resource = pytest.importorskip("resource", reason="needs setrlimit")
    store = fill(
        tmp_path, make_plan(Sparse(k=1), examples=260, classes=2, shard_examples=1)
    ).finish()
    mapped, known = [], store_module.map_shard
    monkeypatch.setattr(
        store_module,
        "map_shard",
        lambda *args, **kwargs: mapped.append(1) or known(*args, **kwargs),
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, soft), hard))
    try:
        for _ in range(3):
            for indices in torch.arange(260).split(100):
                store.batch(indices)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(mapped) == 260


# What is repaired


def test_a_finished_store_that_lost_shards_is_filled_again(tmp_path):
    plan = make_plan(views=2)
    store = fill(tmp_path, plan).finish()
    before = contents(tmp_path)
    (tmp_path / "shard-00000.arrow").unlink()
    flip(tmp_path / "shard-00002.arrow")
    (tmp_path / "shard-00005.arrow").write_bytes(b"")
    with pytest.warns(StoreWarning) as told:
        writer = TargetWriter(tmp_path, plan)
        assert [shard.number for shard in writer.missing()] == [0, 2, 5]
        assert [shard.number for shard in writer.missing()] == [0, 2, 5]
    texts = [str(each.message) for each in told]
    assert len(texts) == 3  # each once
    for text, fault in zip(texts, ("is missing", "is damaged", "is truncated"), strict=True):
        assert fault in text
        assert text.endswith("it will be written again")
    with pytest.raises(StoreError, match=r"still lacks 3 of 6 shards, such as shard-00000\.arrow"):
        writer.finish()
    with pytest.warns(StoreWarning, match="will be written again"):
        again = fill(tmp_path, plan).finish()
    assert contents(tmp_path) == before
    again.verify()
    assert again.fingerprint() == store.fingerprint()
    assert TargetWriter(tmp_path, plan).missing() == ()


def test_a_shard_that_comes_out_differently_is_not_put_among_the_others(store):
    (store.folder / SHARD).unlink()
    before = contents(store.folder)
    writer = TargetWriter(store.folder, store.plan)
    with pytest.raises(
        StoreError, match=r"shard-00001.arrow was labeled again, but differs.*batch"
    ):
        writer.write(store.plan.shard(1), [torch.zeros(4, 12)])
    assert contents(store.folder) == before
    writer = TargetWriter.join(store.folder, store.plan)  # as a worker of a cluster does
    writer.write(store.plan.shard(1), [teacher_logits(store.plan)[0, 0, 4:8]])
    SoftTargets.open(store.folder).verify()


def test_a_damaged_shard_of_an_unfinished_store_is_not_taken_over(tmp_path):
    # One of the right size was, and the manifest then said that it was whole.
    plan = make_plan()
    fill(tmp_path / "whole", plan).finish()
    fill(tmp_path / "begun", plan, shards={0, 1})
    flip(tmp_path / "begun" / SHARD)
    writer = TargetWriter(tmp_path / "begun", plan)
    with pytest.warns(StoreWarning, match=r"shard-00001\.arrow is damaged"):
        assert [shard.number for shard in writer.missing()] == [1, 2]
    writer.write(plan.shard(2), [teacher_logits(plan)[0, 0, 8:10]])
    with pytest.raises(StoreError, match=r"still lacks 1 of 3 shards, such as shard-00001\.arrow"):
        writer.finish()
    writer.write(plan.shard(1), [teacher_logits(plan)[0, 0, 4:8]])
    writer.finish()
    assert contents(tmp_path / "begun") == contents(tmp_path / "whole")


def test_files_of_the_user_stay_where_a_store_gives_way(tmp_path):
    TargetWriter(tmp_path, make_plan())
    (tmp_path / "shard-00000.arrow").write_bytes(b"half of it")
    (tmp_path / "shard-notes.txt").write_text("mine", encoding="utf-8")
    (tmp_path / "shard-backup").mkdir()
    TargetWriter(tmp_path, make_plan(Sparse(k=8)))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "plan.json", "shard-backup", "shard-notes.txt",
    ]  # fmt: skip


# What a manifest may say


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory):
    return fill(tmp_path_factory.mktemp("damage"), make_plan()).finish()


@settings(max_examples=30)
@given(st.data())
def test_any_flipped_bit_of_any_file_is_found(shared_store, data):
    folder = shared_store.folder
    name = data.draw(st.sampled_from(sorted(contents(folder))))
    path = folder / name
    before = path.read_bytes()
    damaged = bytearray(before)
    damaged[data.draw(st.integers(0, len(before) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(damaged)
    try:
        with pytest.raises(StoreError, match=name.replace(".", r"\.")):
            SoftTargets.open(folder).verify()
    finally:
        path.write_bytes(before)
    SoftTargets.open(folder).verify()


def test_a_shard_that_is_no_arrow_file_is_an_error_even_unverified(store):
    path = store.folder / SHARD
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(StoreError, match=r"shard-00001.arrow is damaged"):
        SoftTargets.open(store.folder).batch(torch.tensor([5]))


def test_a_newer_version(store):
    path = store.folder / "manifest.json"
    content = json.loads(path.read_bytes())
    path.write_text(json.dumps(content | {"version": 2}), encoding="utf-8")
    with pytest.raises(
        StoreError, match=r"has format 2, but this release reads 1; install a newer"
    ):
        SoftTargets.open(store.folder)
    path.write_text(json.dumps(content | {"format": "other"}), encoding="utf-8")
    with pytest.raises(StoreError, match="not part of a soft-target store"):
        SoftTargets.open(store.folder)


def test_a_manifest_that_was_edited(store):
    path = store.folder / "manifest.json"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("class 3", "class 4"), encoding="utf-8")
    with pytest.raises(StoreError, match=r"manifest.json is damaged: its checksum differs"):
        SoftTargets.open(store.folder)


def put(value, *place):
    """Make a change of a manifest: the field at the place gets the value."""

    def change(content):
        for key in place[:-1]:
            content = content[key]
        content[place[-1]] = value

    return change


def answers(**changes):
    return {"labeled": 2, "right": 1, "nll_sum": 1.5, "class_counts": [[3, 2]]} | changes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put(10**30, "examples"), r"examples and shard_examples below 2\*\*63"),
        (put(2**63, "shard_examples"), r"examples and shard_examples below 2\*\*63"),
        (put(2**31, "examples"), "at most 1,000,000 shards"),
        (put(4_000_000, "examples"), "do not cover its examples"),
        (put(10.0, "examples"), "examples: Input should be a valid integer"),
        (put(1.5, "shard_examples"), "shard_examples: Input should be a valid integer"),
        (put("abc", "class_names"), "class_names: Input should be a valid array"),
        (put("\ud800", "class_names", 0), "its checksum differs"),
        (put([], "encoding"), "encoding: .*expected encoding dense or sparse"),
        (put(1.5, "encoding", "k"), r"encoding.k: Input should be a valid integer"),
        (put(1, "encoding", "power"), "unknown 'power'; is attar too old"),
        (put([None], "views"), "views.0: Input should be an object"),
        (put(None, "shards"), "do not cover its examples"),
        (put([3], "shards"), "Input should be an object"),
        (put(0.0, "shards", 0, "number"), "number: Input should be a valid integer"),
        (put([], "shards", 0, "measured"), "measured: Input should be an object"),
        (put([1.0], "shards", 0, "measured", "error"), "one value for each temperature"),
        (put(answers(right=3), "shards", 0, "answers"), "consistent counts of right answers"),
        (
            put(answers(class_counts=[]), "shards", 0, "answers"),
            "consistent counts of right answers",
        ),
        (
            put(answers(labeled=9), "shards", 0, "answers"),
            "expected 4 rows, got 4, 1 of .* 9 labeled",
        ),
        (put(answers(class_counts=[[0]]), "shards", 0, "answers"), "answers.class_counts"),
        (put(3, "shards", 0, "rows"), "expected 4 rows, got 3, 1 of them measured and 0 labeled"),
        (put(10**400, "shards", 0, "measured", "rows"), "expected 4 rows, got 4, 1000"),
        (put(-1, "shards", 0, "bytes"), "expected bytes in"),
        (put("../../../private", "shards", 0, "sha256"), "64 hex digits, got '../../../private'"),
        (put("A" * 64, "shards", 0, "sha256"), "64 hex digits"),
    ],
)
def test_a_manifest_that_says_what_cannot_be_is_damaged_at_once(store, change, message):
    # With the right checksum. Some ended in a traceback, some hung while they listed the shards.
    seal(store.folder / "manifest.json", change)
    with pytest.raises(StoreError, match=rf"manifest.json is damaged: .*{message}"):
        SoftTargets.open(store.folder)


def leaves(content, place=()):
    """Yield the place of every value in JSON."""
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items:
        yield (*place, key)
        if isinstance(value, dict | list):
            yield from leaves(value, (*place, key))


@pytest.mark.parametrize(
    "wrong", [None, True, -1, 1.5, 2**63, 10**30, "", "é", [], {}, [[]]], ids=repr
)
def test_any_value_of_another_kind_in_a_manifest_is_an_error_of_attar(
    shape_hints_off, tmp_path, wrong
):
    store = fill(tmp_path, make_plan(shard_examples=10)).finish()
    seal(store.folder / "manifest.json", put(answers(), "shards", 0, "answers"))
    path = store.folder / "manifest.json"
    before, right = path.read_bytes(), store.batch(torch.arange(10)).logits
    places = [place for place in leaves(json.loads(before)) if place[0] != "checksum"]
    for place in places:
        path.write_bytes(before)
        seal(path, partial(put(wrong, *place)))
        try:
            opened = SoftTargets.open(store.folder)
            found = opened.batch(torch.arange(10), opened.plan.views[0].number).logits
            assert torch.equal(found, right), place
            str(inspect(opened))
        except AttarError:
            pass
        except Exception as error:
            error.add_note(f"{place} is {wrong!r}")
            raise


def test_an_unfinished_store(tmp_path):
    writer = fill(tmp_path, make_plan(), shards={0, 2})
    message = r"1 of 3 shards are missing, such as shard-00001.arrow .*label again to resume"
    with pytest.raises(StoreError, match=message):
        SoftTargets.open(tmp_path)
    fill(tmp_path, make_plan())
    with pytest.raises(StoreError, match="it has all shards, but no manifest"):
        SoftTargets.open(tmp_path)
    writer.finish()
    SoftTargets.open(tmp_path)


def test_a_store_of_other_data_or_classes(store):
    names = store.plan.class_names
    store.check_made_for(data="d" * 64, class_names=names)
    with pytest.raises(StoreError, match=r"transfer set dddddddddddd…, got eeeeeeeeeeee…"):
        store.check_made_for(data="e" * 64, class_names=names)
    with pytest.raises(StoreError, match=r"12 classes in .*, 2 here: 'class 1' and 'class 2'"):
        store.check_made_for(data="d" * 64, class_names=("class 0", "class 2"))


@pytest.mark.parametrize("finished", [True, False])
def test_going_on_with_another_plan(tmp_path, finished):
    writer = fill(tmp_path, make_plan())
    if finished:
        writer.finish()
    with pytest.raises(StoreError, match=r"contains .* encoding Sparse\(k=4.*, not Sparse\(k=8"):
        TargetWriter(tmp_path, make_plan(Sparse(k=8)))
    assert TargetWriter(tmp_path, make_plan()).missing() == ()


def test_store_errors_are_attar_errors():
    assert issubclass(StoreError, AttarError)
