"""Controls: the same student with the same budget, without the teacher's soft targets."""

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
    """Progress of the training of controls."""

    control: Control
    seed: int
    step: Step  # of this network
    fraction: float  # of all networks

    def __str__(self) -> str:
        """Return one line of progress."""
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
    """Train controls for a distilled student, with the settings of its distillation.

    - `hard targets`: without distillation, on hard targets alone;
    - `label smoothing`: on hard targets with label smoothing;
    - `shuffled teacher`: on soft targets in which all classes except the most probable one are
      permuted, differently in each example. This keeps the teacher's confidence but removes the
      similarity of classes. The gain of the distilled student over this control is dark knowledge.

    All controls see the same batches in the same order as the student of `attar.distill`.

    Args:
        make_student: Makes an untrained student for a seed.
        transfer_set: The examples that were labeled.
        targets: A finished store, or its folder or URL.
        temperature: Temperature of the soft targets, for the shuffled teacher.
        soft_weight: Factor of T² times the soft cross-entropy, for the shuffled teacher.
        hard_weight: Factor of the cross-entropy with the hard targets, for the shuffled teacher.
        epochs: Passes over the transfer set.
        controls: The controls to train.
        seeds: One network per seed; the seed also determines the order of examples and dropout.
        label_smoothing: Share of the probability that is spread evenly over all classes.
        batch_size: Examples in a batch.
        learning_rate: Peak learning rate.
        optimizer: `adamw`, or `sgd` with Nesterov momentum.
        mean: Mean of an ensemble's members, for the shuffled teacher.
        member_weights: Weights of the members; equal by default.
        progress: Called after every step; `attar.ProgressBar()` shows it.

    Returns:
        The trained networks by control, one per seed, for `attar.compare(controls=...)`.

    Raises:
        AttarError: If an argument is out of range, or a control is unknown.
        DataError: If a control needs hard targets and there are none.
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
        raise AttarError(f"expected at least one seed, all different, got {list(seeds)}")
    check_not_negative(label_smoothing=label_smoothing)
    if label_smoothing > 1:
        raise AttarError(f"expected label_smoothing in 0..1, got {label_smoothing}")
    if set(controls) != {"shuffled teacher"} and (transfer_set.hard_targets < 0).all():
        raise DataError(
            "these controls need hard targets, but the transfer set has none; "
            'try controls=["shuffled teacher"]'
        )


def _hard_loss(label_smoothing: float) -> LossFn:
    """Return the mean cross-entropy of the examples that have a hard target."""

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
    """Permute all classes except the most probable one, by seed and example.

    All members of an ensemble use the same permutation; the most probable class of their mean is
    kept.
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
    """Draw a permutation for each example that keeps one class in its position."""
    keys = draw_uniform(seed, 0, indices, draws=classes)  # [batch, classes]
    keys.scatter_(-1, kept[:, None], -1.0)
    is_kept = torch.arange(classes) == kept[:, None]
    slots = (~is_kept).long().argsort(dim=-1, stable=True)  # the kept one, then the others in order
    return torch.empty_like(slots).scatter_(-1, slots, keys.argsort(dim=-1))
