"""Run all models on a labeled set in batches, and summarize their outputs."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attar.comparison.candidates import Candidate, Network
from attar.comparison_records import (
    NO_ANSWER,
    Agreement,
    NetworkResult,
    ReliabilityBin,
    TeacherAgreement,
    mean_recall,
)
from attar.comparison_records.records import count_classes
from attar.data import ExampleSet
from attar.metrics import is_error, kl_divergence, negative_log_likelihood, squared_error

BINS = 15  # of the confidence, of equal width, as in Guo et al. (2017)
_BATCH = 256  # examples, or fewer of many classes:
_LARGEST_BATCH = 2**21  # logits
_TOP = 5


@dataclass(frozen=True, slots=True)
class Answers:
    """The outputs of one network; all tensors are `[examples]`."""

    predictions: Tensor  # int64, `NO_ANSWER` where there are no probabilities
    wrong: Tensor  # bool
    outside_top: Tensor  # bool: the true class is not among the five most probable ones
    confidence: Tensor  # of the most probable class
    nll: Tensor
    squared_error: Tensor
    kl: Tensor  # KL(teacher || network); NaN where there is no teacher


def ask(
    candidates: Sequence[Candidate],
    teacher: Candidate | None,
    test_set: ExampleSet,
    *,
    report: Callable[[int], None],
) -> dict[str, tuple[Answers, ...]]:
    """Run every network of every model on every example.

    Args:
        candidates: The models.
        teacher: The teacher, if there is one.
        test_set: The examples, all labeled.
        report: Called after each batch with the number of examples so far.

    Returns:
        The outputs by name of the model, for each of its seeds.
    """
    rows = max(1, min(_BATCH, _LARGEST_BATCH // test_set.classes))
    parts: dict[str, list[list[Answers]]] = {
        each.name: [[] for _ in each.networks] for each in candidates
    }
    for indices in torch.arange(len(test_set)).split(rows):
        batch = test_set.batch(indices)
        hard_targets = batch.hard_targets.cpu()
        taught = [network.logits(batch) for network in teacher.networks] if teacher else []
        for candidate in candidates:
            for seed, network in enumerate(candidate.networks):
                is_teacher = candidate is teacher
                logits = taught[seed] if is_teacher else network.logits(batch)
                by = None if is_teacher else _teacher_of(taught, seed, candidate.networks)
                parts[candidate.name][seed].append(_answers(logits, hard_targets, by))
        report(int(indices[-1]) + 1)
    return {name: tuple(_join(of_seed) for of_seed in of_model) for name, of_model in parts.items()}


def has_teacher(teacher: Candidate | None, candidate: Candidate) -> bool:
    """Return whether a candidate is compared with the teacher: seed by seed, or all with one."""
    if teacher is None or candidate is teacher:
        return False
    return len(teacher.networks) in (1, len(candidate.networks))


def summarize(
    network: Network,
    answers: Answers,
    teacher: Answers | None,
    hard_targets: Tensor,
    classes: int,
) -> NetworkResult:
    """Make the record of a network from its outputs and those of its teacher."""
    wrong = answers.wrong
    bins = _reliability(answers)
    errors = int(wrong.sum())
    has_all = bool((answers.predictions != NO_ANSWER).all())
    class_errors = tuple(torch.bincount(hard_targets[wrong], minlength=classes).tolist())
    return NetworkResult(
        errors=errors,
        accuracy=1 - errors / len(wrong),
        balanced_accuracy=mean_recall(class_errors, count_classes(hard_targets.tolist(), classes)),
        top5_accuracy=None if classes <= _TOP else 1 - float(answers.outside_top.double().mean()),
        nll=_mean(answers.nll),
        brier=_mean(answers.squared_error),
        ece=_calibration_error(bins) if has_all else None,
        not_a_number=int((answers.predictions == NO_ANSWER).sum()),
        class_errors=class_errors,
        reliability=bins,
        with_teacher=None if teacher is None else _agreement(answers, teacher),
        fingerprint=network.teacher.fingerprint(),
        predictions=tuple(answers.predictions.tolist()),
    )


def _teacher_of(taught: list[Tensor], seed: int, networks: Sequence[Network]) -> Tensor | None:
    if len(taught) == 1:
        return taught[0]
    return taught[seed] if len(taught) == len(networks) else None


def _answers(logits: Tensor, hard_targets: Tensor, teacher_logits: Tensor | None) -> Answers:
    log_q = torch.log_softmax(logits, dim=-1)  # [batch, classes]
    absent = log_q.isnan().any(dim=-1)  # [batch]
    logits = torch.where(absent[:, None], torch.nan, logits)
    confidence, predictions = log_q.max(dim=-1)
    top = logits.topk(min(_TOP, logits.shape[1]), dim=-1).indices  # [batch, 5]
    return Answers(
        predictions=torch.where(absent, NO_ANSWER, predictions),
        wrong=is_error(logits, hard_targets),
        outside_top=absent | (top != hard_targets[:, None]).all(dim=-1),
        confidence=confidence.exp(),
        nll=negative_log_likelihood(logits, hard_targets),
        squared_error=squared_error(logits, hard_targets),
        kl=torch.full_like(confidence, torch.nan)
        if teacher_logits is None
        else kl_divergence(logits, teacher_logits),
    )


def _join(parts: list[Answers]) -> Answers:
    names = Answers.__slots__
    return Answers(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


def _mean(values: Tensor) -> float | None:
    mean = float(values.mean())
    return mean if math.isfinite(mean) else None


def _reliability(answers: Answers) -> tuple[ReliabilityBin, ...]:
    """Sort the examples into bins of confidence, each without its lower bound and with its upper.

    Source: Guo et al. (2017), "On calibration of modern neural networks", equation 2.
    """
    answered = answers.predictions != NO_ANSWER
    confidence, right = answers.confidence[answered], ~answers.wrong[answered]
    places = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
    bins = []
    for place in range(BINS):
        inside = places == place
        count = int(inside.sum())
        bins.append(
            ReliabilityBin(
                low=place / BINS,
                high=(place + 1) / BINS,
                examples=count,
                mean_confidence=float(confidence[inside].mean()) if count else None,
                accuracy=float(right[inside].double().mean()) if count else None,
            )
        )
    return tuple(bins)


def _calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """Return the mean over the examples of |accuracy − confidence| of their bins."""
    examples = sum(each.examples for each in bins)
    return sum(
        each.examples / examples * abs(each.accuracy - each.mean_confidence)
        for each in bins
        if each.accuracy is not None and each.mean_confidence is not None
    )


def _agreement(answers: Answers, teacher: Answers) -> TeacherAgreement:
    # Two outputs that are not numbers do not agree.
    agrees = (answers.predictions == teacher.predictions) & (answers.predictions != NO_ANSWER)

    def on(examples: Tensor) -> Agreement:
        count = int(examples.sum())
        if not count:
            return Agreement(0, None, None)
        return Agreement(
            count, float(agrees[examples].double().mean()), _mean(answers.kl[examples])
        )

    return TeacherAgreement(
        everywhere=on(torch.ones_like(agrees)),
        teacher_right=on(~teacher.wrong),
        teacher_wrong=on(teacher.wrong),
    )
