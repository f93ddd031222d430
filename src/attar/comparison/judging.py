"""From answers to verdicts: which pairs are judged, by which test, and what that says."""

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
    """How verdicts are made."""

    level: float  # chance of one wrong BETTER or WORSE or more, if all models were alike
    resamples: int  # of a bootstrap
    seed: int  # of the resampling

    def __post_init__(self) -> None:
        """Check all of it."""
        if not 0 < self.level < 1:
            raise AttarError(f"expected level between 0 and 1, such as 0.05, got {self.level}")
        check_positive(resamples=self.resamples)
        check_not_negative(seed=self.seed)


def choose_pairs(
    names: Sequence[str], pairs: Sequence[tuple[str, str]] | None
) -> tuple[tuple[str, str], ...]:
    """Return the pairs to be judged: all, or those that were asked for.

    Raises:
        AttarError: If one names a model that is not there, or has the same one twice.
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
    """Judge each pair, and correct the p-values for their number.

    Args:
        wrong: Where each model makes errors, `[seeds, examples]`, by its name.
        pairs: Names of the models to be judged.
        rules: At which level, with which resampling.
    """
    judged = [_test(wrong[first], wrong[second], rules) for first, second in pairs]
    corrected = correct_for_many([each.p_value for _, each in judged])
    return tuple(
        _verdict(pair, wrong, test, each, p_value, rules.level)
        for pair, (test, each), p_value in zip(pairs, judged, corrected, strict=True)
    )


def measure_gap(
    wrong: Mapping[str, Wrong],
    name: str,
    *,
    teacher: str | None,
    baseline: str | None,
    rules: Rules,
) -> GapClosed | None:
    """Tell which share of the gap between baseline and teacher a model closes, if it can be said.

    Of teacher and baseline themselves it says nothing.
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
        return "exact McNemar", mcnemar(first, second, level=rules.level)
    judged = paired_bootstrap(
        first, second, level=rules.level, resamples=rules.resamples, seed=rules.seed
    )
    return "paired bootstrap", judged


def _verdict(
    pair: tuple[str, str],
    wrong: Mapping[str, Wrong],
    test: Test,
    judged: Judged,
    p_value: float,
    level: float,
) -> Verdict:
    outcome: Outcome = "no difference"
    if p_value <= level:
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
    )
