"""Alignments: the tied state of every frame, and the artefact that keeps them."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from attar.errors import DataError, file_error
from attar.files import sha256, write_atomically
from attar.speech.hmm import Topology
from attar.speech.lexicon import Lexicon
from attar.speech.tree import Tree
from attar.speech.tree_files import tree_checksum
from attar.speech.utterance_graphs import UtteranceGraph, utterance_graph
from attar.speech.utterances import Corpus, Problem, Utterance
from attar.speech.viterbi import Path as BestPath
from attar.speech.viterbi import align

FORMAT = "attar alignment 1"
NO_PRONUNCIATION, TOO_SHORT = "word without a pronunciation", "too short for its states"
_AT_ONCE = 128  # utterances whose log-likelihoods are in memory

# Gives the log-likelihoods of one utterance's frames, up to a constant a frame: [frames, states].
Scorer = Callable[[Sequence[Utterance]], Sequence[Float[np.ndarray, "_ states"]]]


@dataclass(frozen=True)
class Alignment:
    """The tied state of each frame of some utterances, one utterance after the other."""

    ids: tuple[str, ...]
    offsets: NDArray[np.int64]  # where each utterance's frames begin, and the end: [utterances + 1]
    states: NDArray[np.int16]  # [frames]

    @classmethod
    def join(cls, states: dict[str, NDArray[np.int16]]) -> "Alignment":
        """Put the states of utterances, by id, one after the other."""
        offsets = np.cumsum([0, *map(len, states.values())])
        empty = np.zeros(0, dtype=np.int16)
        return cls(tuple(states), offsets, np.concatenate([empty, *states.values()]))

    @cached_property
    def _index(self) -> dict[str, int]:
        return {id: index for index, id in enumerate(self.ids)}

    def of(self, id: str) -> NDArray[np.int16]:
        """Give the states of one utterance: [frames].

        Raises:
            DataError: If it is not aligned.
        """
        if id not in self._index:
            raise DataError(f"expected one of {len(self.ids)} aligned utterances, got {id!r}")
        index = self._index[id]
        return self.states[self.offsets[index] : self.offsets[index + 1]]


@dataclass(frozen=True)
class Aligned:
    """The paths of all utterances that could be aligned, and the problems of the others."""

    corpus: Corpus  # those that could
    graphs: tuple[UtteranceGraph, ...]
    paths: tuple[BestPath, ...]

    @property
    def alignment(self) -> Alignment:
        """The tied states of all frames."""
        return Alignment.join(
            {
                each.id: path.states
                for each, path in zip(self.corpus.utterances, self.paths, strict=True)
            }
        )

    @property
    def log_likelihood(self) -> float:
        """Of a frame, on average, in nats."""
        return sum(path.log_likelihood for path in self.paths) / max(1, self.corpus.frames)


def make_graphs(corpus: Corpus, lexicon: Lexicon) -> tuple[Corpus, tuple[UtteranceGraph, ...]]:
    """Make every utterance's graph; leave out the utterances that cannot be aligned.

    Returns:
        The utterances that can, with the problems of those that cannot; and their graphs.

    Raises:
        DataError: If no utterance is left.
    """
    graphs: list[UtteranceGraph] = []
    problems: list[Problem] = []
    for each in corpus.utterances:
        missing = lexicon.missing(each.words)
        if missing:
            problems.append(Problem(each.id, NO_PRONUNCIATION, ", ".join(missing)))
            continue
        graph = utterance_graph(each.words, lexicon)
        if each.frames < graph.shortest:
            text = f"expected at least {graph.shortest} frames, got {each.frames}"
            problems.append(Problem(each.id, TOO_SHORT, text))
            continue
        graphs.append(graph)
    if not graphs:
        first = f", such as {problems[0]}" if problems else ""
        raise DataError(f"expected utterances that can be aligned, got none{first}")
    return corpus.without(problems), tuple(graphs)


def align_corpus(
    corpus: Corpus, lexicon: Lexicon, scorer: Scorer, *, tree: Tree, topology: Topology
) -> Aligned:
    """Align each utterance with its own words.

    Args:
        corpus: Features that `scorer` knows what to do with.
        lexicon: Pronunciations of the words.
        scorer: Gives log-likelihoods of the tied states, from Gaussian mixtures or, divided by
            prior probabilities, from a network.
        tree: Says which state of which phone is which tied state.
        topology: Of these states.

    Returns:
        Paths, and problems: utterances too short for their words, or with words that have no
        pronunciation, are left out.
    """
    kept, graphs = make_graphs(corpus, lexicon)
    return align_graphs(kept, graphs, scorer, tree=tree, topology=topology)


def align_graphs(
    corpus: Corpus,
    graphs: Sequence[UtteranceGraph],
    scorer: Scorer,
    *,
    tree: Tree,
    topology: Topology,
) -> Aligned:
    """Align utterances whose graphs are made already."""
    paths: list[BestPath] = []
    for chosen in _parts(len(graphs)):
        scores = scorer(corpus.utterances[chosen])
        paths += align(graphs[chosen], scores, tree=tree, topology=topology)
    return Aligned(corpus, tuple(graphs), tuple(paths))


def _parts(count: int) -> Iterator[slice]:
    return (slice(start, start + _AT_ONCE) for start in range(0, count, _AT_ONCE))


def write_alignment(alignment: Alignment, tree: Tree, path: Path) -> None:
    """Write an alignment as safetensors, with a checksum, and the checksum of its tree.

    Raises:
        FolderError: If the file cannot be written.
    """
    about = {
        "format": FORMAT,
        "tree_sha256": tree_checksum(tree),
        "sha256": _checksum(alignment),
        "ids": json.dumps(alignment.ids),
    }
    arrays: dict[str, NDArray[np.generic]] = {
        "offsets": alignment.offsets,
        "states": alignment.states,
    }
    write_atomically(path, save(arrays, metadata=about))


def read_alignment(path: Path, tree: Tree) -> Alignment:
    """Read an alignment that was made with this tree.

    Raises:
        DataError: If it is damaged, or was made with another tree.
        FolderError: If it cannot be read.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            about = file.metadata() or {}
            if about.get("format") != FORMAT:
                raise DataError(f"expected {FORMAT!r} in {path}, got {about.get('format')!r}")
            alignment = Alignment(
                tuple(json.loads(about["ids"])),
                file.get_tensor("offsets"),
                file.get_tensor("states"),
            )
    except OSError as error:
        raise file_error("read the alignment", path, error) from error
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise DataError(f"expected an alignment in {path}, got something else ({error})") from error
    if _checksum(alignment) != about["sha256"]:
        raise DataError(f"{path} is not as it was written; make it again")
    if about["tree_sha256"] != tree_checksum(tree):
        raise DataError(f"{path} was made with another tree; align again with this one")
    return alignment


def _checksum(alignment: Alignment) -> str:
    ids = json.dumps(alignment.ids).encode()
    return sha256(ids + alignment.offsets.tobytes() + alignment.states.tobytes())
