"""The paper's two statements about temperatures, held against our students by tests over seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

HIGH = 8.0  # (a): with 300 or more units in a layer, all temperatures above 8 are about alike
BEST = (2.5, 4.0)  # (b): with 30, temperatures in this range are significantly better

# Of section 3: what it says, without numbers.
PAPER = {
    "a": "300 or more units in a layer: all temperatures above 8 give fairly similar results",
    "b": "30 units: temperatures from 2.5 to 4 are significantly better than higher or lower ones",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A statement of the paper, held against our students by a test over seeds."""

    statement: str
    units: int
    holds: bool
    p: float | None  # of the test; None where there are too few seeds or temperatures
    finding: str  # the numbers, in words

    def __str__(self) -> str:
        verdict = "not tested" if self.p is None else "holds" if self.holds else "does not hold"
        by_chance = "" if self.p is None else f" (p = {self.p:.2g})"
        return f"2×{self.units}, {self.statement}: {verdict}{by_chance}; {self.finding}"


def check_high_temperatures(errors: Mapping[float, Sequence[float]], units: int) -> Check:
    """Test statement (a): are students above T = 8 alike? Friedman's test over seeds as blocks.

    Args:
        errors: Temperature -> errors, one a seed, in the order of the seeds.
        units: Of these students.
    """
    from scipy.stats import friedmanchisquare  # here: importing it takes a second

    high = {each: values for each, values in errors.items() if each > HIGH}
    low = {each: values for each, values in errors.items() if each <= HIGH}
    means = [fmean(values) for values in high.values()]
    p = None
    if len(high) >= 3 and all(len(values) >= 3 for values in high.values()):
        p = _finite(friedmanchisquare(*high.values()).pvalue)
    if not high:
        return Check(statement=PAPER["a"], units=units, holds=False, p=None, finding="none above 8")
    spread = max(means) - min(means)
    text = f"mean errors of T > 8 differ by {spread:.1f} at most"
    if low:
        whole = [fmean(values) for values in errors.values()]
        text += f", those of all temperatures by {max(whole) - min(whole):.1f}"
    return Check(
        statement=PAPER["a"], units=units, holds=p is not None and p >= 0.05, p=p, finding=text
    )


def check_best_temperatures(errors: Mapping[float, Sequence[float]], units: int) -> Check:
    """Test statement (b): paired t-tests over seeds, of the range 2.5 to 4 against both sides.

    It holds if the range has fewer errors than lower and than higher temperatures, each with
    p < 0.05, one-sided. `p` is the larger of the two, as both have to hold.

    Args:
        errors: Temperature -> errors, one a seed, in the order of the seeds.
        units: Of these students.
    """
    from scipy.stats import ttest_rel

    def per_seed(temperatures: list[float]) -> NDArray[np.float64]:
        rows = np.array([errors[temperature] for temperature in temperatures])
        return np.asarray(rows.mean(axis=0))

    inside = [each for each in errors if BEST[0] <= each <= BEST[1]]
    sides = {
        "lower": [each for each in errors if each < BEST[0]],
        "higher": [each for each in errors if each > BEST[1]],
    }
    if not inside or not all(sides.values()):
        none = "no temperatures on one side"
        return Check(statement=PAPER["b"], units=units, holds=False, p=None, finding=none)
    best, texts, all_p = per_seed(inside), [], []
    texts.append(f"mean errors {best.mean():.1f} within 2.5 to 4")
    for name, temperatures in sides.items():
        other = per_seed(temperatures)
        texts.append(f"{other.mean():.1f} at {name} ones")
        if len(other) > 1:
            all_p.append(_finite(ttest_rel(best, other, alternative="less").pvalue))
    p = None if not all_p or None in all_p else max(each for each in all_p if each is not None)
    return Check(
        statement=PAPER["b"],
        units=units,
        holds=p is not None and p < 0.05,
        p=p,
        finding=", ".join(texts),
    )


def _finite(p: float) -> float | None:
    """Return a test's p, or None where all values are alike and it has none."""
    return float(p) if np.isfinite(p) else None
