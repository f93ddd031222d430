"""Stores at URLs: in memory, by way of fsspec, and on a disk, by way of pyarrow."""

import errno
import io
import pickle

import fsspec
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from labeled import contents, make_network, make_set

from attar import Sparse, distill, label
from attar.errors import FolderError, StoreError, StoreWarning
from attar.targets import SoftTargets
from attar.urls import UrlPath, as_place

from .conftest import seal

OPTIONS = {"shard_examples": 4, "encoding": Sparse(k=2)}


class Memory(MemoryFileSystem):
    """Each reader of a file has a place of its own; where threads share one, some read nothing."""

    protocol = "own"
    store, pseudo_dirs = {}, [""]

    def _open(self, path, mode="rb", **options):
        if mode == "rb":
            return io.BytesIO(self.cat_file(path))
        return super()._open(path, mode, **options)


class SmallDisk(Memory):
    """It takes so many files, and no more."""

    protocol = "small"
    store, pseudo_dirs, room = {}, [""], 0

    def _open(self, path, mode="rb", **options):
        if "w" in mode and len(self.store) >= self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super()._open(path, mode, **options)


@pytest.fixture(params=["memory", "local"])
def url(request, tmp_path, monkeypatch):
    """A folder at a URL that is not there yet; copies go to a folder of the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    if request.param == "local":
        yield f"local://{tmp_path}/at/url"
    else:
        fsspec.register_implementation("own", Memory, clobber=True)
        yield f"own://{tmp_path.name}/url"
        Memory.store.clear()


@pytest.fixture
def small(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    fsspec.register_implementation("small", SmallDisk, clobber=True)
    yield SmallDisk
    SmallDisk.store.clear()


def test_a_store_at_a_url_has_the_bytes_of_one_in_a_folder(url, tmp_path):
    plain = label(make_network(), make_set(), tmp_path / "plain", **OPTIONS)
    store = label(make_network(), make_set(), url, **OPTIONS)
    assert contents(UrlPath(url)) == contents(tmp_path / "plain")
    again = pickle.loads(pickle.dumps(SoftTargets.open(url)))
    indices = torch.tensor([20, 3, 3, 0])
    expected = plain.batch(indices)
    for each in (store, again):
        found = each.batch(indices)
        for name in ("indices", "logits", "tail"):
            assert torch.equal(getattr(found, name), getattr(expected, name)), name
    assert store.fingerprint() == plain.fingerprint()
    store.verify()
    told = []
    label(make_network(), make_set(), url, progress=told.append, **OPTIONS)
    assert [each.rows for each in told] == [22]  # nothing is labeled again


def test_a_student_learns_from_a_url_what_it_does_from_a_folder(url, tmp_path):
    options = {"temperature": 2.0, "soft_weight": 1.0, "hard_weight": 0.0, "epochs": 2}
    students = [make_network(seed=3) for _ in range(2)]
    for place, student in zip((url, tmp_path / "plain"), students, strict=True):
        label(make_network(), make_set(), place)
        distill(student, make_set(), place, **options)
    assert all(map(torch.equal, *(each.parameters() for each in students)))


def test_labeling_to_a_url_goes_on_with_the_shards_that_are_missing(url):
    data = make_set()

    class BrokenError(Exception):
        pass

    def stop(now):
        if now.rows >= 8:
            raise BrokenError

    with pytest.raises(BrokenError):
        label(make_network(), data, url, progress=stop, workers=1, **OPTIONS)
    with pytest.raises(StoreError, match=r"url is unfinished: \d of 6 shards are missing"):
        SoftTargets.open(url)
    told = []
    label(make_network(), data, url, progress=told.append, **OPTIONS).verify()
    assert told[0].rows >= 8
    assert sorted(each.name for each in UrlPath(url).iterdir()) == [
        "manifest.json", *(f"shard-{number:05d}.arrow" for number in range(6)),
    ]  # fmt: skip


def test_what_is_wrong_at_a_url_is_told(url, tmp_path):
    store = label(make_network(), make_set(), url, **OPTIONS)
    shard = UrlPath(url) / "shard-00001.arrow"
    content = shard.read_bytes()
    shard.write_bytes(content[:-1] + b"?")
    with pytest.raises(StoreError, match=r"url/shard-00001.arrow is damaged: expected SHA-256"):
        store.batch(torch.tensor([5]))
    with pytest.raises(StoreError, match=r"shard-00001.arrow is damaged: expected SHA-256"):
        store.verify()
    store.batch(torch.tensor([0]))  # this one is whole
    shard.unlink()
    with pytest.raises(StoreError, match=r"shard-00001.arrow is missing"):
        SoftTargets.open(url)
    with pytest.raises(StoreError, match=r"is not a soft-target store: it has no manifest.json"):
        SoftTargets.open(f"{url}/elsewhere")
    other = make_set(seed=1)
    with pytest.raises(StoreError, match="contains soft targets with data"):
        label(make_network(), other, url, **OPTIONS)


def test_a_disk_that_is_full_ends_in_one_line_and_finished_shards_stay(small):
    small.room = 6  # the plan, some shards with their entries, and half of another
    full = r"^cannot write small://d/shard-0000\d\.(arrow|json): .*No space"
    with pytest.raises(FolderError, match=full):
        label(make_network(), make_set(), "small://d", workers=1, **OPTIONS)
    finished = sum("shard" in path and path.endswith(".json") for path in small.store)
    assert finished <= 2  # several are written at once
    small.room, told = 99, []
    label(make_network(), make_set(), "small://d", progress=told.append, **OPTIONS)
    assert told[0].rows == 4 * finished


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nowhere://bucket/store", r"cannot make the folder nowhere://bucket/store: .*nowhere"),
        (
            "local://{}/file/store",
            r"cannot make the folder local://.*/file/store: .*ot a dir",
        ),
    ],
)
def test_a_url_that_cannot_be_written_is_told_at_once(tmp_path, url, message):
    (tmp_path / "file").touch()
    with pytest.raises(FolderError, match=message) as caught:
        label(make_network(), make_set(), url.format(tmp_path))
    assert "\n" not in str(caught.value)


def test_places():
    assert as_place("file:///a%20b/c") == as_place("/a b/c")
    secret = as_place("s3://key:secret@bucket/folder/?endpoint_override=host&secret=key")
    assert str(secret / "a.arrow") == "s3://bucket/folder/a.arrow"
    assert (secret / "a.arrow").name == "a.arrow"
    assert as_place(secret) is secret


def test_a_damaged_copy_in_the_cache_is_downloaded_again(url, tmp_path):
    # It was read, and `verify` said that all was well: it looked at the files at the URL alone.
    store = label(make_network(), make_set(), url, **OPTIONS)
    right = store.batch(torch.arange(22)).logits
    copies = tmp_path / "caches/attar/soft-targets"
    before = contents(copies)
    for path in copies.iterdir():
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0x40
        path.write_bytes(content)
    again = SoftTargets.open(url)
    assert torch.equal(again.batch(torch.arange(8)).logits, right[:8])
    assert sum(content == before[name] for name, content in contents(copies).items()) == 2
    store.verify()  # whose maps are of the damaged copies
    assert contents(copies) == before
    assert torch.equal(store.batch(torch.arange(22)).logits, right)
    for path in copies.iterdir():
        path.unlink()
    SoftTargets.open(url).verify()
    assert contents(copies) == before


def test_a_shard_that_is_lost_at_a_url_is_labeled_again(url):
    label(make_network(), make_set(), url, **OPTIONS)
    before = contents(UrlPath(url))
    shard = UrlPath(url) / "shard-00003.arrow"
    shard.write_bytes(before[shard.name][:-1] + b"?")
    with pytest.raises(
        StoreError, match=r"shard-00003.arrow is damaged.*remove it and label again"
    ):
        SoftTargets.open(url).batch(torch.tensor([13]))
    shard.unlink()
    with pytest.warns(StoreWarning, match=r"url/shard-00003.arrow is missing"):
        label(make_network(), make_set(), url, **OPTIONS).verify()
    assert contents(UrlPath(url)) == before


def test_a_manifest_at_a_url_names_no_file_of_this_machine(tmp_path, monkeypatch):
    # A checksum of "../../../victim/private" was read as the path of a copy.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    url = f"local://{tmp_path}/at/url"
    store = label(make_network(), make_set(), tmp_path / "at/url", **OPTIONS)
    (tmp_path / "private.arrow").write_bytes((store.folder / "shard-00000.arrow").read_bytes())
    seal(
        store.folder / "manifest.json",
        lambda content: content["shards"][0].update(sha256="../../../private"),
    )
    with pytest.raises(StoreError, match=r"manifest\.json is damaged.*64 hex digits"):
        SoftTargets.open(url)
    assert not (tmp_path / "caches").exists()
