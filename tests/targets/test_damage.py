import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.errors import AttarError, StoreError
from attar.targets import SoftTargets, Sparse, TargetWriter

from .conftest import contents, fill, make_plan

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
    with pytest.raises(StoreError, match=r"has format 2, this release reads 1; install a newer"):
        SoftTargets.open(store.folder)
    path.write_text(json.dumps(content | {"format": "other"}), encoding="utf-8")
    with pytest.raises(StoreError, match="no part of a soft-target store"):
        SoftTargets.open(store.folder)


def test_a_manifest_that_was_edited(store):
    path = store.folder / "manifest.json"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("class 3", "class 4"), encoding="utf-8")
    with pytest.raises(StoreError, match=r"manifest.json is damaged: its checksum differs"):
        SoftTargets.open(store.folder)


def test_an_unfinished_store(tmp_path):
    writer = fill(tmp_path, make_plan(), shards={0, 2})
    message = r"1 of 3 shards are missing, such as shard-00001.arrow .*label again to go on"
    with pytest.raises(StoreError, match=message):
        SoftTargets.open(tmp_path)
    fill(tmp_path, make_plan())
    with pytest.raises(StoreError, match="all shards are there, but no manifest"):
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
    with pytest.raises(StoreError, match=r"holds .* encoding Sparse\(k=4.*, not Sparse\(k=8"):
        TargetWriter(tmp_path, make_plan(Sparse(k=8)))
    assert TargetWriter(tmp_path, make_plan()).missing() == ()


def test_store_errors_are_attar_errors():
    assert issubclass(StoreError, AttarError)
