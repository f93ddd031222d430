"""`attar.distill`: train students from kept soft targets, without the teacher."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from attar.data import Batch, ExampleSet, TransferSet, name_views
from attar.errors import AttarError, StoreError
from attar.losses import (
    DenseTargets,
    Mean,
    SoftTargetBatch,
    SparseTargets,
    distillation_loss,
    mean_logits,
    sparse_distillation_loss,
)
from attar.progress import reporting
from attar.targets import SoftTargets
from attar.temperatures import TemperatureChoice, TemperatureSearch, choose_temperature
from attar.training import (
    LossFn,
    OptimizerName,
    Share,
    Step,
    TrainingRun,
    TrainingSettings,
    make_settings,
)
from attar.urls import Place

ChangeFn = Callable[[SoftTargetBatch, Tensor], SoftTargetBatch]  # soft targets, their examples


def distill(
    student: nn.Module,
    transfer_set: ExampleSet,
    targets: SoftTargets | Place | str,
    *,
    temperature: float | Literal["auto"] | TemperatureSearch,
    soft_weight: float,
    hard_weight: float,
    epochs: int,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
    optimizer: OptimizerName = "adamw",
    seed: int = 0,
    mean: Mean = "arithmetic",
    member_weights: Sequence[float] | None = None,
    checkpoint: Path | str | None = None,
    progress: Callable[[Step], None] | None = None,
    on_choice: Callable[[TemperatureChoice], None] | None = None,
    share: Share | None = None,
) -> nn.Module:
    """Train a student on the soft targets of a store, and on hard targets where there are some.

    Args:
        student: Maps inputs `[batch, ...]` to logits `[batch, classes]`; trained in place.
        transfer_set: The examples that were labeled.
        targets: A finished store, or its folder or URL.
        temperature: T > 0 of the soft targets; at least 1 for a sparse store. "auto" or an
            `attar.TemperatureSearch` trains copies of the student first, one for each of several,
            all together; the one with the fewest errors on held-out examples tells T, and the
            student is then trained on all examples.
        soft_weight: Factor of T² times the soft cross-entropy.
        hard_weight: Factor of the cross-entropy with the hard targets; an example of hard target
            -1 has the soft term alone.
        epochs: Passes over the transfer set. Each shows one of the views that were labeled, in
            the order in which the store has them, over and over.
        batch_size: Examples in a batch.
        learning_rate: At its highest; it climbs for a tenth of the epochs, but no longer than one,
            then falls as a cosine.
        optimizer: `adamw`, or `sgd` with Nesterov momentum.
        seed: Of the order of examples and of dropout.
        mean: Of an ensemble's members: of their probabilities, or of their logits.
        member_weights: Weights of the members in that mean; equal by default.
        checkpoint: File to go on from, and to write the state to periodically and at the end. It
            belongs to this student, with the weights that it has when it is given, and to these
            arguments.
        progress: Called after every step, of the search for a temperature as well;
            `attar.ProgressBar()` shows how far it is, `attar.TensorBoardLog(folder)` writes event
            files.
        on_choice: Called with what "auto" chose, and the curve behind it, before the student is
            trained. With a checkpoint it is also kept beside it, as `<checkpoint>.choice.json`.
        share: What this process does of each batch, if several train the student; see
            `attar.cluster.distill`.

    Returns:
        The student, in evaluation mode: ready to be used.

    Raises:
        StoreError: If the store is unfinished, damaged, or made for other data, classes or views.
        FolderError: If the checkpoint is damaged, or of another run: another student, other data,
            store, settings, temperature or weights. The student is then unchanged.
        AttarError: If an argument is out of range.
        DivergedError: If a loss or a gradient is not finite.

    Source: Hinton et al. (2015), sec. 2.
    """
    store = targets if isinstance(targets, SoftTargets) else SoftTargets.open(targets)
    check_fits(store, transfer_set)
    settings = make_settings(epochs, batch_size, learning_rate, optimizer, seed)
    if isinstance(temperature, str | TemperatureSearch):
        choice = find_temperature(
            student,
            transfer_set,
            store,
            settings,
            search=temperature,
            soft_weight=soft_weight,
            hard_weight=hard_weight,
            mean=mean,
            member_weights=member_weights,
            checkpoint=checkpoint,
            progress=progress,
        )
        temperature, hard_weight = choice.temperature, choice.hard_weight
        if on_choice:
            on_choice(choice)
    loss_fn = soft_target_loss(
        store,
        temperature=temperature,
        soft_weight=soft_weight,
        hard_weight=hard_weight,
        mean=mean,
        member_weights=member_weights,
    )
    run = TrainingRun(
        student,
        transfer_set,
        loss_fn,
        settings,
        checkpoint=None if checkpoint is None else Path(checkpoint),
        identity={
            "loss": "attar.distill",
            "store": store.fingerprint(),
            "temperature": temperature,
            "soft_weight": soft_weight,
            "hard_weight": hard_weight,
            "mean": mean,
            "member_weights": str(_shares(store, member_weights)),
        },
        views=[view.number for view in store.plan.views],
        share=share,
    )
    with reporting(progress) as report:
        for step in run:
            report(step)
    return student.eval()


def find_temperature(
    student: nn.Module,
    transfer_set: ExampleSet,
    store: SoftTargets,
    settings: TrainingSettings,
    *,
    search: Literal["auto"] | TemperatureSearch | str,
    soft_weight: float,
    hard_weight: float,
    mean: Mean,
    member_weights: Sequence[float] | None,
    checkpoint: Path | str | None,
    progress: Callable[[Step], None] | None,
) -> TemperatureChoice:
    """Choose the temperature of a distillation; the arguments are those of `distill`.

    Raises:
        AttarError: If the search is no search, or the set is streamed.
    """
    if isinstance(search, str) and search != "auto":
        expected = 'a temperature > 0, "auto" or an attar.TemperatureSearch'
        raise AttarError(f"expected {expected}, got {search!r}")
    if not isinstance(transfer_set, TransferSet):
        raise AttarError(
            f"expected a temperature for a streamed set, got {search}; search on a TransferSet of "
            "some of its examples, and give what that chose"
        )
    with reporting(progress) as report:
        return choose_temperature(
            student,
            transfer_set,
            store,
            settings,
            search=search if isinstance(search, TemperatureSearch) else TemperatureSearch(),
            soft_weight=soft_weight,
            hard_weight=hard_weight,
            mean=mean,
            shares=_shares(store, member_weights),
            checkpoint=None if checkpoint is None else Path(checkpoint),
            progress=report,
        )


def soft_target_loss(
    store: SoftTargets,
    *,
    temperature: float,
    soft_weight: float,
    hard_weight: float,
    mean: Mean = "arithmetic",
    member_weights: Sequence[float] | None = None,
    change: ChangeFn | None = None,
) -> LossFn:
    """Make the loss of a student that learns from a store, for `attar.training`.

    Its arguments are those of `distill`; `change` alters the soft targets before they are used.
    """
    shares = _shares(store, member_weights)
    store.check_mean(mean)

    def loss_of(logits: Tensor, soft: SoftTargetBatch, hard_targets: Tensor) -> Tensor:
        weights = {
            "temperature": temperature,
            "soft_weight": soft_weight,
            "hard_weight": hard_weight,
        }
        if isinstance(soft, DenseTargets):
            return distillation_loss(logits, soft.logits, hard_targets, **weights)
        return sparse_distillation_loss(logits, soft, hard_targets, **weights)

    def loss_fn(logits: Tensor, batch: Batch) -> Tensor:
        soft = store.batch(batch.indices, batch.view).to(logits.device)
        hard_targets = batch.hard_targets
        if change is not None:
            soft = change(soft, batch.indices)
        if len(shares) > 1 and isinstance(soft, DenseTargets):
            soft = DenseTargets(
                mean_logits(soft.logits, mean=mean, temperature=temperature, shares=shares)
            )
        elif len(shares) > 1 and isinstance(soft, SparseTargets):
            # Members have different classes. The cross-entropy is linear in the soft targets: that
            # with the members' mean is the mean of those with each.
            losses = [
                share * loss_of(logits, soft.member(place), hard_targets)
                for place, share in enumerate(shares)
            ]
            return torch.stack(losses).sum(dim=0).mean()
        return loss_of(logits, soft, hard_targets).mean()

    return loss_fn


def _shares(store: SoftTargets, weights: Sequence[float] | None) -> tuple[float, ...]:
    count = store.plan.member_count
    given = [1.0] * count if weights is None else list(weights)
    if len(given) != count or min(given) < 0 or not 0 < sum(given) < float("inf"):
        raise AttarError(
            f"expected a weight >= 0 for each of {count} members, not all of them 0, got {given}"
        )
    return tuple(weight / sum(given) for weight in given)


def check_fits(store: SoftTargets, transfer_set: ExampleSet) -> None:
    """Raise `StoreError` unless the store was made for this set: data, classes and views."""
    store.check_made_for(data=transfer_set.fingerprint(), class_names=transfer_set.class_names)
    if not any(view.number for view in store.plan.views):
        return
    maker = name_views(transfer_set.views)
    for view in store.plan.views:
        if view.number and view.maker != maker:
            raise StoreError(
                f"{store.folder} was made for views of {view.maker}, got a transfer set with "
                f"views of {maker}; give it the views that were labeled"
            )
