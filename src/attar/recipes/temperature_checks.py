"""Tests of the paper's two statements about temperatures, pair by pair.

Each pair of temperatures is compared by a two-sided paired t-test over seeds; the p-values of a
statement are corrected together by Holm's method. A difference that is not significant is no
evidence of equality: such a result is "undecided".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, stdev
from typing import Literal

from attar.comparison.statistics import correct_for_many

HIGH = 8.0  # (a): with 300 or more units in a layer, all temperatures above 8 give similar results
BEST = (2.5, 4.0)  # (b): with 30, temperatures in this range are significantly better
LEVEL = 0.05
SIMILAR = 0.1  # (a): our bound for "fairly similar", as a fraction of the mean errors
_SHOWN = 4  # pairs listed in a finding

# The statements of section 3, without numbers.
PAPER = {
    "a": "300 or more units in a layer: all temperatures above 8 give fairly similar results",
    "b": "30 units: temperatures from 2.5 to 4 are significantly better than higher or lower ones",
}

Outcome = Literal["supported", "undecided", "contradicted", "not tested"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Students at two temperatures, compared over seeds."""

    temperature: float
    other: float
    difference: float  # mean errors at the first temperature minus those at the other
    p: float  # p-value after Holm's correction

    @property
    def is_beyond_chance(self) -> bool:
        """Whether the difference is significant."""
        return self.p < LEVEL

    def __str__(self) -> str:
        pair = f"T = {self.temperature:g} against {self.other:g}"
        return f"{pair}: {self.difference:+.1f} errors, p = {self.p:.2g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The test of a statement of the paper."""

    statement: str
    units: int
    outcome: Outcome
    finding: str  # the numbers, in words
    pairs: tuple[Pair, ...] = ()

    def __str__(self) -> str:
        return f"2×{self.units}, {self.statement}: {self.outcome}; {self.finding}"


def check_high_temperatures(errors: Mapping[float, Sequence[float]], units: int) -> Check:
    """Test statement (a): do all temperatures above 8 give similar results?

    "Fairly similar" is interpreted as mean errors that differ by less than 10 %. The statement is
    supported if the simultaneous 95 % intervals (Bonferroni) of all pairs' differences lie within
    that bound, contradicted if one lies outside, and undecided otherwise.

    Args:
        errors: Temperature -> errors, one per seed, in the order of the seeds.
        units: Units of the students.
    """
    high = [each for each in errors if each > HIGH]
    pairs = compare_pairs(errors, list(combinations(high, 2)))
    if not pairs or not all(_spread(errors, pair.temperature, pair.other) for pair in pairs):
        needed = "two temperatures above 8, and two seeds between which their difference varies"
        return _not_tested(PAPER["a"], units, needed)
    bound = SIMILAR * fmean(fmean(errors[each]) for each in high)
    intervals = [_interval(errors, pair, count=len(pairs)) for pair in pairs]
    largest = max(abs(end) for interval in intervals for end in interval)
    outcome: Outcome = "undecided"
    if any(low > bound or high < -bound for low, high in intervals):
        outcome = "contradicted"
    elif largest < bound:
        outcome = "supported"
    clear = [pair for pair in pairs if pair.is_beyond_chance]
    whole = [fmean(values) for values in errors.values()]
    finding = (
        f"mean errors of T > 8 differ by {max(abs(pair.difference) for pair in pairs):.1f} at "
        f"most, and differences up to {largest:.1f} are not excluded (95 %, all {len(pairs)} pairs "
        f"together); fairly similar is taken as less than {SIMILAR:.0%}, {bound:.1f} errors; "
        f"{len(clear)} of {len(pairs)} pairs differ beyond chance ({_name_test(errors)})"
        f"{': ' * bool(clear)}{_list(clear)}; all temperatures differ by up to "
        f"{max(whole) - min(whole):.1f}"
    )
    return Check(statement=PAPER["a"], units=units, outcome=outcome, finding=finding, pairs=pairs)


