"""Decoding graphs: HCLG, from tied states to words (Mohri, Pereira & Riley 2002)."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attar.errors import AttarError, DataError
from attar.files import make_folder
from attar.speech.extra import load_extra
from attar.speech.hmm import Topology
from attar.speech.language_models import LanguageModel
from attar.speech.lexicon import Lexicon
from attar.speech.transducers import (
    Arc,
    Fst,
    add_context,
    arcs_of,
    build_fst,
    finals_of,
    make_grammar,
    make_lexicon,
    make_models,
)
from attar.speech.tree import Tree
from attar.tensor_files import read_tensors, write_tensors

_KIND, _VERSION = "decoding graph", 2


@dataclass(frozen=True)
class Graph:
    """A decoding graph as arrays, one entry an arc; node 0 is the start."""

    words: tuple[str, ...]  # label 1 is the first
    sources: NDArray[np.int32]
    targets: NDArray[np.int32]
    states: NDArray[np.int32]  # tied state + 1, or 0 where no frame is spent
    outputs: NDArray[np.int32]  # label of a word, or 0
    costs: NDArray[np.float32]  # nats: language model, pauses, transitions
    final_nodes: NDArray[np.int32]
    final_costs: NDArray[np.float32]

    def __len__(self) -> int:
        """Count the arcs."""
        return len(self.sources)

    @property
    def nodes(self) -> int:
        """How many nodes it has."""
        return 1 + int(max(self.sources.max(), self.targets.max()))

    def to_fst(self, *, word_penalty: float = 0.0) -> Fst:
        """Make the transducer that a decoder wants, each word dearer by a penalty in nats."""
        costs = self.costs + word_penalty * (self.outputs > 0)
        columns = (self.sources, self.targets, self.states, self.outputs, costs)
        arcs: list[Arc] = list(zip(*(column.tolist() for column in columns), strict=True))
        finals = dict(zip(self.final_nodes.tolist(), self.final_costs.tolist(), strict=True))
        return build_fst(arcs, finals)


def build_graph(
    lexicon: Lexicon,
    model: LanguageModel,
    tree: Tree,
    topology: Topology,
    *,
    silence_probability: float = 0.5,
) -> Graph:
    """Compose H ∘ C ∘ L ∘ G, determinized and minimized, with the loops of the states.

    Args:
        lexicon: How words are pronounced; those that the language model lacks are left out.
        model: Of the words.
        tree: Tied states of phones in context.
        topology: Probability of staying in each tied state.
        silence_probability: Of a pause at the start and after each word.

    Raises:
        DataError: If language model and lexicon have no word in common.
        AttarError: If the silence probability is not between 0 and 1.
    """
    if not 0 < silence_probability < 1:
        raise AttarError(f"expected 0 < silence_probability < 1, got {silence_probability}")
    known = {*model.words, *(second for _, second in model.pairs)}
    words = tuple(word for word in lexicon.words if word in known)
    if not words:
        raise DataError(
            f"expected words that lexicon ({len(lexicon.words)}) and language model "
            f"({len(known)}) have in common, got none; are both in capitals?"
        )
    kaldifst = load_extra("kaldifst")
    spoken, symbols = make_lexicon(lexicon, words, silence_probability=silence_probability)
    grammar = make_grammar(model, words)
    kaldifst.arcsort(spoken, sort_type="olabel")
    kaldifst.arcsort(grammar, sort_type="ilabel")
    sentences = _to_vector(kaldifst.compose(spoken, grammar))
    _determinize(sentences, "lexicon and language model")
    kaldifst.minimize_encoded(sentences)
    in_context, meanings = add_context(sentences, symbols)
    models, stands_for = make_models(meanings, tree)
    in_context = build_fst(
        [
            (source, target, int(stands_for[label]), word, cost)
            for source, target, label, word, cost in arcs_of(in_context)
        ],
        finals_of(in_context),
    )
    kaldifst.arcsort(models, sort_type="olabel")
    kaldifst.arcsort(in_context, sort_type="ilabel")
    graph = _to_vector(kaldifst.compose(models, in_context))
    _determinize(graph, "phones in context")
    arcs = [
        (source, target, 0 if label > tree.states else label, word, cost)
        for source, target, label, word, cost in arcs_of(graph)
    ]
    graph = build_fst(arcs, finals_of(graph))
    kaldifst.minimize_encoded(graph)
    return _add_loops(graph, words, topology)


def cached_graph(
    folder: Path,
    lexicon: Lexicon,
    model: LanguageModel,
    tree: Tree,
    topology: Topology,
    *,
    silence_probability: float = 0.5,
) -> Graph:
    """Return the graph of these parts from a file in `folder`, or build it and leave it there.

    The file's name is a hash of all that decides the graph.

    Raises:
        FolderError: If the file is damaged, or the folder cannot be written.
    """
    parts = repr((
        _VERSION, sorted(lexicon.pronunciations.items()), sorted(model.words.items()),
        sorted(model.backoffs.items()), sorted(model.pairs.items()), silence_probability,
    )).encode()  # fmt: skip
    sha256 = hashlib.sha256(parts + tree.table.tobytes() + topology.self_loops.tobytes())
    path = folder / f"graph-{sha256.hexdigest()[:16]}.safetensors"
    if path.exists():
        return read_graph(path)
    graph = build_graph(lexicon, model, tree, topology, silence_probability=silence_probability)
    make_folder(folder)
    write_graph(path, graph)
    return graph


def write_graph(path: Path, graph: Graph) -> None:
    """Write a graph to a `safetensors` file: its arrays, its words, and a checksum.

    Raises:
        FolderError: If the file cannot be written.
    """
    arrays = {name: value for name, value in vars(graph).items() if name != "words"}
    tensors = {name: torch.from_numpy(value) for name, value in arrays.items()}
    write_tensors(path, tensors, kind=_KIND, version=_VERSION, words=graph.words)


def read_graph(path: Path) -> Graph:
    """Read a graph that `write_graph` wrote.

    Raises:
        FolderError: If it cannot be read, or is damaged.
    """
    file = read_tensors(path, kind=_KIND, version=_VERSION)
    words = tuple((file.header or {})["words"])
    return Graph(words, **{name: tensor.numpy() for name, tensor in file.tensors.items()})


def _to_vector(fst: Any) -> Fst:  # noqa: ANN401
    """Copy what kaldifst returns where a function wants one that can be changed."""
    vector = load_extra("kaldifst").StdVectorFst
    return fst if isinstance(fst, vector) else vector(fst)


def _determinize(fst: Fst, what: str) -> None:
    if load_extra("kaldifst").determinize_star(fst, max_states=20_000_000):
        raise DataError(f"the graph of {what} grows too large; are two words the same?")


def _add_loops(fst: Fst, words: Sequence[str], topology: Topology) -> Graph:
    """Give each state its loop, and staying and leaving their costs.

    A node that is entered with several states is split, one node for each: there the loop stands.
    """
    arcs, finals = list(arcs_of(fst)), finals_of(fst)
    entered: dict[int, list[int]] = {0: [0]}  # node -> the states it is entered with
    for _, target, state, *_ in arcs:
        if state not in entered.setdefault(target, []):
            entered[target].append(state)
    pairs = [(node, state) for node in sorted(entered) for state in entered[node]]
    number = {pair: place for place, pair in enumerate(pairs)}
    stay, leave = -topology.stay, -topology.leave  # costs

    def cost_of_leaving(state: int) -> float:
        return float(leave[state - 1]) if state else 0.0

    rows: list[Arc] = [
        (number[pair], number[pair], pair[1], 0, float(stay[pair[1] - 1]))
        for pair in pairs
        if pair[1]
    ]
    for source, target, state, word, cost in arcs:
        rows += [
            (
                number[source, before],
                number[target, state],
                state,
                word,
                cost + cost_of_leaving(before),
            )
            for before in entered.get(source, [])
        ]
    ends = [
        (number[node, state], cost + cost_of_leaving(state))
        for node, cost in finals.items()
        for state in entered.get(node, [])
    ]
    sources, targets, labels, outputs, costs = (
        np.array(column) for column in zip(*rows, strict=True)
    )
    nodes, final_costs = (np.array(column) for column in zip(*ends, strict=True))
    return Graph(
        tuple(words), sources.astype(np.int32), targets.astype(np.int32), labels.astype(np.int32),
        outputs.astype(np.int32), costs.astype(np.float32), nodes.astype(np.int32),
        final_costs.astype(np.float32),
    )  # fmt: skip
