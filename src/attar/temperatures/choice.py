"""Choose the temperature: train students at several and compare them on held-out data."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from attar.cohorts import Cohort
from attar.data import Batch, TransferSet, mix_seed, name_views
from attar.errors import DataError, FolderError
from attar.evaluation import map_logits
from attar.losses import (
    DenseTargets,
    Mean,
    MemberWeights,
    SparseTargets,
    mean_logits,
    member_distillation_loss,
    sparse_distillation_loss,
)
from attar.metrics import is_error, mcnemar_p_value, negative_log_likelihood
from attar.progress import reporting
from attar.targets import SoftTargets
from attar.teachers.fingerprints import hash_network, hash_value
from attar.teachers.hugging_face import as_network
from attar.temperatures.records import (
    SIGNIFICANT,
    Candidate,
    TemperatureChoice,
    TemperatureSearch,
)
from attar.training import LossFn, Step, TrainingRun, TrainingSettings

_SEARCH = 2  # the stream of seeds of a search; TrainingRun has 0 and 1


def choose_temperature(
    student: nn.Module,
    transfer_set: TransferSet,
    store: SoftTargets,
    settings: TrainingSettings,
    *,
    search: TemperatureSearch,
    soft_weight: float,
    hard_weight: float,
    mean: Mean,
    shares: Sequence[float],
    checkpoint: Path | None = None,
    progress: Callable[[Step], None] | None = None,
) -> TemperatureChoice:
    """Train copies of a student together, one per candidate, and choose by held-out errors.

    All candidates start from the student's weights and see the same batches, so they differ only in
    temperature and hard weight. The candidate with the fewest errors is chosen; ties go to the
    smaller negative log-likelihood. Each other candidate is compared with it by a paired sign test
    (the exact McNemar test) with Bonferroni's correction for all pairs of candidates.

    Args:
        student: The student; it is copied and not changed.
        transfer_set: The labeled examples; some of those with hard targets are held out.
        store: Their soft targets.
        settings: Settings of each training.
        search: The candidates, and the held-out fraction; drawn with the settings' seed.
        soft_weight: Soft weight of all candidates.
        hard_weight: Hard weight of all candidates, unless the search has several.
        mean: Mean of the teacher's members.
        shares: Weights of the members, sum 1.
        checkpoint: The choice is stored under this name with `.choice.json`, and the state of the
            search with `.choice`; both are reused. A choice of another search is replaced if the
            checkpoint itself does not exist, and refused otherwise.
        progress: Called after every step.

    Raises:
        DataError: If there are too few examples with hard targets to hold some out.
        FolderError: If the files belong to another search.
    """
    weights = [
        MemberWeights(temperature=temperature, soft_weight=soft_weight, hard_weight=each)
        for each in search.hard_weights or (hard_weight,)
        for temperature in search.temperatures
    ]
    kept, held_out = hold_out(transfer_set, search.held_out, settings.seed)
    identity: dict[str, str | float] = {
        "loss": "attar.distill",
        "store": store.fingerprint(),
        "search": str([asdict(each) for each in weights]),
        "held_out": search.held_out,
        "mean": mean,
        "member_weights": str(tuple(shares)),
    }
    made_for = hash_value(
        [
            identity,
            asdict(settings),
            transfer_set.fingerprint(),
            name_views(transfer_set.views) if any(view.number for view in store.plan.views) else "",
            hash_network(student),
        ]
    )
    record, state = (
        None if checkpoint is None else checkpoint.with_name(checkpoint.name + suffix)
        for suffix in (".choice.json", ".choice")
    )
    if record is not None and checkpoint is not None and record.exists():
        try:
            return TemperatureChoice.read(record, made_for=made_for)
        except FolderError:
            if checkpoint.exists():  # a student was trained with this choice
                raise
    # Another seed stream, so that candidates do not see the batches and masks of the student.
    settings = replace(settings, seed=mix_seed(settings.seed, _SEARCH))
    cohort = Cohort([as_network(copy.deepcopy(student), transfer_set.class_names) for _ in weights])
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
    choice = _judge(cohort, judges, weights)
    if record is not None and state is not None:
        choice.write(record, made_for=made_for)
        state.unlink(missing_ok=True)
    return choice


def cohort_soft_target_loss(
    store: SoftTargets,
    weights: Sequence[MemberWeights],
    *,
    mean: Mean,
    shares: Sequence[float],
    rows: Tensor,
) -> LossFn:
    """Return the loss of a cohort trained on a store: the sum of the members' mean losses.

    Args:
        store: The soft targets.
        weights: Loss weights of the cohort's members.
        mean: Mean of the teacher's members.
        shares: Weights of the teacher's members, sum 1.
        rows: Positions of the training examples in the store, `[examples]`.

    Raises:
        AttarError: If the mean is unknown, or is geometric and the store sparse.
    """
    store.check_mean(mean)

    def of_dense(logits: Tensor, soft: DenseTargets, hard_targets: Tensor) -> Tensor:
        v = soft.logits  # [batch, classes], or of several teachers [teachers, batch, classes]
        if len(shares) > 1:  # one mean per member of the cohort, at its temperature
            v = torch.stack(
                [
                    mean_logits(v, mean=mean, temperature=each.temperature, shares=shares)
                    for each in weights
                ]
            )
        return member_distillation_loss(logits, v, hard_targets, weights)

    def of_sparse(logits: Tensor, soft: SparseTargets, hard_targets: Tensor) -> Tensor:
        # The cross-entropy is linear in the soft targets: see distill.
        teachers = [soft.member(k) for k in range(len(shares))] if len(shares) > 1 else [soft]
        return torch.stack(
            [
                torch.stack(
                    [
                        share * sparse_distillation_loss(z, taught, hard_targets, **asdict(each))
                        for share, taught in zip(shares, teachers, strict=True)
                    ]
                ).sum(dim=0)
                for z, each in zip(logits, weights, strict=True)
            ]
        )

    def loss_fn(logits: Tensor, batch: Batch) -> Tensor:
        soft = store.batch(rows[batch.indices], batch.view).to(logits.device)
        if isinstance(soft, SparseTargets):
            losses = of_sparse(logits, soft, batch.hard_targets)
        else:
            losses = of_dense(logits, soft, batch.hard_targets)
        return losses.mean(dim=1).sum()  # [members, batch] -> []

    return loss_fn


def hold_out(transfer_set: TransferSet, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Split the examples into training examples and held-out ones with hard targets.

    Raises:
        DataError: If there are too few examples with hard targets.
    """
    labeled = (transfer_set.hard_targets >= 0).nonzero().squeeze(1)
    count = round(fraction * len(labeled))
    if not 0 < count < len(transfer_set):
        raise DataError(
            f"too few examples with hard targets to hold out: {fraction:g} of {len(labeled)} is "
            f"{count}; pass the temperature as a number, or hold out more"
        )
    generator = torch.Generator().manual_seed(seed)
    chosen = labeled[torch.randperm(len(labeled), generator=generator)[:count]]
    is_kept = torch.ones(len(transfer_set), dtype=torch.bool)
    is_kept[chosen] = False
    return is_kept.nonzero().squeeze(1), chosen.sort().values


