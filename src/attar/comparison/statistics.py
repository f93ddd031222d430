"""Tests and intervals for paired errors, over examples and over seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from attar.comparison_records import GapClosed, Interval
from attar.metrics import mcnemar_p_value

Wrong = Bool[NDArray[Any], "_ examples"]  # [seeds, examples]: where each makes errors
_Numbers = Float[NDArray[Any], "seeds examples"]

_MOST_NUMBERS = 2**22  # in one block of resamples


@dataclass(frozen=True, slots=True)
class Judged:
    """Result of a test of the difference of two error rates, the first minus the second."""

    difference: float
    interval: Interval
    p_value: float  # of a difference as large as this one, if the true one is zero
    equivalence_p_value: float | None = None  # if the true one is the margin; None without margin


def mcnemar(
    first_wrong: Wrong, second_wrong: Wrong, *, level: float, margin: float | None = None
) -> Judged:
    """Compare two networks by the examples that only one of them gets right.

    The p-value is that of the exact conditional test. The interval is unconditional, so in a close
    case it may exclude zero although the more conservative test is not significant.

    Args:
        first_wrong: Errors of the first network, `[1, examples]`.
        second_wrong: Errors of the second network on the same examples.
        level: The interval covers the true difference with probability 1 − level.
        margin: Largest difference of error rates that counts as none, for a test of equivalence.

    Example:
        >>> first, second = np.zeros((1, 50), dtype=bool), np.zeros((1, 50), dtype=bool)
        >>> first[0, :2], second[0, 2:14] = True, True  # 2 and 12 errors, none in common
        >>> round(mcnemar(first, second, level=0.05).p_value, 4)
        0.0129

    Source: `attar.metrics.mcnemar_p_value`; the interval, Bonett & Price (2012), "Adjusted Wald
    confidence interval for a difference of binomial proportions based on paired data".
    """
    examples = first_wrong.shape[1]
    only_first = int((first_wrong & ~second_wrong).sum())
    only_second = int((second_wrong & ~first_wrong).sum())
    first, second = ((count + 1) / (examples + 2) for count in (only_first, only_second))
    error = math.sqrt((first + second - (first - second) ** 2) / (examples + 2))
    reach = NormalDist().inv_cdf(1 - level / 2) * error
    interval = _clip(first - second, reach)
    p_value = mcnemar_p_value(only_first, only_second)
    equivalence = None
    if margin is not None:
        of_interval = NormalDist().cdf((abs(first - second) - margin) / error)
        score = equivalence_p_value(only_first, only_second, examples=examples, margin=margin)
        equivalence = max(of_interval, score)
    return Judged((only_first - only_second) / examples, interval, p_value, equivalence)


def equivalence_p_value(
    only_first: int, only_second: int, *, examples: int, margin: float
) -> float:
    """Return the p-value of equivalence within a margin, for two networks on one set.

    It is the larger p-value of two one-sided score tests, of the null hypotheses that the first
    error rate exceeds the second by at least `margin`, and the reverse. The null variance is that
    of the maximum-likelihood rates with a difference of `margin`. Therefore the p-value is not zero
    if the networks differ on no example: it is the normal probability below
    −√(examples · margin / (1 − margin)).

    Args:
        only_first: Examples that only the first network gets wrong (or only it gets right).
        only_second: Examples that only the second network gets wrong (or right).
        examples: Size of the set.
        margin: Difference of the error rates, between 0 and 1.

    Example:
        >>> round(equivalence_p_value(44, 40, examples=2000, margin=0.01), 4)
        0.0434

    Source: Tango (1998), "Equivalence test and confidence interval for the difference in
    proportions for the paired-sample design", Statistics in Medicine 17.
    """
    larger, smaller = max(only_first, only_second), min(only_first, only_second)
    # The most likely rate of the rarer disagreement: the root of a q² + b q + c = 0.
    a = 2.0 * examples
    b = (2.0 * examples - larger + smaller) * margin - larger - smaller
    c = -smaller * margin * (1.0 - margin)
    rate = (math.sqrt(b * b - 4.0 * a * c) - b) / (2.0 * a)
    variance = examples * (2.0 * rate + margin * (1.0 - margin))
    return NormalDist().cdf((larger - smaller - examples * margin) / math.sqrt(variance))


def paired_bootstrap(
    first_wrong: Wrong,
    second_wrong: Wrong,
    *,
    level: float,
    resamples: int,
    seed: int,
    margin: float | None = None,
) -> Judged:
    """Compare two models over their seeds and examples.

    Each resample draws examples and seeds, the same ones for both models (the same seeds if both
    have the same number of them). The variance of the difference over the resamples counts the
    interaction of seeds and examples three times; two of the three are subtracted. The variance
    over few seeds is estimated poorly, so the difference is compared with Student's t, with
    Welch-Satterthwaite degrees of freedom from the shares of seeds and examples in the variance. No
    p-value is below the smallest one of the exact sign test on the same number of differing
    examples.

    The two one-sided tests of equivalence use the same t. Their variance also includes the
    remaining difference up to the margin, as if it came from examples that were not drawn, each
    with a difference of 1. Otherwise models without any differing example would be equivalent on
    any small set.

    Args:
        first_wrong: Errors of the first model, `[seeds, examples]`.
        second_wrong: Errors of the second model on the same examples; it may have other seeds.
        level: The interval covers the true difference with probability 1 − level.
        resamples: Number of resamples.
        seed: Seed of the resampling.
        margin: Largest difference of error rates that counts as none, for a test of equivalence.

    Source: Owen (2007), "The pigeonhole bootstrap"; Rao & Wu (1988), "Resampling inference with
    complex survey data", for one seed fewer in a resample than there are.
    """
    from scipy.stats import t as student_t  # here: importing it takes a second

    examples = first_wrong.shape[1]
    per_example = first_wrong.mean(axis=0) - second_wrong.mean(axis=0)  # [examples]
    difference = float(per_example.mean())
    differing = int((np.abs(per_example) > 1e-12).sum())
    least = min(1.0, 2.0 * 0.5**differing)  # of the sign test
    if examples == 1:
        return Judged(difference, Interval(-1.0, 1.0), 1.0, None if margin is None else 1.0)
    rates = resample_rates([first_wrong, second_wrong], resamples=resamples, seed=seed)
    drawn = float((rates[:, 0] - rates[:, 1]).var(ddof=1))
    of_examples = float(per_example.var(ddof=1)) / examples
    paths = _seed_paths(first_wrong, second_wrong)
    together = sum(_interaction(path) for path in paths)
    variance = max(of_examples, drawn - 2 * together)
    freedom = _degrees_of_freedom(paths, variance, examples) if variance else examples - 1.0
    equivalence = None
    if margin is not None:
        rest = margin - abs(difference)
        error = math.sqrt(variance + abs(rest) / examples)
        equivalence = float(student_t.sf(rest / error, freedom)) if error else 0.5
    if variance == 0:  # all seeds and examples agree
        return Judged(difference, Interval(difference, difference), least, equivalence)
    error = math.sqrt(variance)
    p_value = 2 * float(student_t.sf(abs(difference) / error, freedom))
    reach = float(student_t.isf(level / 2, freedom)) * error
    return Judged(difference, _clip(difference, reach), max(p_value, least), equivalence)


def bootstrap_gap_closed(
    baseline_wrong: Wrong,
    model_wrong: Wrong,
    teacher_wrong: Wrong,
    *,
    level: float,
    resamples: int,
    seed: int,
) -> GapClosed | None:
    """Return the share of the gap between baseline and teacher that a model closes.

    Args:
        baseline_wrong: Errors of the student without distillation, `[seeds, examples]`.
        model_wrong: Errors of the model.
        teacher_wrong: Errors of the teacher.
        level: Level of the interval.
        resamples: Number of resamples of seeds and examples, as in `paired_bootstrap`.
        seed: Seed of the resampling.

    Returns:
        The share with its percentile interval. The interval is None if at least a fraction
        `level / 2` of the resamples has no gap; the result is None if the data has no gap.
    """
    baseline, model, teacher = (
        float(wrong.mean()) for wrong in (baseline_wrong, model_wrong, teacher_wrong)
    )
    if baseline <= teacher:
        return None
    share = (baseline - model) / (baseline - teacher)
    groups = [baseline_wrong, model_wrong, teacher_wrong]
    rates = resample_rates(groups, resamples=resamples, seed=seed)
    gaps = rates[:, 0] - rates[:, 2]  # [resamples]
    has_gap = gaps > 1e-12
    if (~has_gap).mean() >= level / 2:
        return GapClosed(share, None)
    shares = (rates[has_gap, 0] - rates[has_gap, 1]) / gaps[has_gap]
    low, high = np.quantile(shares, [level / 2, 1 - level / 2])
    return GapClosed(share, Interval(float(low), float(high)))


def resample_rates(
    groups: Sequence[Wrong], *, resamples: int, seed: int
) -> Float[NDArray[Any], "resamples models"]:
    """Return the models' error rates on resamples of examples and seeds.

    All models share the resampled examples; models with the same number of seeds share the seeds.
    """
    generator = np.random.default_rng(seed)
    examples = groups[0].shape[1]
    # Examples with the same errors in all networks are grouped: only their count is drawn.
    patterns, counts = np.unique(np.concatenate(groups).T, axis=0, return_counts=True)
    columns = np.split(patterns, np.cumsum([len(wrong) for wrong in groups])[:-1], axis=1)
    rates = np.empty((resamples, len(groups)))
    block = max(1, _MOST_NUMBERS // len(patterns))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = generator.multinomial(examples, counts / examples, size)  # [size, patterns]
        weights = {
            seeds: generator.multinomial(max(1, seeds - 1), np.full(seeds, 1 / seeds), size)
            / max(1, seeds - 1)
            for seeds in sorted({len(wrong) for wrong in groups})
        }
        for place, column in enumerate(columns):
            by_seed = drawn @ column / examples  # [size, seeds]
            rates[start : start + size, place] = (by_seed * weights[column.shape[1]]).sum(axis=1)
    return rates


def correct_for_many(p_values: Sequence[float]) -> tuple[float, ...]:
    """Correct p-values for their number, by Holm's method.

    Rejecting those of at most `level` makes any false rejection with at most that probability.

    Example:
        >>> [round(p, 4) for p in correct_for_many([0.50, 0.003, 0.32, 0.054, 0.0003])]
        [0.64, 0.012, 0.64, 0.162, 0.0015]

    Source: Holm (1979), "A simple sequentially rejective multiple test procedure".
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return tuple(corrected)


