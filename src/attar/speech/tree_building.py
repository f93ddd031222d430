"""Growing a phonetic decision tree: the questions that make frames most probable."""

import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from attar.errors import check_positive
from attar.speech.hmm import POSITIONS
from attar.speech.phone_classes import phone_classes
from attar.speech.tree import Leaf, Node, Question, Side, Tree


@dataclass(frozen=True)
class ContextStatistics:
    """What the frames of each state in context sum up to; a single Gaussian needs no more."""

    contexts: NDArray[np.int64]  # left, phone, right, position: [contexts, 4]
    counts: NDArray[np.float64]  # [contexts]
    sums: NDArray[np.float64]  # [contexts, dims]
    squares: NDArray[np.float64]  # [contexts, dims]


def count_contexts(
    contexts: NDArray[np.int64], features: Float[Tensor, "frames dims"]
) -> ContextStatistics:
    """Sum up frames by context.

    Args:
        contexts: Left phone, phone, right phone and position of each frame, `[frames, 4]`.
        features: Of the frames.
    """
    shape = tuple(int(most) + 1 for most in contexts.max(axis=0))
    keys, inverse = np.unique(np.ravel_multi_index(contexts.T, shape), return_inverse=True)
    index = torch.from_numpy(inverse)
    frames = features.double()
    sums = torch.zeros(len(keys), features.shape[1], dtype=torch.float64)
    return ContextStatistics(
        np.stack(np.unravel_index(keys, shape), axis=1),
        np.bincount(inverse).astype(np.float64),
        sums.index_add(0, index, frames).numpy(),
        sums.index_add(0, index, frames.square()).numpy(),
    )


@dataclass
class _Growing:
    """A node that is not finished: the contexts in it, and its best question."""

    rows: NDArray[np.int64]
    gain: float = 0.0
    question: tuple[Side, str, tuple[int, ...]] | None = None
    yes: "_Growing | None" = None
    no: "_Growing | None" = None


def grow_tree(
    statistics: ContextStatistics,
    phones: tuple[str, ...],
    *,
    states: int,
    least_frames: float = 100.0,
    least_variance: float = 0.01,
) -> Tree:
    """Grow a tree: again and again ask the question that raises the likelihood most.

    All frames of a leaf are modeled by one Gaussian with diagonal covariance.

    Args:
        statistics: Of states in context.
        phones: Silence first, which has no questions.
        states: How many leaves the tree has at most; there is one at least for each position of
            each phone.
        least_frames: How many frames a leaf has, at least, if it comes from a question.
        least_variance: Of each feature in a leaf.

    Raises:
        AttarError: If one of the numbers is not positive.
    """
    check_positive(states=states, least_frames=least_frames, least_variance=least_variance)
    grower = _Grower(statistics, phones, least_frames, least_variance)
    positions = range(POSITIONS)
    roots = [
        [grower.root(phone, position) for position in positions] for phone in range(len(phones))
    ]
    order = itertools.count()  # so that ties are broken alike each time
    heap = [(-node.gain, next(order), node) for row in roots[1:] for node in row]
    heapq.heapify(heap)
    leaves = POSITIONS * len(phones)
    while heap and leaves < states:
        gain, _, node = heapq.heappop(heap)
        if gain >= 0:
            break
        for child in grower.split(node):
            heapq.heappush(heap, (-child.gain, next(order), child))
        leaves += 1
    numbers = itertools.count()
    return Tree(phones, tuple(tuple(_finish(node, numbers) for node in row) for row in roots))


def _finish(node: _Growing, numbers: "itertools.count[int]") -> Node:
    if node.yes is None or node.no is None or node.question is None:
        return Leaf(next(numbers))
    yes, no = _finish(node.yes, numbers), _finish(node.no, numbers)
    return Question(*node.question, yes, no)


class _Grower:
    """Knows the statistics and all questions."""

    def __init__(
        self,
        statistics: ContextStatistics,
        phones: Sequence[str],
        least_frames: float,
        least_variance: float,
    ) -> None:
        self._contexts = statistics.contexts
        self._sums = np.hstack([statistics.counts[:, None], statistics.sums, statistics.squares])
        self._least_frames, self._least_variance = least_frames, least_variance
        self._questions: list[tuple[Side, str, tuple[int, ...]]] = []
        answers = []
        sides: tuple[tuple[Side, int], ...] = (("left", 0), ("right", 2))
        for name, members in phone_classes(phones).items():
            for side, column in sides:
                self._questions.append((side, name, members))
                answers.append(np.isin(self._contexts[:, column], members))
        self._answers = np.array(answers, dtype=np.float64)  # [questions, contexts]

    def root(self, phone: int, position: int) -> _Growing:
        """Begin with all contexts of a phone's position."""
        here = (self._contexts[:, 1] == phone) & (self._contexts[:, 3] == position)
        return self._ask(np.flatnonzero(here))

    def split(self, node: _Growing) -> tuple[_Growing, _Growing]:
        """Give a node the two nodes that its best question leads to."""
        assert node.question is not None
        answer = self._answers[self._questions.index(node.question), node.rows] > 0
        node.yes, node.no = self._ask(node.rows[answer]), self._ask(node.rows[~answer])
        return node.yes, node.no

    def _ask(self, rows: NDArray[np.int64]) -> _Growing:
        """Find the best question for these contexts; its gain is in nats."""
        if len(rows) < 2:
            return _Growing(rows)
        sums = self._sums[rows]
        total = sums.sum(axis=0)
        yes = self._answers[:, rows] @ sums  # [questions, 1 + 2 * dims]
        no = total - yes
        gains = self._log_likelihood(yes) + self._log_likelihood(no)
        gains -= self._log_likelihood(total[None])
        few = np.minimum(yes[:, 0], no[:, 0]) < self._least_frames
        gains[few] = 0.0
        best = int(gains.argmax())
        if gains[best] <= 0:
            return _Growing(rows)
        return _Growing(rows, float(gains[best]), self._questions[best])

    def _log_likelihood(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of frames under their own Gaussian, but for what is the same for every split."""
        counts = sums[:, :1]
        mean, square = np.split(sums[:, 1:] / np.maximum(counts, 1e-10), 2, axis=1)
        variance = np.maximum(square - mean**2, self._least_variance)
        result: NDArray[np.float64] = -0.5 * counts[:, 0] * np.log(variance).sum(axis=1)
        return result
