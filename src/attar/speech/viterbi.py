"""Viterbi alignment: the most probable path of each utterance through its own graph."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from attar.errors import DataError
from attar.speech.hmm import POSITIONS, Topology
from attar.speech.tree import Tree
from attar.speech.utterance_graphs import UtteranceGraph

_TOGETHER = 64  # utterances that are aligned at once


@dataclass(frozen=True, slots=True)
class Path:
    """The best path of an utterance."""

    graph_states: NDArray[np.int32]  # of its own graph: [frames]
    states: NDArray[np.int16]  # tied states of the tree: [frames]
    log_likelihood: float  # of the path, transitions included, in nats


def align(
    graphs: Sequence[UtteranceGraph],
    log_likelihoods: Sequence[Float[np.ndarray, "_ states"]],
    *,
    tree: Tree,
    topology: Topology,
) -> list[Path]:
    """Find the most probable path of each utterance through its graph.

    Many utterances go forward together, one frame at a time, so that it is fast without compiled
    code. The transition out of the last state counts as well.

    Args:
        graphs: One an utterance.
        log_likelihoods: Of each utterance's frames given the tied states.
        tree: Says which tied state each state of the graphs is.
        topology: Of the tree's states.

    Raises:
        DataError: If an utterance has too few frames for its graph.
    """
    for index, (graph, matrix) in enumerate(zip(graphs, log_likelihoods, strict=True)):
        if len(matrix) < graph.shortest:
            raise DataError(
                f"expected at least {graph.shortest} frames in utterance {index}, "
                f"got {len(matrix)}; leave it out"
            )
    # Long ones first: those that have ended are then always the last ones of a batch.
    order = sorted(range(len(graphs)), key=lambda index: -len(log_likelihoods[index]))
    paths: dict[int, Path] = {}
    for start in range(0, len(order), _TOGETHER):
        chosen = order[start : start + _TOGETHER]
        batch = _Batch(
            [graphs[index] for index in chosen],
            [log_likelihoods[index] for index in chosen],
            tree,
            topology,
        )
        paths |= dict(zip(chosen, batch.align(), strict=True))
    return [paths[index] for index in range(len(graphs))]


class _Batch:
    """Graphs put side by side as one: its states are those of the first, then the second, ..."""

    def __init__(
        self,
        graphs: Sequence[UtteranceGraph],
        log_likelihoods: Sequence[NDArray[np.float32]],
        tree: Tree,
        topology: Topology,
    ) -> None:
        self.graphs = graphs
        self.frames = np.array([len(matrix) for matrix in log_likelihoods])
        self.starts = np.cumsum([0, *(len(graph) for graph in graphs)])  # [utterances + 1]
        pdfs = [graph.pdfs(tree.table) for graph in graphs]
        self.pdf = np.concatenate(pdfs)  # [states]
        self.matrix = np.concatenate(log_likelihoods)  # [frames of all, tied states]
        first_rows = np.cumsum([0, *self.frames[:-1]])
        columns = self.matrix.shape[1]
        self.cells = np.concatenate(
            [
                row * columns + pdf.astype(np.int64)
                for row, pdf in zip(first_rows, pdfs, strict=True)
            ]
        )  # of each state, at the first frame, in the flat matrix
        self.stay, self.leave = topology.stay[self.pdf], topology.leave[self.pdf]
        self.before = self._pad_before()  # [phones, most that one follows]
        self.states_left = self.starts[1:]

    def _pad_before(self) -> NDArray[np.int64]:
        nowhere = int(self.starts[-1])  # a state that is never reached
        most = max(1, max(len(before) for graph in self.graphs for before in graph.before))
        rows = [
            [*(start + state for state in before), *[nowhere] * (most - len(before))]
            for graph, start in zip(self.graphs, self.starts[:-1].tolist(), strict=True)
            for before in graph.before
        ]
        return np.array(rows, dtype=np.int64)

    def align(self) -> list[Path]:
        total = int(self.starts[-1])
        longest = int(self.frames[0])
        moved = np.zeros((longest, total), dtype=bool)  # whether a state was reached from another
        choice = np.zeros((longest, total // POSITIONS), dtype=np.int8)  # from which one
        score = np.full(total + 1, -np.inf)
        score[:total:POSITIONS][np.concatenate([graph.initial for graph in self.graphs])] = 0.0
        columns = self.matrix.shape[1]
        flat = self.matrix.reshape(-1)
        ends: dict[int, tuple[int, float]] = {}
        score[:total] += flat[self.cells]
        for frame in range(longest):
            active = int(np.searchsorted(-self.frames, -frame, side="left"))
            states = int(self.starts[active])
            if frame:
                cells = self.cells[:states] + frame * columns
                self._step(score, flat.take(cells), states, moved[frame], choice[frame])
            for utterance in np.flatnonzero(self.frames[:active] == frame + 1):
                ends[int(utterance)] = self._end(int(utterance), score)
        return self._trace(moved, choice, ends)

    def _step(
        self,
        score: NDArray[np.float64],
        emitted: NDArray[np.float32],
        states: int,
        moved: NDArray[np.bool_],
        choice: NDArray[np.int8],
    ) -> None:
        """Go one frame on with the first `states` states."""
        out = score.copy()
        out[:states] += self.leave[:states]
        reached = np.empty(states)
        reached[1:] = out[: states - 1]
        following = out[self.before[: states // POSITIONS]]  # [phones, those that they follow]
        best = following.argmax(axis=1)
        reached[::POSITIONS] = np.take_along_axis(following, best[:, None], axis=1)[:, 0]
        choice[: len(best)] = best
        stayed = score[:states] + self.stay[:states]
        np.greater(reached, stayed, out=moved[:states])
        score[:states] = np.maximum(reached, stayed) + emitted

    def _end(self, utterance: int, score: NDArray[np.float64]) -> tuple[int, float]:
        finals = self.starts[utterance] + self.graphs[utterance].final
        totals = score[finals] + self.leave[finals]
        best = int(totals.argmax())
        return int(finals[best]), float(totals[best])

    def _trace(
        self,
        moved: NDArray[np.bool_],
        choice: NDArray[np.int8],
        ends: dict[int, tuple[int, float]],
    ) -> list[Path]:
        """Go back from the best ends, all utterances together."""
        count = len(self.graphs)
        at = np.array([ends[index][0] for index in range(count)])
        visited = np.zeros((len(moved), count), dtype=np.int64)
        for frame in range(len(moved) - 1, -1, -1):
            active = int(np.searchsorted(-self.frames, -frame, side="left"))
            state = at[:active]
            visited[frame, :active] = state
            if frame:
                phone = state // POSITIONS
                first = state % POSITIONS == 0
                previous = np.where(first, self.before[phone, choice[frame, phone]], state - 1)
                at[:active] = np.where(moved[frame, state], previous, state)
        return [
            Path(
                (visited[:frames, index] - self.starts[index]).astype(np.int32),
                self.pdf[visited[:frames, index]].astype(np.int16),
                ends[index][1],
            )
            for index, frames in enumerate(self.frames)
        ]
