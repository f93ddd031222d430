"""Random numbers by position: a pure function of (seed, view, example, draw).

A stateful generator ties augmentation to the order of batches. Here each number is computed from
its position, so it is the same in any batch, in any order, on any machine.

Source: the SplitMix64 generator of Steele, Lea & Flood (2014), "Fast splittable pseudorandom number
generators", OOPSLA, whose n-th output is `finalise(seed + (n + 1) * GAMMA)`. We use that output as
the seed of the next generator, one level for each part of the position.
"""

import numpy as np
import torch
from jaxtyping import Float64, Int64
from numpy.typing import NDArray
from torch import Tensor

from attar.errors import AttarError

GAMMA = 0x9E3779B97F4A7C15  # 2**64 divided by the golden ratio, made odd
FACTOR_1, FACTOR_2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB  # Stafford's variant 13
WORD = 2**64


def mix_seed(*integers: int) -> int:
    """Make one seed out of several integers, such as a run's seed, an epoch and a step.

    The order matters, and so does the count: `mix_seed(1)` differs from `mix_seed(1, 0)`.

    Args:
        integers: One or more, each in 0..2**63 - 1.

    Returns:
        A seed in 0..2**63 - 1, the same on every platform and in every release.

    Raises:
        AttarError: If there is no integer, or one is out of range.

    Example:
        >>> mix_seed(0, 1, 2)
        4200486071987119452
    """
    if not integers:
        raise AttarError("expected at least one integer to make a seed of, got none")
    return _chain(*integers) >> 1


def draw_bits(
    seed: int, view: int, ids: Int64[Tensor, " batch"], *, draws: int
) -> Int64[Tensor, "batch draws"]:
    """Draw 64 random bits for each example and draw.

    Args:
        seed: What the whole augmentation is seeded with, 0..2**63 - 1.
        view: Number of the view, 0..2**63 - 1.
        ids: Numbers of the examples, 0 or more.
        draws: How many numbers each example needs, > 0.

    Returns:
        All 64 bits are random, so half of the integers are negative.

    Raises:
        AttarError: If an argument is out of range.
    """
    if draws < 1:
        raise AttarError(f"expected draws > 0, got {draws}")
    return torch.from_numpy(_words(seed, view, ids, draws).view(np.int64)).to(ids.device)


def draw_uniform(
    seed: int, view: int, ids: Int64[Tensor, " batch"], *, draws: int
) -> Float64[Tensor, "batch draws"]:
    """Draw numbers that are uniform in [0, 1), with 53 random bits; see `draw_bits`."""
    bits = draw_bits(seed, view, ids, draws=draws)
    return ((bits >> 11) & (2**53 - 1)).double() * 2.0**-53


def draw_integers(
    seed: int, view: int, ids: Int64[Tensor, " batch"], *, draws: int, low: int, high: int
) -> Int64[Tensor, "batch draws"]:
    """Draw integers that are uniform in low..high, both included; see `draw_bits`.

    No integer is likelier than another by more than one part in 2**32 / (high - low + 1).

    Raises:
        AttarError: If `high` is below `low`, or the range has more than 2**31 integers.
    """
    count = high - low + 1
    if not 0 < count <= 2**31:
        raise AttarError(f"expected 1 to 2**31 integers from low to high, got {low}..{high}")
    bits = draw_bits(seed, view, ids, draws=draws)
    # The upper 32 bits as a fraction of one, times the count (Lemire 2019, without rejection).
    return (((bits >> 32) & (2**32 - 1)) * count >> 32) + low


def _words(seed: int, view: int, ids: Tensor, draws: int) -> NDArray[np.uint64]:
    numbers = ids.cpu().numpy().view(np.uint64)  # [batch]
    seeds = _finalise((numbers + 1) * GAMMA + _chain(seed, view))
    steps = np.arange(1, draws + 1, dtype=np.uint64) * GAMMA  # [draws]
    return _finalise(seeds[:, None] + steps)


def _finalise(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    words ^= words >> 30
    words *= FACTOR_1
    words ^= words >> 27
    words *= FACTOR_2
    words ^= words >> 31
    return words


def _chain(*integers: int) -> int:
    """Do for Python integers what `_words` does for arrays."""
    state = 0
    for integer in integers:
        if not 0 <= integer < 2**63:
            raise AttarError(f"expected integers in 0..2**63 - 1 to seed with, got {integer}")
        word = (state + (integer + 1) * GAMMA) % WORD
        word = (word ^ (word >> 30)) * FACTOR_1 % WORD
        word = (word ^ (word >> 27)) * FACTOR_2 % WORD
        state = word ^ (word >> 31)
    return state