def check_best_temperatures(errors: Mapping[float, Sequence[float]], units: int) -> Check:
    """Test statement (b): is the range from 2.5 to 4 better than all other temperatures?

    It is supported if every temperature in the range has significantly fewer errors than every one
    outside; contradicted if one in the range has significantly more errors than one outside.

    Args:
        errors: Temperature -> errors, one per seed, in the order of the seeds.
        units: Units of the students.
    """
    inside = [each for each in errors if BEST[0] <= each <= BEST[1]]
    outside = [each for each in errors if not BEST[0] <= each <= BEST[1]]
    pairs = compare_pairs(errors, [(one, other) for one in inside for other in outside])
    if not pairs or not min(outside) < BEST[0] < BEST[1] < max(outside):
        needed = "temperatures within 2.5 to 4 and on both sides of it, and two seeds"
        return _not_tested(PAPER["b"], units, needed)
    better = [pair for pair in pairs if pair.is_beyond_chance and pair.difference < 0]
    worse = [pair for pair in pairs if pair.is_beyond_chance and pair.difference > 0]
    open_ones = [pair for pair in pairs if not pair.is_beyond_chance]
    outcome: Outcome = "undecided"
    if worse:
        outcome = "contradicted"
    elif not open_ones:
        outcome = "supported"
    finding = (
        f"of {len(pairs)} pairs of a temperature within 2.5 to 4 and one outside, the one within "
        f"has fewer errors in {len(better)}, more in {len(worse)}, and {len(open_ones)} are "
        f"undecided ({_name_test(errors)})"
    )
    if worse or open_ones:
        shown = worse or sorted(open_ones, key=lambda pair: -pair.p)
        finding += f"; {_list(shown)}"
    return Check(statement=PAPER["b"], units=units, outcome=outcome, finding=finding, pairs=pairs)


def compare_pairs(
    errors: Mapping[float, Sequence[float]], pairs: Sequence[tuple[float, float]]
) -> tuple[Pair, ...]:
    """Compare students at pairs of temperatures over seeds; empty with fewer than two seeds.

    Returns:
        The pairs, with p-values corrected together. If a difference is the same for all seeds, the
        t-test is undefined, and p is 1.
    """
    from scipy.stats import ttest_rel  # here: importing it takes a second

    if min((len(values) for values in errors.values()), default=0) < 2:
        return ()
    p_values = [
        float(ttest_rel(errors[one], errors[other]).pvalue) if _spread(errors, one, other) else 1.0
        for one, other in pairs
    ]
    return tuple(
        Pair(
            temperature=one,
            other=other,
            difference=fmean(_differences(errors, one, other)),
            p=p,
        )
        for (one, other), p in zip(pairs, correct_for_many(p_values), strict=True)
    )


def _differences(errors: Mapping[float, Sequence[float]], one: float, other: float) -> list[float]:
    return [a - b for a, b in zip(errors[one], errors[other], strict=True)]


def _spread(errors: Mapping[float, Sequence[float]], one: float, other: float) -> float:
    return stdev(_differences(errors, one, other))


def _interval(
    errors: Mapping[float, Sequence[float]], pair: Pair, *, count: int
) -> tuple[float, float]:
    """Return the interval of a pair's difference; `count` intervals hold jointly with 95 %."""
    from scipy.stats import t

    values = _differences(errors, pair.temperature, pair.other)
    quantile = float(t.ppf(1 - LEVEL / (2 * count), len(values) - 1))
    half = quantile * _spread(errors, pair.temperature, pair.other) / float(len(values)) ** 0.5
    return fmean(values) - half, fmean(values) + half


def _not_tested(statement: str, units: int, needed: str) -> Check:
    finding = f"it takes {needed}"
    return Check(statement=statement, units=units, outcome="not tested", finding=finding)


def _name_test(errors: Mapping[float, Sequence[float]]) -> str:
    seeds = len(next(iter(errors.values())))
    return f"paired t-tests over {seeds} seeds, Holm's correction"


def _list(pairs: Sequence[Pair]) -> str:
    more = f", and {len(pairs) - _SHOWN} more" if len(pairs) > _SHOWN else ""
    return ", ".join(str(pair) for pair in pairs[:_SHOWN]) + more
