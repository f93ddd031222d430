"""Labeling on a small cluster of two nodes: the bytes of a single process, whatever is killed."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from labeled import CLASSES, contents, make_jittered, make_network, make_set

from attar import Sparse, label
from attar.errors import AttarError, DataError, FolderError, StoreError, TeacherWarning
from attar.teachers import as_teacher
from cluster.clusters import RAY, patiently

pytest.importorskip("ray", reason="needs Ray: pip install 'attar[ray]'")
pytestmark = RAY

from attar import cluster  # noqa: E402
from attar.cluster import Cluster  # noqa: E402

SMALL = {"shard_examples": 4, "batch_size": 3}
ONE = {"cluster": Cluster(workers=1)}
MANY = {"shard_examples": 1, "batch_size": 1}
NODE = {"num_cpus": 2, "object_store_memory": 2**27, "include_dashboard": False}
PATIENCE_SECONDS = 300  # of a machine that has much else to do


def slow_teacher(seen: Path, *, then=None, seconds=0.1):
    """A network that leaves a file named by its process wherever it is asked."""
    network = make_network().eval()

    def answer(inputs):
        (seen / str(os.getpid())).touch()
        time.sleep(seconds)
        if then is not None:
            then(inputs)
        return network(inputs)

    return as_teacher(answer, classes=CLASSES, version="1")


def wait_for(what):
    until = time.monotonic() + PATIENCE_SECONDS
    while not what():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def nodes():
    """A cluster of two nodes of two processors each, that this process is connected to."""
    import ray
    from ray.cluster_utils import Cluster

    before = dict(os.environ)
    os.environ |= {"RAY_worker_niceness": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
    made = patiently(lambda: Cluster(initialize_head=True, head_node_args=NODE))
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    yield made
    ray.shutdown()
    made.shutdown()
    os.environ.clear()
    os.environ |= before


@pytest.fixture
def seen(tmp_path):
    folder = tmp_path / "seen"
    folder.mkdir()
    return folder


def test_one_worker_writes_the_bytes_of_a_single_process(nodes, tmp_path):
    options = {"views": (0, 2), "encoding": Sparse(k=2, draws=3), **SMALL}
    teachers = [make_network(1), make_network(2)]
    label(teachers, make_jittered(), tmp_path / "plain", **options)
    told = []
    store = cluster.label(
        teachers,
        make_jittered(),
        tmp_path / "ray",
        cluster=Cluster(workers=1),
        progress=told.append,
        **options,
    )
    assert contents(tmp_path / "ray") == contents(tmp_path / "plain")
    assert (told[0].rows, told[-1].rows, told[-1].total_rows) == (0, 88, 88)
    store.verify()
    again = []  # nothing is left to do
    with pytest.warns(TeacherWarning, match="needs at least 50 examples with a hard target"):
        cluster.label(
            teachers,
            make_jittered(),
            tmp_path / "ray",
            progress=again.append,
            expected_accuracy=0.9,
            **options,
        )
    assert [each.rows for each in again] == [88]
    assert store.teacher_quality.labeled == 22
    assert all(module.training for each in teachers for module in each.modules())


@pytest.mark.long
def test_four_workers_lose_one_to_sigkill_and_two_with_their_node(nodes, tmp_path, seen):
    second = patiently(lambda: nodes.add_node(**NODE))
    label(slow_teacher(seen, seconds=0), make_set(), tmp_path / "plain", **MANY)
    (seen / str(os.getpid())).unlink()
    ended = []

    def end(now):
        workers = [int(each.name) for each in seen.iterdir()]
        if now.rows >= 2 and not ended:
            os.kill(workers[0], signal.SIGKILL)  # in the middle of a shard: it sleeps there
            ended.append(workers[0])
        elif now.rows >= 5 and len(ended) == 1:
            nodes.remove_node(second, allow_graceful=False)
            ended.append(second)

    cluster.label(
        slow_teacher(seen),
        make_set(),
        tmp_path / "ray",
        cluster=Cluster(workers=4),
        progress=end,
        **MANY,
    )
    assert len(ended) == 2
    assert contents(tmp_path / "ray") == contents(tmp_path / "plain")


DRIVER = """
import sys
sys.path[:0] = [{tests!r}]
import pathlib
from cluster.test_cluster_labeling import MANY, Cluster, cluster, make_set, slow_teacher
cluster.label(slow_teacher(pathlib.Path({seen!r})), make_set(), {folder!r},
              cluster=Cluster({address!r}, 1), **MANY)
