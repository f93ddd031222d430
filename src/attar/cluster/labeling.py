"""Labeling on Ray: shards are the rows of a data set that a pool of actors works through."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from attar.cluster.sharing import check_versions, explaining, fault, revive, share, versions
from attar.cluster.starting import Cluster, connected, import_ray
from attar.data import ExampleSet
from attar.errors import check_positive
from attar.labeling import (
    LabelingMeter,
    LabelingProgress,
    TeacherWatch,
    make_plan,
    members_of,
    pack_shard,
)
from attar.precision import keep_freed_memory
from attar.progress import reporting
from attar.targets import Dense, Encoding, Shard, SoftTargets, StorePlan, TargetWriter
from attar.targets.manifest import AnswerCounts, answers_from_json, answers_to_json
from attar.targets.quality import check_expected_accuracy
from attar.teachers import Teacher, as_teacher
from attar.urls import Place, as_place

_WAVE = 10_000  # shards in one data set, whose rows the driver holds


def label(
    teacher: object,
    transfer_set: ExampleSet,
    folder: Place | str,
    *,
    encoding: Encoding | None = None,
    views: Sequence[int] = (0,),
    batch_size: int = 256,
    shard_examples: int = 0,
    expected_accuracy: float | None = None,
    progress: Callable[[LabelingProgress], None] | None = None,
    cluster: Cluster = Cluster(),  # noqa: B008 (frozen)
) -> SoftTargets:
    """Do what `attar.label` does, with processes of a Ray cluster; the store has the same bytes.

    Each process holds the teacher, or one member of an ensemble, and works on one shard at a time:
    it writes it itself, to a URL, or into a folder that all machines share. If a process or a
    machine is lost, its shard is labeled by another. The manifest comes last. If this process is
    killed, the same call goes on with the shards that are missing.

    Args:
        teacher: As for `attar.label`. It travels to the workers, and so do the user's own modules
            that its code is in; packages have to be installed there.
        transfer_set: The examples. Machines hold one copy each, whatever the number of workers.
        folder: Of the store, or its URL, such as `s3://bucket/store`.
        encoding: `Dense()` (the default) or `Sparse(k=...)`.
        views: Numbers of the views to label.
        batch_size: Examples that the teacher sees at once.
        shard_examples: Examples in a shard.
        expected_accuracy: Accuracy that the teacher is known to have; see `attar.label`.
        progress: Called at the start and whenever a shard is stored.
        cluster: Which one, and how many processes of it. A network is moved to the GPU it gets.

    Returns:
        The finished store.

    Warns:
        TeacherWarning: As `attar.label` does.

    Raises:
        MissingExtraError: If Ray is not installed.
        AttarError: As `attar.label` does, and if a worker cannot do its work; the finished shards
            stay.
    """
    check_positive(batch_size=batch_size)
    check_expected_accuracy(expected_accuracy)
    import_ray()
    folder = as_place(folder).absolute()
    asked = as_teacher(
        teacher,
        class_names=transfer_set.class_names,
        examples=len(transfer_set),
        feature_names=getattr(transfer_set, "feature_names", None),
    )
    plan = make_plan(asked, transfer_set, encoding or Dense(), views, shard_examples)
    writer = TargetWriter(folder, plan)
    missing = writer.missing()
    meter = LabelingMeter(plan, missing)
    watch = TeacherWatch(plan, transfer_set, expected_accuracy)
    with reporting(progress) as report:
        report(meter.now())
        if missing:
            size = transfer_set.memory_bytes
            with connected(cluster, shared_bytes=size) as count:
                work = _Work(asked, transfer_set, folder, plan, batch_size)
                for shard, answers in _run(work, missing, min(count, len(missing)), cluster):
                    meter.add(shard)
                    report(meter.now())
                    if not meter.is_done:
                        watch.add(shard, answers)
    targets = writer.finish()
    watch.finish(targets)
    return targets


class _Work:
    """What the workers have to do: what is large lies in the cluster's object store."""

    def __init__(
        self,
        teacher: Teacher,
        transfer_set: ExampleSet,
        folder: Place,
        plan: StorePlan,
        batch_size: int,
    ) -> None:
        members = members_of(teacher) or (teacher,)
        self.members = [share(each, "the teacher") for each in members]
        self.transfer_set = share(transfer_set, "the transfer set")
        self.plan = share(plan, "the plan")
        self.folder, self.batch_size = folder, batch_size
        self.versions = versions()


class _Labeler:
    """A worker: it holds one member of the teacher at a time, and makes one shard at a time."""

    def __init__(self, work: _Work, gpus: float) -> None:
        self.work, self.gpus = work, gpus
        self.computing = threading.Lock()
        self.member: tuple[int, Teacher] | None = None
        self.writer: TargetWriter | None = None

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        """Make shards; what goes wrong is a row as well, so that Ray does not try it again."""
        done = [self._try(int(number)) for number in rows["number"]]
        faults, answers = zip(*done, strict=True)
        return {"number": rows["number"], "fault": list(faults), "answers": list(answers)}

    def _try(self, number: int) -> tuple[str, str]:
        """Make a shard; return what went wrong, and the counts of the teacher's right answers."""
        try:
            with self.computing:
                writer = self._begin()
                shard = writer.plan.shard(number)
                teacher = self._member(shard.member)
                packed = pack_shard(writer, teacher, self.transfer_set, shard, self.work.batch_size)
            entry = writer.store(packed)  # while another thread computes the next shard
        except Exception as error:
            return fault(error), "null"
        return "", json.dumps(answers_to_json(entry.answers))

    def _begin(self) -> TargetWriter:
        if self.writer is None:
            check_versions(self.work.versions)
            ray = import_ray()
            torch.set_num_threads(1)
            keep_freed_memory()
            self.transfer_set: ExampleSet = ray.get(self.work.transfer_set)
            self.writer = TargetWriter.join(self.work.folder, ray.get(self.work.plan))
        return self.writer

    def _member(self, number: int) -> Teacher:
        if self.member is None or self.member[0] != number:
            self.member = None  # before the next one is there
            teacher: Teacher = import_ray().get(self.work.members[number])
            network = getattr(teacher, "network", None)
            if self.gpus and isinstance(network, torch.nn.Module):
                network.to("cuda")
            self.member = number, teacher
        return self.member[1]


def _run(
    work: _Work, missing: Sequence[Shard], workers: int, cluster: Cluster
) -> Iterator[tuple[Shard, AnswerCounts | None]]:
    """Have the missing shards made; yield each as it is stored, and its right answers."""
    ray = import_ray()
    pool = ray.data.ActorPoolStrategy(
        size=workers,
        max_concurrent_calls_per_actor=2,  # one writes while the other computes
        enable_true_multi_threading=True,
        max_tasks_in_flight_per_actor=2,  # more would wait here while others are idle
    )
    for start in range(0, len(missing), _WAVE):
        shards = {shard.number: shard for shard in missing[start : start + _WAVE]}
        done = ray.data.from_items(
            [{"number": number} for number in shards], override_num_blocks=len(shards)
        ).map_batches(
            _Labeler,
            fn_constructor_args=(work, cluster.gpus),
            batch_size=1,
            compute=pool,
            num_cpus=cluster.cores,
            num_gpus=cluster.gpus or None,
        )
        with explaining():
            for row in done.iter_rows():
                if row["fault"]:
                    raise revive(row["fault"])
                yield shards[row["number"]], answers_from_json(json.loads(row["answers"]))
