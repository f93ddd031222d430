"""Choosing the temperature: students of several, trained together, compared on held-out data."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.cohorts import Cohort
from attar.data import Batch, TransferSet
from attar.errors import AttarError, DataError
from attar.evaluation import compute_logits, measure_logits
from attar.files import sha256
from attar.losses import (
    MemberWeights,
    SoftTargetBatch,
    SparseTargets,
    member_distillation_loss,
    sparse_distillation_loss,
)
from attar.metrics import is_error, mcnemar_p_value
from attar.progress import reporting
from attar.targets import SoftTargets, Sparse
from attar.temperatures.records import (
    SIGNIFICANT,
    Candidate,
    TemperatureChoice,
    TemperatureSearch,
)
from attar.training import LossFn, Step, TrainingRun, TrainingSettings
from attar.training.settings import check_one_of


def choose_temperature(
    student: nn.Module,
    transfer_set: TransferSet,
    store: SoftTargets,
    settings: TrainingSettings,
    *,
    search: TemperatureSearch,
    soft_weight: float,
    hard_weight: float,
    mean: Literal["arithmetic", "geometric"],
    shares: Sequence[float],
    checkpoint: Path | None = None,
    progress: Callable[[Step], None] | None = None,
) -> TemperatureChoice:
    """Train copies of a student together, one for each candidate, and choose by held-out errors.

    All candidates start from the student's weights and see the same batches, so they differ by
    temperature and hard weight alone. The fewest errors win; of equals, the smaller negative
    log-likelihood. Each other candidate is held against the winner by a paired sign test (the
    exact McNemar test) with Bonferroni's correction for all pairs of candidates.

    Args:
        student: Is copied, and stays as it is.
        transfer_set: The labeled examples; those with hard targets judge.
        store: Their soft targets.
        settings: How each is trained.
        search: The candidates, and how much is held out: drawn with the settings' seed.
        soft_weight: Of all candidates.
        hard_weight: Of all candidates, unless the search names some.
        mean: Of the teacher's members.
        shares: Of the members in that mean, together 1.
        checkpoint: Its name with `.choice.json` keeps the choice, and with `.choice` the cohort's
            state until then; what is there already is not done again.
        progress: Called after every step.

    Raises:
        DataError: If there are too few examples with hard targets to hold some out.
        FolderError: If what is there belongs to another search.
    """
    weights = [
        MemberWeights(temperature=temperature, soft_weight=soft_weight, hard_weight=each)
        for each in search.hard_weights or (hard_weight,)
        for temperature in search.temperatures
    ]
    kept, held_out = _hold_out(transfer_set, search.held_out, settings.seed)
    identity = {
        "store": store.fingerprint(),
        "search": str([asdict(each) for each in weights]),
        "mean": mean,
        "member_weights": str(tuple(shares)),
    }
    made_for = sha256(repr((identity, asdict(settings), transfer_set.fingerprint())).encode())
    record, state = (
        None if checkpoint is None else checkpoint.with_name(checkpoint.name + suffix)
        for suffix in (".choice.json", ".choice")
    )
    if record is not None and record.exists():
        return TemperatureChoice.read(record, made_for=made_for)
    cohort = Cohort([copy.deepcopy(student) for _ in weights])
    run = TrainingRun(
        cohort,
        transfer_set.subset(kept),
        cohort_soft_target_loss(store, weights, mean=mean, shares=shares, rows=kept),
        settings,
        checkpoint=state,
        identity=identity,
        views=[view.number for view in store.plan.views],
    )
    with reporting(progress) as report:
        for step in run:
            report(step)
    judges = transfer_set.subset(held_out)
    choice = _judge(compute_logits(cohort, judges), judges.hard_targets, weights)
    if record is not None and state is not None:
        choice.write(record, made_for=made_for)
        state.unlink(missing_ok=True)
    return choice


def cohort_soft_target_loss(
    store: SoftTargets,
    weights: Sequence[MemberWeights],
    *,
    mean: Literal["arithmetic", "geometric"],
    shares: Sequence[float],
    rows: Tensor,
) -> LossFn:
    """Make the loss of a cohort that learns from a store: each member's mean, summed over them.

    Args:
        store: Of the soft targets.
        weights: Of the cohort's members.
        mean: Of the teacher's members.
        shares: Of the teacher's members in it.
        rows: Where the examples that are trained on stand in the store, `[examples]`.

    Raises:
        AttarError: If the mean is not one of these, or is geometric and the store sparse.
    """
    check_one_of("mean", mean, ("arithmetic", "geometric"))
    if mean == "geometric" and len(shares) > 1 and isinstance(store.plan.encoding, Sparse):
        raise AttarError(
            "expected a dense store for the geometric mean: sparse members have different "
            "classes; label with Dense(), or take the arithmetic mean"
        )

    def loss_of(logits: Tensor, soft: SoftTargetBatch, hard_targets: Tensor) -> Tensor:
        if not isinstance(soft, SparseTargets):
            return member_distillation_loss(logits, soft.logits, hard_targets, weights)
        pairs = zip(logits, weights, strict=True)
        return torch.stack(
            [sparse_distillation_loss(z, soft, hard_targets, **asdict(each)) for z, each in pairs]
        )

    def loss_fn(logits: Tensor, batch: Batch) -> Tensor:
        places = rows[batch.indices]
        if mean == "geometric" and len(shares) > 1:
            soft = store.batch(places, batch.view)
            assert not isinstance(soft, SparseTargets)
            v = torch.einsum("m,mbc->bc", soft.logits.new_tensor(shares), soft.logits)
            losses = member_distillation_loss(logits, v, batch.hard_targets, weights)
        else:
            # The cross-entropy is linear in the soft targets: see distill.
            losses = torch.stack(
                [
                    share * loss_of(logits, store.batch(places, batch.view, k), batch.hard_targets)
                    for k, share in enumerate(shares)
                ]
            ).sum(dim=0)
        return losses.mean(dim=1).sum()

    return loss_fn


def _hold_out(transfer_set: TransferSet, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Split the examples: those to learn from, and those, with hard targets, to judge by."""
    labeled = (transfer_set.hard_targets >= 0).nonzero().squeeze(1)
    count = round(fraction * len(labeled))
    if not 0 < count < len(transfer_set):
        raise DataError(
            f"expected examples with hard targets to hold out, got {len(labeled)} of which "
            f"{fraction:g} is {count}; give the temperature as a number, or hold out more"
        )
    generator = torch.Generator().manual_seed(seed)
    chosen = labeled[torch.randperm(len(labeled), generator=generator)[:count]]
    is_kept = torch.ones(len(transfer_set), dtype=torch.bool)
    is_kept[chosen] = False
    return is_kept.nonzero().squeeze(1), chosen.sort().values


