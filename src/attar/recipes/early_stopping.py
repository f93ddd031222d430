"""Training with early stopping: of all the weights on the way, those that do best elsewhere."""

from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path

from torch import nn

from attar.data import TransferSet
from attar.evaluation import evaluate
from attar.recipes.stages import (
    Progress,
    Stage,
    Trained,
    WorkMeter,
    follow_run,
    leave_network,
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
) -> Generator[Progress, None, Trained]:
    """Train as `train_stage` does, but end with the best weights that were measured on the way.

    The training goes on to its end, so that its learning rate falls as it was meant to; about
    `measurements` times the network is measured on the held-out examples, and the best one is kept.

    Yields:
        How far it is, after every step; its errors are those on the held-out examples.

    Returns:
        The best network, and its evaluation on `test_set`.
    """
    work = stage.work(len(transfer_set))
    network = stage.make_network()
    earlier = read_trained(stage, folder, network)
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

    checkpoint = folder / f"{stage.name}.checkpoint.safetensors"
    run = TrainingRun(
        network,
        transfer_set,
        loss_fn,
        stage.settings,
        checkpoint=checkpoint,
        measure=measure,
        measurements=measurements,
    )
    done = [int(epoch.measurements["errors"]) for epoch in run.history if epoch.measurements]
    fewest[0] = min([*done, fewest[0]])
    meter.add(work * run.steps_done / run.steps, by_earlier_run=True)
    yield from follow_run(run, stage, work, meter)
    load_weights(best_path, network)
    trained = leave_network(stage, network, run, folder, test_set)
    best_path.unlink(missing_ok=True)
    return trained
