"""Controls: the same student with the same budget, but without what the teacher knows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, get_args

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from attar.data import Batch, TransferSet, draw_uniform
from attar.distillation import check_fits, soft_target_loss
from attar.errors import AttarError, DataError, check_not_negative
from attar.losses import DenseTargets, Mean, SoftTargetBatch, mean_logits, member_shares
from attar.progress import reporting
from attar.targets import SoftTargets
from attar.training import LossFn, OptimizerName, Step, TrainingRun, make_settings
from attar.urls import Place

Control = Literal["hard targets", "label smoothing", "shuffled teacher"]
CONTROLS: tuple[Control, ...] = get_args(Control)


@dataclass(frozen=True, slots=True)
class ControlProgress:
    """How far the training of the controls is."""

    control: Control
    seed: int
    step: Step  # of this network
    fraction: float  # of all networks

    def __str__(self) -> str:
        """Say it for people."""
        rest = str(self.step).partition(" · ")[2]
        return f"control “{self.control}”, seed {self.seed} · {rest}"


def train_controls(
    make_student: Callable[[int], nn.Module],
    transfer_set: TransferSet,
    targets: SoftTargets | Place | str,
    *,
    temperature: float,
    soft_weight: float,
    hard_weight: float,
    epochs: int,
    controls: Sequence[Control] = CONTROLS,
    seeds: Sequence[int] = (0,),
    label_smoothing: float = 0.1,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
    optimizer: OptimizerName = "adamw",
    mean: Mean = "arithmetic",
    member_weights: Sequence[float] | None = None,
    progress: Callable[[ControlProgress], None] | None = None,
) -> dict[str, tuple[nn.Module, ...]]:
    """Train what a distilled student has to beat, with the settings that it was distilled with.

    - `hard targets`: without distillation, on hard targets alone;
    - `label smoothing`: on hard targets that give every class a little;
    - `shuffled teacher`: on soft targets whose classes, but for the most probable one, change
      places, in each example in another way. It is as sure as the teacher, but does not know which
      classes resemble each other: what the distilled student gains over it is dark knowledge.

    All see the same batches in the same order as the student that `attar.distill` trains.

    Args:
        make_student: Makes an untrained student for a seed.
        transfer_set: The examples that were labeled.
        targets: A finished store, or its folder or URL.
        temperature: T of the soft targets, for the shuffled teacher.
        soft_weight: Factor of T² times the soft cross-entropy, for the shuffled teacher.
        hard_weight: Factor of the cross-entropy with the hard targets, for the shuffled teacher.
        epochs: Passes over the transfer set.
        controls: Which of them.
        seeds: One network for each; also that of the order of examples and of dropout.
        label_smoothing: Share of the probability that is spread evenly over all classes.
        batch_size: Examples in a batch.
        learning_rate: At its highest.
        optimizer: `adamw`, or `sgd` with Nesterov momentum.
        mean: Of an ensemble's members, for the shuffled teacher.
        member_weights: Weights of the members in that mean; equal by default.
        progress: Called after every step; `attar.ProgressBar()` shows how far it is.

    Returns:
        The trained networks, one a seed, by the control's name: for `attar.compare(controls=...)`.

    Raises:
        AttarError: If an argument is out of range, or a control is unknown.
        DataError: If hard targets are needed and there are none.
        StoreError: If the store is unfinished, damaged, or made for other data, classes or views.
        DivergedError: If a loss or a gradient is not finite.

    Source: the shuffled teacher is DKPP of Furlanello et al. (2018), "Born-again neural networks".
    """
    _check(controls, seeds, label_smoothing, transfer_set)
    store = targets if isinstance(targets, SoftTargets) else SoftTargets.open(targets)
    check_fits(store, transfer_set)
    shuffled = partial(
        soft_target_loss,
        store,
        temperature=temperature,
        soft_weight=soft_weight,
        hard_weight=hard_weight,
        mean=mean,
        member_weights=member_weights,
    )
    shares = member_shares(member_weights, store.plan.member_count)
    trained: dict[str, tuple[nn.Module, ...]] = {}
    runs = [(control, seed) for control in controls for seed in seeds]
    with reporting(progress) as report:
        for place, (control, seed) in enumerate(runs):
            if control == "shuffled teacher":
                loss_fn = shuffled(change=partial(_shuffle, mean=mean, shares=shares, seed=seed))
            else:
                loss_fn = _hard_loss(label_smoothing if control == "label smoothing" else 0.0)
            run = TrainingRun(
                make_student(seed),
                transfer_set,
                loss_fn,
                make_settings(epochs, batch_size, learning_rate, optimizer, seed),
                views=[view.number for view in store.plan.views],
            )
            for step in run:
                fraction = (place + step.fraction) / len(runs)
                report(ControlProgress(control, seed, step, fraction))
            trained[control] = (*trained.get(control, ()), run.network.eval())
    return trained


def _check(
    controls: Sequence[Control],
    seeds: Sequence[int],
    label_smoothing: float,
    transfer_set: TransferSet,
) -> None:
    if not controls or set(controls) - set(CONTROLS) or len(set(controls)) < len(controls):
        raise AttarError(f"expected some of the controls {list(CONTROLS)}, got {list(controls)}")
    if not seeds or len(set(seeds)) < len(seeds):
        raise AttarError(f"expected one seed or more, all different, got {list(seeds)}")
    check_not_negative(label_smoothing=label_smoothing)
    if label_smoothing > 1:
        raise AttarError(f"expected label_smoothing in 0..1, got {label_smoothing}")
    if set(controls) != {"shuffled teacher"} and (transfer_set.hard_targets < 0).all():
        raise DataError(
            "expected hard targets to train controls on, the transfer set has none; "
            'try controls=["shuffled teacher"]'
        )


def _hard_loss(label_smoothing: float) -> LossFn:
    """Make the mean cross-entropy of the examples that have a hard target."""

    def loss_fn(logits: Tensor, batch: Batch) -> Tensor:
        total = nn.functional.cross_entropy(
            logits,
            batch.hard_targets,
            ignore_index=-1,
            label_smoothing=label_smoothing,
            reduction="sum",
        )
        return total / (batch.hard_targets >= 0).sum().clamp(min=1)

    return loss_fn


def _shuffle(
    soft: SoftTargetBatch,
    indices: Int64[Tensor, " batch"],
    seed: int,
    mean: Mean = "arithmetic",
    shares: Sequence[float] = (1.0,),
) -> SoftTargetBatch:
    """Let all classes but the most probable one change places, as seed and example say.

    An ensemble's members change places alike; what stays is the most probable class of their mean.
    """
    if isinstance(soft, DenseTargets):
        is_ensemble = soft.logits.ndim == 3
        totals = mean_logits(soft.logits, mean=mean, shares=shares) if is_ensemble else soft.logits
        places = _permute(totals.argmax(dim=-1), totals.shape[1], indices, seed)
        moved = torch.empty_like(soft.logits)
        return DenseTargets(moved.scatter_(-1, places.expand_as(moved), soft.logits))
    members = soft.indices if soft.indices.ndim == 3 else soft.indices[None]  # [members, batch, k]
    logits = soft.logits.reshape(members.shape)
    totals = logits.new_zeros(members.shape[1], soft.classes)
    for index, logit, share in zip(members, logits, shares, strict=True):
        largest = slice(None, soft.largest)
        weights = share * torch.softmax(logit[:, largest], dim=-1)
        totals.scatter_add_(-1, index[:, largest], weights)
    places = _permute(totals.argmax(dim=-1), soft.classes, indices, seed)
    moved = places.expand(len(members), -1, -1).gather(-1, members)
    return replace(soft, indices=moved.reshape(soft.indices.shape))


def _permute(
    kept: Int64[Tensor, " batch"], classes: int, indices: Int64[Tensor, " batch"], seed: int
) -> Int64[Tensor, "batch classes"]:
    """Draw a new place for each class of each example, but for the one that is kept."""
    keys = draw_uniform(seed, 0, indices, draws=classes)  # [batch, classes]
    keys.scatter_(-1, kept[:, None], -1.0)
    is_kept = torch.arange(classes) == kept[:, None]
    slots = (~is_kept).long().argsort(dim=-1, stable=True)  # the kept one, then the others in order
    return torch.empty_like(slots).scatter_(-1, slots, keys.argsort(dim=-1))
