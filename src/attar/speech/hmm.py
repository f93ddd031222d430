"""The shape of a phone's hidden Markov model, and its transition probabilities."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

POSITIONS = 3  # emitting states of a phone, passed from left to right; silence has as many

_LEAST_STAY = 0.02  # so that no step is impossible


@dataclass(frozen=True)
class Topology:
    """Each state is stayed in with some probability and left for the next one otherwise.

    The sum of both is 1; from the last state of a phone one goes to the first one of the next.
    """

    self_loops: NDArray[np.float32]  # one a tied state, between 0 and 1: [states]

    @classmethod
    def uniform(cls, states: int, self_loop: float = 0.5) -> "Topology":
        """Give all states one probability of being stayed in."""
        return cls(np.full(states, self_loop, dtype=np.float32))

    @classmethod
    def estimate(
        cls, states: NDArray[np.int64], entered: NDArray[np.bool_], *, count: int
    ) -> "Topology":
        """Estimate from an alignment, with one frame more of each kind than there are.

        Args:
            states: The tied state of each frame.
            entered: Whether it is the first frame there.
            count: How many tied states there are.
        """
        frames = np.bincount(states, minlength=count)
        visits = np.bincount(states[entered], minlength=count)
        stay = 1 - (visits + 1) / (frames + 2)
        return cls(np.clip(stay, _LEAST_STAY, 1 - _LEAST_STAY).astype(np.float32))

    @property
    def stay(self) -> NDArray[np.float32]:
        """Log-probability of staying in a state: [states]."""
        return np.log(self.self_loops)

    @property
    def leave(self) -> NDArray[np.float32]:
        """Log-probability of leaving a state: [states]."""
        return np.log1p(-self.self_loops)