"""


@pytest.mark.long
def test_a_driver_that_was_killed_goes_on_when_started_again(nodes, tmp_path, seen):
    label(slow_teacher(seen, seconds=0), make_set(), tmp_path / "plain", **MANY)
    folder = tmp_path / "ray"
    code = DRIVER.format(
        tests=str(Path(__file__).parents[1]), seen=str(seen), folder=str(folder),
        address=nodes.address,
    )  # fmt: skip
    driver = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    wait_for(lambda: driver.poll() is not None or len(list(folder.glob("shard-*.json"))) > 2)
    driver.kill()
    assert driver.wait() == -signal.SIGKILL
    assert not (folder / "manifest.json").exists()
    finished = {path: path.stat().st_mtime_ns for path in folder.glob("shard-*.arrow")}
    told = []
    cluster.label(
        slow_teacher(seen),
        make_set(),
        folder,
        cluster=Cluster(workers=1),
        progress=told.append,
        **MANY,
    )
    assert told[0].rows > 2
    assert contents(folder) == contents(tmp_path / "plain")
    unchanged = [path for path, time_ns in finished.items() if path.stat().st_mtime_ns == time_ns]
    assert len(unchanged) >= told[0].rows - 1  # all but one that was being written


def test_an_example_that_the_teacher_fails_on_is_named(nodes, tmp_path, seen):
    data = make_set()
    wrong = data.batch(torch.tensor([13])).inputs

    def fail(inputs):
        if (inputs == wrong).flatten(1).all(1).any():
            raise RuntimeError("this example is too much")

    expected = r"fails on example 13, view 0: RuntimeError: this example is too much; check"
    with pytest.raises(DataError, match=expected):
        cluster.label(
            slow_teacher(seen, then=fail),
            data,
            tmp_path / "ray",
            cluster=Cluster(workers=1),
            **SMALL,
        )
    assert len(list((tmp_path / "ray").glob("shard-*.arrow"))) >= 2  # finished ones are kept
    label(slow_teacher(seen), data, tmp_path / "ray", **SMALL).verify()


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["", "local://"])  # a folder; by way of pyarrow
def test_a_disk_that_is_full_ends_in_one_line_and_finished_shards_stay(
    nodes, tmp_path, seen, scheme
):
    def fill_up(inputs):
        if len(list((tmp_path / "ray").glob("shard-*.json"))) >= 2:
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # of the worker

    expected = rf"cannot write {scheme}/.*ray/shard-0000\d.arrow: .*File too large"
    with pytest.raises(FolderError, match=expected):
        cluster.label(
            slow_teacher(seen, then=fill_up),
            make_set(),
            f"{scheme}{tmp_path}/ray",
            cluster=Cluster(workers=1),
            **SMALL,
        )
    shards = [path.with_suffix(".arrow") for path in tmp_path.glob("ray/shard-*.json")]
    finished = {path: path.stat().st_mtime_ns for path in shards}
    assert len(finished) >= 2
    for name in ("ray", "plain"):
        label(slow_teacher(seen, seconds=0), make_set(), tmp_path / name, **SMALL)
    assert contents(tmp_path / "ray") == contents(tmp_path / "plain")
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in finished.items())


def test_what_cannot_work_is_told_before_anything_is_started(tmp_path, seen):
    (tmp_path / "file").touch()
    with pytest.raises(FolderError, match=r"cannot make the folder .*file/store: Not a directory"):
        cluster.label(make_network(), make_set(), tmp_path / "file" / "store")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").touch()
    with pytest.raises(StoreError, match="expected an empty folder"):
        cluster.label(make_network(), make_set(), tmp_path / "other")
    with pytest.raises(AttarError, match="expected workers > 0"):
        cluster.label(make_network(), make_set(), tmp_path / "store", cluster=Cluster(workers=0))