def _seed_paths(first_wrong: Wrong, second_wrong: Wrong) -> list[_Numbers]:
    """Return the errors by seed, `[seeds, examples]`: paired differences, or of each model."""
    if len(first_wrong) == len(second_wrong):
        paths = [first_wrong.astype(float) - second_wrong]
    else:
        paths = [first_wrong.astype(float), second_wrong.astype(float)]
    return [path for path in paths if len(path) > 1]


def _interaction(path: _Numbers) -> float:
    """Return the seed-example interaction in the variance of the mean."""
    seeds, examples = path.shape
    rest = path - path.mean(axis=0) - path.mean(axis=1, keepdims=True) + path.mean()
    return float((rest**2).sum() / ((seeds - 1) * (examples - 1)) / path.size)


def _degrees_of_freedom(paths: Sequence[_Numbers], variance: float, examples: int) -> float:
    """Combine the degrees of freedom of seeds and examples, by Welch and Satterthwaite."""
    parts = [(float(path.mean(axis=1).var(ddof=1)) / len(path), len(path) - 1) for path in paths]
    rest = max(0.0, variance - sum(part for part, _ in parts))
    parts.append((rest, examples - 1))
    total = sum(part for part, _ in parts)
    return float(total**2 / sum(part**2 / freedom for part, freedom in parts))


def _clip(center: float, reach: float) -> Interval:
    return Interval(max(-1.0, center - reach), min(1.0, center + reach))
