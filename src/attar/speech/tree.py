"""The phonetic decision tree: which states of phones in context share one tied state."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from attar.speech.hmm import POSITIONS

Side = Literal["left", "right"]


class Leaf(NamedTuple):
    """A tied state."""

    state: int


class Question(NamedTuple):
    """Whether the phone on one side is one of these."""

    side: Side
    name: str  # of the class of phones, such as "nasal"
    phones: tuple[int, ...]
    yes: "Node"
    no: "Node"


Node = Leaf | Question


@dataclass(frozen=True)
class Tree:
    """A tied state for each phone with its neighbors, and each position in its HMM.

    Phones are given by index; 0 is silence, which does not depend on its neighbors, and is the
    neighbor at both ends of an utterance. Neighbors are those across words, too.
    """

    phones: tuple[str, ...]
    roots: tuple[tuple[Node, ...], ...]  # of each phone, of each position

    @cached_property
    def table(self) -> NDArray[np.int32]:
        """The tied state of everything: [left, phone, right, position]."""
        count = len(self.phones)
        table = np.zeros((count, count, count, POSITIONS), dtype=np.int32)

        def fill(view: NDArray[np.int32], node: Node, chosen: NDArray[np.bool_]) -> None:
            if isinstance(node, Leaf):
                view[chosen] = node.state
                return
            inside = np.zeros(count, dtype=bool)
            inside[list(node.phones)] = True
            answer = inside[:, None] if node.side == "left" else inside[None, :]
            fill(view, node.yes, chosen & answer)
            fill(view, node.no, chosen & ~answer)

        everything = np.ones((count, count), dtype=bool)
        for phone, positions in enumerate(self.roots):
            for position, root in enumerate(positions):
                fill(table[:, phone, :, position], root, everything)
        return table

    @cached_property
    def states(self) -> int:
        """How many tied states there are."""
        return int(self.table.max()) + 1

    def state(self, left: int, phone: int, right: int, position: int) -> int:
        """Give the tied state of a phone between two others, at a position of its HMM."""
        return int(self.table[left, phone, right, position])


def monophone_tree(phones: tuple[str, ...]) -> Tree:
    """Make the tree without questions: each phone has its states, whatever is beside it."""
    return Tree(
        phones,
        tuple(
            tuple(Leaf(POSITIONS * index + position) for position in range(POSITIONS))
            for index in range(len(phones))
        ),
    )
