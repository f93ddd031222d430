"""Training with early stopping: keep the weights with the fewest held-out errors."""

import math
from collections.abc import Generator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from attar.data import TransferSet
from attar.errors import FolderError
from attar.evaluation import evaluate
from attar.recipes.stages import (
    Progress,
    Stage,
    Trained,
    WorkMeter,
    checkpoint_path,
    describe_training,
    follow_run,
    leave_network,
    name_parts,
    read_trained,
)
from attar.training import LossFn, TrainingRun, load_weights, save_weights


def train_to_the_best(
    stage: Stage,
    transfer_set: TransferSet,
    loss_fn: LossFn,
    *,
    held_out: TransferSet,
    folder: Path,
    test_set: TransferSet,
    meter: WorkMeter,
    measurements: int = 20,
    loss: Mapping[str, Any] | None = None,
) -> Generator[Progress, None, Trained]:
    """Train as `train_stage` does, and return the best weights measured on held-out examples.

    The training runs to its end, so that the learning rate follows its schedule. The network is
    measured on the held-out examples about `measurements` times, and the best weights are kept.

    Yields:
        Progress, after every step; its errors are those on the held-out examples.

    Returns:
        The best network, and its evaluation on `test_set`.
    """
    work = stage.work(len(transfer_set))
    network = stage.make_network()
    made_of = {
        **describe_training(stage, network, transfer_set, test_set, loss_fn, loss, views=None),
        "early stopping": {"held out": held_out.fingerprint(), "measurements": measurements},
    }
    earlier = read_trained(stage, folder, network, made_of)
    if earlier is not None:
        meter.add(work, by_earlier_run=True)
        return earlier
    best_path = folder / f"{stage.name}.best.safetensors"
    fewest = [held_out.hard_targets.numel() + 1]

    def measure(measured: nn.Module) -> dict[str, float]:
        found = evaluate(measured, held_out, precision="auto")
        if found.errors < fewest[0]:
            fewest[0] = found.errors
            save_weights(best_path, measured)
        return asdict(found)

    run = TrainingRun(
        network,
        transfer_set,
        loss_fn,
        stage.settings,
        checkpoint=checkpoint_path(stage, folder),
        identity=name_parts(made_of),
        measure=measure,
        measurements=measurements,
    )
    done = [int(epoch.measurements["errors"]) for epoch in run.history if epoch.measurements]
    fewest[0] = min([*done, fewest[0]])
    meter.add(work * run.steps_done / run.steps, by_earlier_run=True)
    yield from follow_run(run, stage, work, meter)
    load_weights(best_path, network)
    measured = [epoch.measurements for epoch in run.history if epoch.measurements]
    best = min(measured, key=lambda each: each["errors"])  # ties go to the first, as in `measure`
    kept = evaluate(network, held_out, precision="auto")
    if kept.errors != best["errors"] or not math.isclose(kept.nll, best["nll"], rel_tol=1e-3):
        raise FolderError(
            f"{best_path} is damaged or belongs to another training: expected weights with "
            f"{best['errors']:.0f} held-out errors and NLL {best['nll']:.4g}, got {kept.errors} "
            f"and {kept.nll:.4g}; remove it and the checkpoint beside it to train again"
        )
    trained = leave_network(stage, network, run, folder, test_set, made_of)
    best_path.unlink(missing_ok=True)
    return trained
