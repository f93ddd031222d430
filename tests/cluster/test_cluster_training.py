"""Training on a cluster that attar starts itself, by a path of Python that has a space."""

import sys
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
import safetensors.torch
import torch
from job_folder import JobFolder
from labeled import contents, make_network, make_set
from torch import nn

from attar import (
    StreamedSet,
    TrainingSettings,
    TransferSet,
    distill,
    label,
    stream_images,
    stream_table,
)
from attar import specialists as sp
from attar.cli.engines import make_engine
from attar.data import streams
from attar.errors import AttarError, DataError
from attar.jobs import PARTS, read_job, run_job
from attar.jobs.cluster_table import ClusterTable
from cluster.clusters import RAY

pytest.importorskip("ray", reason="needs Ray: pip install 'attar[ray]'")
pytestmark = RAY

from attar import cluster  # noqa: E402
from attar.cluster import Cluster  # noqa: E402

LOST = Path("distill", "seed-1", "student.safetensors")
PATIENCE_SECONDS = 1500  # of a machine that has much else to do


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two processes of a cluster that is started when it is needed first."""
    place = tmp_path_factory.mktemp("two") / "a folder"
    place.symlink_to(sys.prefix)
    python = place / Path(sys.executable).relative_to(sys.prefix)
    with pytest.MonkeyPatch.context() as patch, ExitStack() as session:
        patch.setattr(sys, "executable", str(python))
        yield Cluster(workers=2, start_seconds=PATIENCE_SECONDS, session=session)


def make_parts(data, sizes=(6, 1, 7, 8)):
    """The same examples, a part at a time."""
    starts = [sum(sizes[:number]) for number in range(len(sizes))]

    def load(number):
        rows = slice(starts[number], starts[number] + sizes[number])
        return TransferSet(data.inputs[rows], data.hard_targets[rows], class_names=data.class_names)

    return StreamedSet(sizes, load, class_names=data.class_names)


@pytest.mark.long
def test_two_processes_train_the_student_that_one_does_from_a_streamed_set(two, tmp_path):
    whole = make_set()
    doubles = TransferSet(
        whole.inputs.double() / 255, whole.hard_targets, class_names=whole.class_names
    )
    parts = make_parts(doubles)
    store = label(make_network().double(), doubles, tmp_path / "store")
    options = {
        "temperature": 2.0, "soft_weight": 1.0, "hard_weight": 0.3, "epochs": 20, "batch_size": 5,
    }  # fmt: skip
    alone, together = (make_network(seed=3).double() for _ in range(2))
    steps, told = [], []
    distill(alone, parts, store, progress=steps.append, **options)
    cluster.distill(
        together, parts, store, checkpoint=tmp_path / "student.safetensors",
        progress=told.append, cluster=two, **options,
    )  # fmt: skip
    assert len(steps) == 100
    assert told[-1].index == 100
    assert told[-1].epoch.mean_loss == pytest.approx(steps[-1].epoch.mean_loss, rel=1e-9)
    for name, weights in alone.state_dict().items():
        torch.testing.assert_close(together.state_dict()[name], weights, rtol=1e-9, atol=1e-12)


@pytest.mark.long
def test_processes_that_do_not_start_in_time_are_given_up(two, tmp_path):
    store = label(make_network(), make_set(), tmp_path / "store")
    expected = r"expected 2 process\(es\) of 1 CPU each to start within 0.01 s, got none; "
    with pytest.raises(AttarError, match=expected + r".* CPU of the cluster are free"):
        cluster.distill(
            make_network(), make_set(), store, checkpoint=tmp_path / "student.safetensors",
            temperature=2.0, soft_weight=1.0, hard_weight=0.0, epochs=1,
            cluster=replace(two, start_seconds=0.01),
        )  # fmt: skip
    assert [each.name for each in tmp_path.iterdir()] == ["store"]


@pytest.mark.long
def test_a_job_on_ray_has_the_results_of_the_job_alone(two, tmp_path):
    """Teacher, students and baselines are tasks, resumed one by one; or train together."""
    results, lines, again = [], [], []
    for name in ("plain", "ray"):
        (tmp_path / name).mkdir()
        job = JobFolder(tmp_path / name)
        job.edit("[distill]", "[distill]\nseeds = [0, 1]")
        if name == "plain":
            job.run()
        else:
            with make_engine(ClusterTable(engine="ray", workers=2)) as engine:
                run_job(read_job(job.path), PARTS, lines.append, engine)
                results.append(job.contents())
                (job.root / "job" / LOST).unlink()
                table = ClusterTable(
                    engine="ray", workers=2, together=True, start_seconds=PATIENCE_SECONDS
                )
                with make_engine(table) as engine:
                    run_job(read_job(job.path), PARTS, again.append, engine)
        results.append(job.contents())
    assert len(results[0]) == 7  # teacher, 2 students, 2 baselines, shard and manifest
    plain, ray, together = results
    assert ray == plain
    remade, expected = (safetensors.torch.load(each[str(LOST)]) for each in (together, plain))
    torch.testing.assert_close(remade, expected, rtol=1e-3, atol=1e-5)
    for each in results:
        del each[str(LOST)]
    assert together == plain
    done = [each.partition(":")[0] for each in lines if isinstance(each, str) and ": done" in each]
    assert sorted(done) == [
        "baseline seed-0", "baseline seed-1", "compare", "distill seed-0", "distill seed-1",
        "label", "train teacher-0",
    ]  # fmt: skip
    redone = [each for each in again if isinstance(each, str) and ": done in" in each]
    assert [each.partition(":")[0] for each in redone] == ["distill seed-1", "compare"]


def test_specialists_are_trained_by_tasks_and_those_that_are_there_are_not_trained_again(
    two, tmp_path
):
    data = make_set()
    generalist = nn.Linear(36, data.classes)
    groups = [torch.tensor([0, 1]), torch.tensor([2, 4])]
    started = tmp_path / "started"
    started.mkdir()

    def make(number):
        (started / f"{number}").touch(exist_ok=False)
        return sp.train_specialist(
            sp.narrow_output(generalist, groups[number], oversampling=2.0), data, groups[number],
            TrainingSettings(epochs=2, batch_size=8, learning_rate=0.1, seed=number),
            trunk=nn.Flatten(), generalist=generalist, weights=sp.SpecialistWeights(),
        )  # fmt: skip

    def train(folder, map_fn):
        done = sp.train_specialists(make, 2, folder, made_of="it", map_fn=map_fn)
        return sorted(done)

    assert train(tmp_path, map) == [0, 1]
    plain = [sp.specialist_path(tmp_path, number).read_bytes() for number in range(2)]
    sp.specialist_path(tmp_path, 1).unlink()
    (started / "1").unlink()

    def on_ray(function, numbers):
        return cluster.map_fn(function, numbers, cluster=two)

    assert train(tmp_path, on_ray) == [0, 1]
    assert [sp.specialist_path(tmp_path, number).read_bytes() for number in range(2)] == plain


def test_an_error_of_a_call_is_what_it_was(two):
    def fail(number):
        if number == 3:
            raise DataError("example 3 is none")
        return number

    with pytest.raises(DataError, match="example 3 is none"):
        list(cluster.map_fn(fail, range(5), cluster=two))
    assert sorted(cluster.map_fn(fail, [1, 2], cluster=two)) == [1, 2]
    assert list(cluster.map_fn(fail, [], cluster=two)) == []


@pytest.mark.long
@pytest.mark.parametrize("kind", ["parquet", "images"])
def test_files_are_read_by_the_workers(two, tmp_path, monkeypatch, kind):
    data = make_set()
    source = tmp_path / "source"
    source.mkdir()
    if kind == "parquet":
        table = pa.table(
            {"pixels": list(data.inputs.flatten(1).numpy()), "kind": data.hard_targets.numpy()}
        )
        pyarrow.parquet.write_table(table, source / "0.parquet", row_group_size=4)
        open_set = partial(stream_table, source, target="kind", class_names=data.class_names)
        reads = "convert_table"
    else:
        image = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'attar[vision]'")
        for place, pixels in enumerate(data.inputs.numpy()):
            folder = source / data.class_names[int(data.hard_targets[place])]
            folder.mkdir(exist_ok=True)
            image.fromarray(pixels).save(folder / f"{place:02}.png")
        open_set = partial(stream_images, source, colors="L", part_examples=4)
        reads = "read_images"
    teacher = make_network()
    plain = label(teacher, open_set(), tmp_path / "plain", shard_examples=4)
    inputs, here = open_set(fingerprint=plain.plan.data), []
    read = getattr(streams, reads)
    monkeypatch.setattr(
        streams, reads, lambda *args, **options: here.append(1) or read(*args, **options)
    )
    cluster.label(teacher, inputs, tmp_path / "ray", shard_examples=4, cluster=two)
    assert len(here) == 1  # of six: how much memory they take
    assert contents(tmp_path / "ray") == contents(tmp_path / "plain")