def _judge(
    cohort: nn.Module, judges: TransferSet, weights: Sequence[MemberWeights]
) -> TemperatureChoice:
    hard_targets = judges.hard_targets.cpu()

    def measure(logits: Tensor, indices: Tensor) -> Tensor:  # [2, candidates, batch]
        truth = hard_targets[indices]
        each = [
            torch.stack([is_error(one, truth).double(), negative_log_likelihood(one, truth)])
            for one in logits.cpu()
        ]
        return torch.stack(each, dim=1)

    measured = torch.cat(map_logits(cohort, judges, measure), dim=-1)
    return _choose(measured[0].bool(), measured[1].mean(dim=-1).tolist(), weights)


def _choose(
    wrong: Bool[Tensor, "candidates examples"],
    nll: Sequence[float],
    weights: Sequence[MemberWeights],
) -> TemperatureChoice:
    """Choose the candidate with the fewest errors; ties go to the smaller mean NLL."""
    errors: list[int] = wrong.sum(dim=1).tolist()
    chosen = min(range(len(weights)), key=lambda place: (errors[place], nll[place]))
    # The winner was selected among all candidates, so all pairs count (Bonferroni).
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
        examples=wrong.shape[1],
        matters=min(by_chance) < SIGNIFICANT,
    )


def _chance(wrong: Tensor, chosen_wrong: Tensor) -> float:
    """Return the p-value of the exact McNemar test of two students on the same set."""
    worse, better = int((wrong & ~chosen_wrong).sum()), int((~wrong & chosen_wrong).sum())
    return mcnemar_p_value(worse, better)
