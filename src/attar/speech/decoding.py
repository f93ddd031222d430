"""Decoding: scaled log-likelihoods of states, through a graph, into words."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from attar.errors import ShapeError, check_positive
from attar.speech.extra import load_extra
from attar.speech.graphs import Graph


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodingSettings:
    """How sounds and sentences are weighed, and how wide the search is."""

    acoustic_scale: float  # of the log-likelihoods; one over it is the language model's weight
    word_penalty: float = 0.0  # nats that each word costs; below 0 it is a reward
    beam: float = 14.0  # nats, after scaling
    max_active: int = 7000

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_positive(
            acoustic_scale=self.acoustic_scale, beam=self.beam, max_active=self.max_active
        )


@dataclass(frozen=True, slots=True)
class Decoded:
    """The best path through the graph."""

    words: tuple[str, ...]
    states: NDArray[np.int32]  # the tied state of each frame: [frames]
    is_complete: bool  # whether it ends where a sentence may
    cost: float  # nats: graph and scaled frames together


class Decoder:
    """Finds the most probable words: beam search by kaldi-decoder."""

    def __init__(self, graph: Graph, settings: DecodingSettings) -> None:
        """Make the transducer, once for all utterances."""
        self.graph, self.settings = graph, settings
        self.states = int(graph.states.max())  # that a frame has at least
        self._fst = graph.to_fst(word_penalty=settings.word_penalty)
        load_extra("kaldifst")  # whose types its results are of
        self._module = load_extra("kaldi_decoder")
        self._options = self._module.FasterDecoderOptions(
            beam=settings.beam, max_active=settings.max_active
        )

    def decode(self, log_likelihoods: Float[NDArray[np.float32], "frames states"]) -> Decoded:
        """Decode an utterance.

        Args:
            log_likelihoods: log posterior − log prior of each tied state, not scaled.

        Raises:
            ShapeError: If there are fewer states than the graph has.
        """
        if log_likelihoods.ndim != 2 or log_likelihoods.shape[1] < self.states:
            found = f"expected log-likelihoods [frames, {self.states} or more]"
            raise ShapeError(f"{found}, got {list(log_likelihoods.shape)}; is it another tree's?")
        if not len(log_likelihoods):
            return Decoded((), np.zeros(0, dtype=np.int32), False, 0.0)
        scaled = np.ascontiguousarray(log_likelihoods * self.settings.acoustic_scale, np.float32)
        search = self._module.FasterDecoder(self._fst, self._options)
        search.decode(self._module.DecodableCtc(scaled))
        found, path = search.get_best_path()
        is_line, labels, outputs, weight = load_extra("kaldifst").get_linear_symbol_sequence(path)
        if not found or not is_line:
            return Decoded((), np.zeros(0, dtype=np.int32), False, float("inf"))
        words = tuple(self.graph.words[label - 1] for label in outputs)
        states = np.array(labels, dtype=np.int32) - 1
        return Decoded(words, states, search.reached_final(), weight.value1 + weight.value2)
