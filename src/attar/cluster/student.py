"""One student trained by several processes together, with Ray Train."""

import inspect
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import attar
from attar.cluster.sharing import check_versions, explaining, fault, revive, share, versions
from attar.cluster.starting import Cluster, connected, import_ray
from attar.cluster.trainings import Board
from attar.data import ExampleSet
from attar.distillation import find_temperature
from attar.errors import AttarError
from attar.progress import reporting
from attar.targets import SoftTargets
from attar.temperatures import TemperatureSearch
from attar.training import Share, Step, make_settings
from attar.urls import Place

_POLL_SECONDS, _TELL_SECONDS, _FAILURES = 0.3, 0.5, 3
_BEGUN = ""  # told where an error would be: there is none, the workers are there


def distill(
    student: nn.Module,
    transfer_set: ExampleSet,
    targets: SoftTargets | Place | str,
    *,
    checkpoint: Path | str,
    progress: Callable[[Step], None] | None = None,
    cluster: Cluster = Cluster(),  # noqa: B008 (frozen)
    **options: Any,  # noqa: ANN401
) -> nn.Module:
    """Do what `attar.distill` does, with several processes that each take a part of every batch.

    With the same `batch_size`, the batch of all of them together, the weights are those of a single
    process up to the rounding of sums, unless the student has dropout, whose masks differ, or
    batch normalization, whose statistics are those of a part. Gradients go over gloo between
    processors, over NCCL between GPUs.

    Args:
        student: As for `attar.distill`; trained in place.
        transfer_set: The examples that were labeled. Each process reads those of its part.
        targets: A finished store, or its folder, which all machines see, or its URL.
        checkpoint: File to go on from, in a folder that all machines share. If a process is lost,
            all of them go on from it.
        progress: Called now and then.
        cluster: Which one; its workers are those that train the student.
        options: The other arguments of `attar.distill`.

    Returns:
        The student, in evaluation mode.

    Raises:
        MissingExtraError: If Ray is not installed.
        AttarError: As `attar.distill` does, and if a process fails, or they do not start in time.
    """
    import_ray()
    checkpoint = Path(checkpoint).absolute()
    store = targets if isinstance(targets, SoftTargets) else SoftTargets.open(targets)
    options |= _choose(student, transfer_set, store, checkpoint, progress, options)
    with reporting(progress) as report:
        size = transfer_set.memory_bytes
        with connected(cluster, shared_bytes=size) as count, explaining():
            work = share(
                (student, transfer_set, store, checkpoint, options, versions()), "the student"
            )
            _train(work, report, count, cluster, checkpoint)
    return attar.distill(student, transfer_set, store, checkpoint=checkpoint, **options)  # the end


def _choose(
    student: nn.Module,
    transfer_set: ExampleSet,
    store: SoftTargets,
    checkpoint: Path,
    progress: Callable[[Step], None] | None,
    options: dict[str, Any],
) -> dict[str, Any]:
    """Search for the temperature, if asked to, here and once; return what it changes."""
    search, on_choice = options.get("temperature"), options.pop("on_choice", None)
    if not isinstance(search, str | TemperatureSearch):
        return {}
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(attar.distill).parameters.items()
    }
    given = defaults | options
    settings = make_settings(
        *(given[name] for name in ("epochs", "batch_size", "learning_rate", "optimizer", "seed"))
    )
    choice = find_temperature(
        student,
        transfer_set,
        store,
        settings,
        search=search,
        checkpoint=checkpoint,
        progress=progress,
        **{name: given[name] for name in ("soft_weight", "hard_weight", "mean", "member_weights")},
    )
    if on_choice is not None:
        on_choice(choice)
    return {"temperature": choice.temperature, "hard_weight": choice.hard_weight}


