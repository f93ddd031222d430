"""Verdicts: the pairs to compare, their tests, and the outcomes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from attar.comparison.statistics import (
    Judged,
    Wrong,
    bootstrap_gap_closed,
    correct_for_many,
    mcnemar,
    paired_bootstrap,
)
from attar.comparison_records import GapClosed, Outcome, Test, Verdict
from attar.errors import AttarError, check_not_negative, check_positive


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Settings of the verdicts."""

    level: float  # probability of at least one false BETTER or WORSE; separately of EQUIVALENT
    margin: float | None = None  # difference of error rates; smaller ones can be EQUIVALENT
    resamples: int  # of a bootstrap
    seed: int  # of the resampling

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 < self.level < 1:
            raise AttarError(f"expected level between 0 and 1, such as 0.05, got {self.level}")
        if self.margin is not None and not 0 < self.margin < 1:
            raise AttarError(
                "expected margin as a difference of error rates between 0 and 1, got "
                f"{self.margin}; half a percentage point is margin=0.005"
            )
        check_positive(resamples=self.resamples)
        check_not_negative(seed=self.seed)


def choose_pairs(
    names: Sequence[str], pairs: Sequence[tuple[str, str]] | None
) -> tuple[tuple[str, str], ...]:
    """Return the pairs to compare: all, or the chosen ones.

    Raises:
        AttarError: If a pair names an unknown model, or one model twice.
    """
    if pairs is None:
        return tuple(combinations(names, 2))
    chosen: dict[frozenset[str], tuple[str, str]] = {}
    for pair in pairs:
        first, second = pair
        unknown = [name for name in pair if name not in names]
        if unknown or first == second:
            raise AttarError(f"expected pairs of two of the models {list(names)}, got {pair!r}")
        chosen.setdefault(frozenset(pair), (first, second))
    return tuple(chosen.values())


def judge(
    wrong: Mapping[str, Wrong], pairs: Sequence[tuple[str, str]], rules: Rules
) -> tuple[Verdict, ...]:
    """Test each pair, and correct the p-values for the number of pairs.

    Args:
        wrong: Errors of each model, `[seeds, examples]`, by its name.
        pairs: Names of the models to compare.
        rules: Level, margin and resampling.
    """
    judged = [_test(wrong[first], wrong[second], rules) for first, second in pairs]
    corrected = correct_for_many([each.p_value for _, each in judged])
    equivalence: Sequence[float | None] = [None] * len(judged)
    if rules.margin is not None:
        raw = [each.equivalence_p_value for _, each in judged]
        equivalence = correct_for_many([value for value in raw if value is not None])
    return tuple(
        _verdict(pair, wrong, test, each, p_value, equivalent, rules.level)
        for pair, (test, each), p_value, equivalent in zip(
            pairs, judged, corrected, equivalence, strict=True
        )
    )


def measure_gap(
    wrong: Mapping[str, Wrong],
    name: str,
    *,
    teacher: str | None,
    baseline: str | None,
    rules: Rules,
) -> GapClosed | None:
    """Return the share of the gap between baseline and teacher that a model closes.

    None for the teacher and the baseline, and if the data has no gap.
    """
    if teacher is None or baseline is None or name in (teacher, baseline):
        return None
    return bootstrap_gap_closed(
        wrong[baseline],
        wrong[name],
        wrong[teacher],
        level=rules.level,
        resamples=rules.resamples,
        seed=rules.seed,
    )


def _test(first: Wrong, second: Wrong, rules: Rules) -> tuple[Test, Judged]:
    if len(first) == len(second) == 1:
        judged = mcnemar(first, second, level=rules.level, margin=rules.margin)
        return "exact McNemar", judged
    judged = paired_bootstrap(
        first,
        second,
        level=rules.level,
        resamples=rules.resamples,
        seed=rules.seed,
        margin=rules.margin,
    )
    return "paired bootstrap", judged


def _verdict(
    pair: tuple[str, str],
    wrong: Mapping[str, Wrong],
    test: Test,
    judged: Judged,
    p_value: float,
    equivalence_p_value: float | None,
    level: float,
) -> Verdict:
    within_margin = equivalence_p_value is not None and equivalence_p_value <= level
    outcome: Outcome = "equivalent" if within_margin else "undecided"
    if p_value <= level:  # a difference can be significant and within the margin
        outcome = "better" if judged.difference < 0 else "worse"
    first, second = (wrong[name].mean(axis=0) for name in pair)  # [examples]
    return Verdict(
        model=pair[0],
        other=pair[1],
        outcome=outcome,
        p_value=p_value,
        raw_p_value=judged.p_value,
        test=test,
        difference=judged.difference,
        interval=judged.interval,
        only_model_right=float(np.sum((1 - first) * second)),
        only_other_right=float(np.sum(first * (1 - second))),
        equivalence_p_value=equivalence_p_value,
        within_margin=within_margin,
    )
