"""Alignments: the tied state of every frame, and the artefact that keeps them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Alignment:
    """The tied state of each frame of some utterances."""

    ids: tuple[str, ...]
    offsets: NDArray[np.int64]  # where each utterance's frames begin, and the end: [utterances + 1]
    states: NDArray[np.int16]  # [frames]

    def of(self, id: str) -> NDArray[np.int16]:
        """Give one utterance's states: [frames]."""
        index = self.ids.index(id)
        return self.states[self.offsets[index] : self.offsets[index + 1]]