def _judge(
    logits: Float[Tensor, "candidates examples classes"],
    hard_targets: Tensor,
    weights: Sequence[MemberWeights],
) -> TemperatureChoice:
    wrong = torch.stack([is_error(each, hard_targets) for each in logits])  # [candidates, examples]
    nll = [measure_logits(each, hard_targets).nll for each in logits]
    errors: list[int] = wrong.sum(dim=1).tolist()
    chosen = min(range(len(weights)), key=lambda place: (errors[place], nll[place]))
    # The winner was found by looking at all of them, so all pairs count (Bonferroni).
    pairs = max(1, math.comb(len(weights), 2))
    by_chance = [min(1.0, pairs * _chance(each, wrong[chosen])) for each in wrong]
    return TemperatureChoice(
        temperature=weights[chosen].temperature,
        hard_weight=weights[chosen].hard_weight,
        candidates=tuple(
            Candidate(
                temperature=each.temperature,
                hard_weight=each.hard_weight,
                errors=errors[place],
                nll=nll[place],
                worse_by_chance=by_chance[place],
            )
            for place, each in enumerate(weights)
        ),
        examples=len(hard_targets),
        matters=min(by_chance) < SIGNIFICANT,
    )


def _chance(wrong: Tensor, chosen_wrong: Tensor) -> float:
    """Return the p-value of the exact McNemar test of two students on the same set."""
    worse, better = int((wrong & ~chosen_wrong).sum()), int((~wrong & chosen_wrong).sum())
    return mcnemar_p_value(worse, better)
