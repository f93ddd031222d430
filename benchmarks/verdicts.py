"""How often chance alone is called a difference by the paired bootstrap over seeds.

Draws pairs of models of equal quality: hard examples are hard for both, each seed has a quality of
its own, and each seed has examples of its own that it gets wrong. Prints, for several numbers of
seeds and spreads of their quality, the fraction of trials with a p-value of at most 0.05.

    python benchmarks/verdicts.py

takes about a minute of one core, and prints the same on every run.
"""

import numpy as np
from numpy.typing import NDArray

from attar.comparison.statistics import Wrong, paired_bootstrap

TRIALS, EXAMPLES, LEVEL, RESAMPLES = 400, 2000, 0.05, 1000
SEEDS = ((2, 2), (3, 3), (5, 5), (3, 5))
SPREADS = (0.0, 0.02, 0.1, 0.4)  # standard deviation of a seed's score


def draw(
    generator: np.random.Generator, hardness: NDArray[np.float64], count: int, spread: float
) -> Wrong:
    """Draw where the seeds of a model are wrong, `[seeds, examples]`."""
    of_seed = generator.normal(0, spread, (count, 1))
    wrong: Wrong = hardness + of_seed + generator.normal(0, 1, (count, len(hardness))) > 0
    return wrong


def measure(generator: np.random.Generator, seeds: tuple[int, int], spread: float) -> float:
    """Return the fraction of trials in which equal models are called different."""
    found = 0
    for trial in range(TRIALS):
        hardness = generator.normal(-3, 2, EXAMPLES)
        first, second = (draw(generator, hardness, count, spread) for count in seeds)
        judged = paired_bootstrap(first, second, level=LEVEL, resamples=RESAMPLES, seed=trial)
        found += judged.p_value <= LEVEL
    return found / TRIALS


def main() -> None:
    """Print a row for each pair of numbers of seeds."""
    generator = np.random.default_rng(1)
    print("seeds   ", *(f"spread {spread:<6g}" for spread in SPREADS))
    for seeds in SEEDS:
        rates = [measure(generator, seeds, spread) for spread in SPREADS]
        print(f"{seeds[0]} and {seeds[1]} ", *(f"{rate:<13.2%}" for rate in rates), flush=True)


if __name__ == "__main__":
    main()