def _train(
    work: Any,  # noqa: ANN401
    report: Callable[[Step], None],
    workers: int,
    cluster: Cluster,
    checkpoint: Path,
) -> None:
    """Have Ray's trainer run in a process of the cluster, and report what the first worker tells.

    So it can be ended, with its workers, whatever it waits for.
    """
    ray = import_ray()
    board = ray.remote(num_cpus=0)(Board).remote()
    needs = {"CPU": float(cluster.cores)} | ({"GPU": cluster.gpus} if cluster.gpus else {})
    notes = checkpoint.with_name(f".{checkpoint.name}.ray")  # what Ray itself writes
    fit = ray.remote(num_cpus=0, max_retries=_FAILURES)(_fit)
    fitted = fit.remote({"work": [work], "board": board}, workers, needs, notes)
    until: float | None = time.monotonic() + cluster.start_seconds
    try:
        while True:
            done, _ = ray.wait([fitted], timeout=_POLL_SECONDS)
            taken = board.take.remote()
            left = None if until is None else max(0.0, until - time.monotonic())
            news, _ = ray.wait([taken], timeout=left)
            for told in ray.get(taken) if news else ():
                until = None
                if isinstance(told, Step):
                    report(told)
                elif told != _BEGUN:
                    raise revive(told)
            if done:
                if text := ray.get(fitted):
                    raise revive(text)
                return
            if until is not None and time.monotonic() > until:
                free = _show(ray.available_resources(), needs)
                raise AttarError(
                    f"expected {workers} process(es) of {_show(needs)} each to start within "
                    f"{cluster.start_seconds:g} s, got none; {free} of the cluster are free now: "
                    "wait for its other work, or give fewer workers, or more start_seconds"
                )
    finally:
        ray.cancel(fitted, force=True)
        ray.kill(board)
        shutil.rmtree(notes, ignore_errors=True)


def _show(resources: dict[str, float], names: Iterable[str] = ()) -> str:
    return ", ".join(f"{resources.get(name, 0.0):g} {name}" for name in names or resources)


def _fit(config: dict[str, Any], workers: int, needs: dict[str, float], notes: Path) -> str:
    """Be the process of Ray's trainer; answer the error, or nothing."""
    import ray.train.torch

    trainer = ray.train.torch.TorchTrainer(
        _take_part,
        train_loop_config=config,
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers, use_gpu="GPU" in needs, resources_per_worker=needs
        ),
        run_config=ray.train.RunConfig(
            name="student",
            storage_path=str(notes),
            failure_config=ray.train.FailureConfig(max_failures=_FAILURES),
        ),
    )
    try:
        trainer.fit()
    except Exception as error:
        return fault(error)
    return ""


def _take_part(config: dict[str, Any]) -> None:
    """Be one of the processes."""
    import ray.train.torch

    student, transfer_set, store, checkpoint, options, expected = ray.get(config["work"][0])
    context, board = ray.train.get_context(), config["board"]
    rank, told_at = context.get_world_rank(), 0.0
    board.put.remote(_BEGUN)

    def tell(step: Step) -> None:
        nonlocal told_at
        if rank == 0 and (time.monotonic() - told_at > _TELL_SECONDS or step.index == step.steps):
            told_at = time.monotonic()
            board.put.remote(step)

    try:
        check_versions(expected)
        attar.distill(
            student,
            transfer_set,
            store,
            checkpoint=checkpoint,
            progress=tell,
            share=Share(rank, context.get_world_size(), _wrap, _average),
            **options,
        )
        ray.get(board.put.remote(None))
    except AttarError as error:
        ray.get(board.put.remote(fault(error)))
        raise


def _wrap(network: nn.Module) -> nn.Module:
    from ray.train.torch import get_device

    device = get_device()
    is_gpu = device.type == "cuda"
    return nn.parallel.DistributedDataParallel(
        network.to(device), device_ids=[device] if is_gpu else None
    )


def _average(value: float) -> float:
    from ray.train.torch import get_device

    total = torch.tensor(value, dtype=torch.float64, device=get_device())
    torch.distributed.all_reduce(total)
    return float(total) / torch.distributed.get_world_size()
