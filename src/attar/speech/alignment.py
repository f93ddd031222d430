"""Alignments: the tied state of every frame, and the artefact that keeps them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

from attar.errors import DataError
from attar.speech.hmm import Topology
from attar.speech.lexicon import Lexicon
from attar.speech.tree import Tree
from attar.speech.tree_files import tree_checksum
from attar.speech.utterance_graphs import UtteranceGraph, utterance_graph
from attar.speech.utterances import Corpus, Problem, Utterance
from attar.speech.viterbi import Path as BestPath
from attar.speech.viterbi import align
from attar.tensor_files import read_tensors, write_tensors

KIND, VERSION = "alignment", 2
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


def write_alignment(
    path: Path, alignment: Alignment, *, tree: Tree, corpus: Corpus, lexicon: Lexicon
) -> None:
    """Write an alignment, and the checksums of what it was made from.

    Args:
        path: The file.
        alignment: Of the corpus's utterances, or those of them that could be aligned.
        tree: Whose states these are.
        corpus: That was aligned, with the utterances that could not be.
        lexicon: That it was aligned with.

    Raises:
        FolderError: If the file cannot be written.
    """
    tensors = {
        "offsets": torch.from_numpy(alignment.offsets),
        "states": torch.from_numpy(alignment.states),
    }
    write_tensors(
        path, tensors, kind=KIND, version=VERSION, ids=alignment.ids,
        **_made_of(tree, corpus, lexicon),
    )  # fmt: skip


def read_alignment(path: Path, *, tree: Tree, corpus: Corpus, lexicon: Lexicon) -> Alignment:
    """Read the alignment of this corpus, made with this tree and lexicon.

    Raises:
        DataError: If it was made from another tree, corpus or lexicon.
        FolderError: If it cannot be read, or is damaged.
    """
    file = read_tensors(path, kind=KIND, version=VERSION)
    header = file.header or {}
    for name, sha256 in _made_of(tree, corpus, lexicon).items():
        if header.get(name) != sha256:
            what = name.removesuffix("_sha256")
            raise DataError(
                f"expected the {what} that {path} was made from, got another one; give that "
                f"{what}, or start again in another folder"
            )
    return Alignment(
        tuple(header["ids"]), file.tensors["offsets"].numpy(), file.tensors["states"].numpy()
    )


def _made_of(tree: Tree, corpus: Corpus, lexicon: Lexicon) -> dict[str, str]:
    return {
        "tree_sha256": tree_checksum(tree),
        "lexicon_sha256": lexicon.fingerprint(),
        "corpus_sha256": corpus.fingerprint(),
    }
