"""How often the paired bootstrap over seeds errs: false differences, and false equivalence.

Draws pairs of models: hard examples are hard for both, each seed has a quality of its own, and each
seed has examples of its own that it gets wrong. Prints, for several numbers of seeds and spreads of
their quality, the fraction of trials in which

- models of equal quality have a p-value of at most 0.05;
- models that differ by exactly the margin have a p-value of equivalence of at most 0.05.

    python benchmarks/verdicts.py

takes about three minutes of one core, and prints the same on every run.
"""

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from attar.comparison.statistics import Wrong, paired_bootstrap

TRIALS, EXAMPLES, LEVEL, RESAMPLES = 400, 2000, 0.05, 1000
SEEDS = ((2, 2), (3, 3), (5, 5), (3, 5))
SPREADS = (0.0, 0.02, 0.1, 0.4)  # standard deviation of a seed's score
HARDNESS, HARDNESS_SPREAD = -3.0, 2.0  # mean and standard deviation of the examples' score
THRESHOLD = 0.25  # of the better model, where the margin is tested


def draw(
    generator: np.random.Generator,
    hardness: NDArray[np.float64],
    count: int,
    spread: float,
    threshold: float,
) -> Wrong:
    """Draw where the seeds of a model are wrong, `[seeds, examples]`."""
    of_seed = generator.normal(0, spread, (count, 1))
    score = hardness + of_seed + generator.normal(0, 1, (count, len(hardness)))
    wrong: Wrong = score > threshold
    return wrong


def error_rate(spread: float, threshold: float) -> float:
    """Return the expected error rate of a model."""
    deviation = math.sqrt(HARDNESS_SPREAD**2 + spread**2 + 1)
    return 1 - NormalDist(HARDNESS, deviation).cdf(threshold)


def measure(
    generator: np.random.Generator, seeds: tuple[int, int], spread: float, threshold: float
) -> float:
    """Return the fraction of trials with a false verdict.

    With a threshold of 0 the models are equal, and a difference is false. Else they differ by the
    margin, and equivalence is false.
    """
    margin = error_rate(spread, 0.0) - error_rate(spread, threshold) if threshold else None
    false = 0
    for trial in range(TRIALS):
        hardness = generator.normal(HARDNESS, HARDNESS_SPREAD, EXAMPLES)
        first = draw(generator, hardness, seeds[0], spread, 0.0)
        second = draw(generator, hardness, seeds[1], spread, threshold)
        judged = paired_bootstrap(
            first, second, level=LEVEL, resamples=RESAMPLES, seed=trial, margin=margin
        )
        p_value = judged.equivalence_p_value if threshold else judged.p_value
        assert p_value is not None
        false += p_value <= LEVEL
    return false / TRIALS


def main() -> None:
    """Print a row for each pair of numbers of seeds, for differences and for equivalence."""
    generator = np.random.default_rng(1)
    for title, threshold in (("false difference", 0.0), ("false equivalence", THRESHOLD)):
        print(title)
        print("seeds   ", *(f"spread {spread:<6g}" for spread in SPREADS))
        for seeds in SEEDS:
            rates = [measure(generator, seeds, spread, threshold) for spread in SPREADS]
            print(f"{seeds[0]} and {seeds[1]} ", *(f"{rate:<13.2%}" for rate in rates), flush=True)


if __name__ == "__main__":
    main()
