"""`attar.distill`: train students from stored soft targets, without the teacher."""

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
    member_shares,
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

ChangeFn = Callable[[SoftTargetBatch, Tensor], SoftTargetBatch]  # soft targets, indices


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
    """Train a student on the soft targets of a store, and on the hard targets of labeled examples.

    Args:
        student: Maps inputs `[batch, ...]` to logits `[batch, classes]`; trained in place.
        transfer_set: The examples that were labeled.
        targets: A finished store, or its folder or URL.
        temperature: Temperature T > 0 of the soft targets; at least 1 for a sparse store. "auto" or
            an `attar.TemperatureSearch` first trains copies of the student together, one per
            temperature, and chooses the temperature with the fewest errors on held-out examples.
            The student is then trained on all examples.
        soft_weight: Factor of T² times the soft cross-entropy.
        hard_weight: Factor of the cross-entropy with the hard targets; examples with hard target
            -1 have only the soft term.
        epochs: Passes over the transfer set. Each pass shows one of the labeled views, in the order
            of the store, in turn.
        batch_size: Examples in a batch.
        learning_rate: Peak learning rate. It rises for a tenth of the epochs, for one epoch at
            most, then decays as a cosine.
        optimizer: `adamw`, or `sgd` with Nesterov momentum.
        seed: Random seed of the order of examples and of dropout.
        mean: Mean of an ensemble's members: `arithmetic`, of their probabilities, or `geometric`,
            of their logits.
        member_weights: Weights of the members; equal by default.
        checkpoint: File to resume from, written periodically and at the end. It is valid for this
            student, with its weights at the time of the call, and for these arguments.
        progress: Called after every step, including those of the temperature search;
            `attar.ProgressBar()` shows it, `attar.TensorBoardLog(folder)` writes event files.
        on_choice: Called with the result of "auto" and its error curve, before the student is
            trained. With a checkpoint, the result is also written to `<checkpoint>.choice.json`.
        share: The part of each batch for this process, if several processes train the student; see
            `attar.cluster.distill`.

    Returns:
        The student, in evaluation mode.

    Raises:
        StoreError: If the store is unfinished, damaged, or made for other data, classes or views.
        FolderError: If the checkpoint is damaged or belongs to another run: another student, other
            data, store, settings, temperature or weights. The student is then unchanged.
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
        AttarError: If `search` is not valid, or the set is streamed.
    """
    if isinstance(search, str) and search != "auto":
        expected = 'a temperature > 0, "auto" or an attar.TemperatureSearch'
        raise AttarError(f"expected {expected}, got {search!r}")
    if not isinstance(transfer_set, TransferSet):
        raise AttarError(
            f"expected a number as temperature of a streamed set, got {search}; search on a "
            "TransferSet of some of its examples, and pass the result"
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
    """Return the loss of a student that is trained on a store, for `attar.training`.

    The arguments are those of `distill`; `change` modifies the soft targets before they are used.
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
            # The members store different classes. The cross-entropy is linear in the soft targets,
            # so the loss for the members' mean is the mean of the losses for each member.
            losses = [
                share * loss_of(logits, soft.member(place), hard_targets)
                for place, share in enumerate(shares)
            ]
            return torch.stack(losses).sum(dim=0).mean()
        return loss_of(logits, soft, hard_targets).mean()

    return loss_fn


def _shares(store: SoftTargets, weights: Sequence[float] | None) -> tuple[float, ...]:
    return member_shares(weights, store.plan.member_count)


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
                f"views of {maker}; use the views that were labeled"
            )
