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
from attar.errors import AttarError, DataError, FolderError, StoreError
from attar.teachers import as_teacher

pytest.importorskip("ray", reason="needs Ray: pip install 'attar[ray]'")
pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray.*"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # sockets and pipes that Ray leaves
]

from attar import cluster  # noqa: E402

SMALL = {"shard_examples": 4, "batch_size": 3}
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
    made = Cluster(initialize_head=True, head_node_args=NODE)
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
        teachers, make_jittered(), tmp_path / "ray", workers=1, progress=told.append, **options
    )
    assert contents(tmp_path / "ray") == contents(tmp_path / "plain")
    assert (told[0].rows, told[-1].rows, told[-1].total_rows) == (0, 88, 88)
    store.verify()
    again = []  # nothing is left to do
    cluster.label(teachers, make_jittered(), tmp_path / "ray", progress=again.append, **options)
    assert [each.rows for each in again] == [88]
    assert all(module.training for each in teachers for module in each.modules())
