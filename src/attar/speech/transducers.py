"""The parts of a decoding graph, as weighted finite-state transducers of kaldifst.

Labels: words are numbered from 1 in the vocabulary's order; phones from 1, silence first; states
from 1. Above them come the disambiguation symbols (Mohri et al. 2002), which keep a graph
determinizable and are gone from the finished one. 0 is no label.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attar.speech.extra import load_extra
from attar.speech.language_models import END, START, LanguageModel
from attar.speech.lexicon import Lexicon, Pronunciation
from attar.speech.tree import Tree

Fst = Any  # kaldifst.StdVectorFst, which has no types
Arc = tuple[int, int, int, int, float]  # from, to, input, output, cost in nats


@dataclass(frozen=True, slots=True)
class Symbols:
    """Which numbers stand for what on the phones' side of a graph."""

    phones: int  # 1..phones
    homophones: int  # phones + 1 .. phones + homophones tell words of one pronunciation apart

    @property
    def silence_mark(self) -> int:
        """Follows the silence that an utterance may begin with."""
        return self.phones + self.homophones + 1

    @property
    def back_off(self) -> int:
        """Stands where the language model backs off."""
        return self.phones + self.homophones + 2

    @property
    def marks(self) -> list[int]:
        """All disambiguation symbols."""
        return list(range(self.phones + 1, self.back_off + 1))


def build_fst(arcs: Sequence[Arc], finals: dict[int, float]) -> Fst:
    """Make a transducer whose start is state 0."""
    kaldifst = load_extra("kaldifst")
    fst = kaldifst.StdVectorFst()
    count = 1 + max(max((max(arc[0], arc[1]) for arc in arcs), default=0), *finals, 0)
    for _ in range(count):
        fst.add_state()
    fst.start = 0
    for source, target, label, word, cost in arcs:
        fst.add_arc(source, kaldifst.StdArc(label, word, cost, target))
    for state, cost in finals.items():
        fst.set_final(state, cost)
    return fst


def arcs_of(fst: Fst) -> Iterator[Arc]:
    """Yield a transducer's arcs."""
    kaldifst = load_extra("kaldifst")
    for state in kaldifst.StateIterator(fst):
        for arc in kaldifst.ArcIterator(fst, state):
            yield state, arc.nextstate, arc.ilabel, arc.olabel, arc.weight.value


def finals_of(fst: Fst) -> dict[int, float]:
    """Return the cost of ending in each state in which one may end."""
    costs = {state: fst.final(state).value for state in load_extra("kaldifst").StateIterator(fst)}
    return {state: cost for state, cost in costs.items() if math.isfinite(cost)}


def number_homophones(
    spoken: Sequence[tuple[str, Pronunciation]],
) -> list[tuple[str, Pronunciation, int]]:
    """Give each pronunciation that another one equals or begins with a number, others 0."""
    counts = Counter(phones for _, phones in spoken)
    prefixes = {phones[:end] for _, phones in spoken for end in range(1, len(phones))}
    given: Counter[Pronunciation] = Counter()
    numbered = []
    for word, phones in spoken:
        needs = counts[phones] > 1 or phones in prefixes
        given[phones] += needs
        numbered.append((word, phones, given[phones] if needs else 0))
    return numbered


def make_lexicon(
    lexicon: Lexicon, words: Sequence[str], *, silence_probability: float
) -> tuple[Fst, Symbols]:
    """Make L: phones in, words out; at the start and after each word there may be silence.

    Args:
        lexicon: With all the words.
        words: The vocabulary, in the order of their numbers.
        silence_probability: Of a pause at each of these places.
    """
    spoken = [(word, each) for word in words for each in lexicon.pronunciations[word]]
    numbered = number_homophones(spoken)
    most = max(number for *_, number in numbered)
    symbols = Symbols(phones=len(lexicon.phones), homophones=most)
    pause, none = -math.log(silence_probability), -math.log1p(-silence_probability)
    start, loop, silence, marked = range(4)
    sil = lexicon.phone_index["SIL"] + 1
    arcs: list[Arc] = [
        (start, loop, 0, 0, none), (start, silence, 0, 0, pause),
        (silence, marked, sil, 0, 0.0), (marked, loop, symbols.silence_mark, 0, 0.0),
        (loop, loop, symbols.back_off, len(words) + 1, 0.0),
    ]  # fmt: skip
    fresh = marked + 1
    index = {word: place for place, word in enumerate(words, start=1)}
    for word, phones, number in numbered:
        labels = [lexicon.phone_index[phone] + 1 for phone in phones]
        labels += [len(lexicon.phones) + number] if number else []
        state = loop
        for place, label in enumerate(labels):
            output = index[word] if place == 0 else 0
            if place < len(labels) - 1:
                arcs.append((state, fresh, label, output, 0.0))
                state, fresh = fresh, fresh + 1
            else:
                arcs.append((state, loop, label, output, none))
                arcs.append((state, silence, label, output, pause))
    return build_fst(arcs, {loop: 0.0}), symbols


def make_grammar(model: LanguageModel, words: Sequence[str]) -> Fst:
    """Make G: words in and out, the language model's probabilities as costs."""
    index = {word: place for place, word in enumerate(words, start=1)}
    back_off = len(words) + 1
    pairs = {
        (first, second): cost
        for (first, second), cost in model.pairs.items()
        if (first in index or first == START) and (second in index or second == END)
    }
    histories = [START, *sorted({first for first, _ in pairs} - {START})]
    state_of = {first: place for place, first in enumerate(histories)} if pairs else {}
    any_word = len(state_of)  # the state in which the word before does not matter
    arcs: list[Arc] = [
        (any_word, state_of.get(word, any_word), index[word], index[word], -log_p)
        for word, log_p in model.words.items()
        if word in index
    ]
    finals = {any_word: -model.words[END]} if END in model.words else {}
    for first, place in state_of.items():
        arcs.append((place, any_word, back_off, 0, -model.backoffs.get(first, 0.0)))
    for (first, second), log_p in pairs.items():
        if second == END:
            finals[state_of[first]] = -log_p
        else:
            target = state_of.get(second, any_word)
            arcs.append((state_of[first], target, index[second], index[second], -log_p))
    return build_fst(arcs, finals)


def add_context(fst: Fst, symbols: Symbols) -> tuple[Fst, list[list[int]]]:
    """Put the phones' neighbors into the labels: C ∘ LG, and what each label means.

    A label means [left, phone, right], 0 being nothing; or [-mark]; [0] marks the beginning.
    """
    composed, meanings = load_extra("kaldifst").compose_context(
        disambig_syms=symbols.marks, context_width=3, central_position=1, ifst=fst
    )
    return composed, meanings


def make_models(meanings: Sequence[Sequence[int]], tree: Tree) -> tuple[Fst, NDArray[np.int64]]:
    """Make H without its loops: tied states in, phones in context out.

    Phones whose tied states are all the same get one label, which makes the graph smaller.

    Returns:
        H, and for each label the one that stands for it.
    """
    known: dict[tuple[int, ...], int] = {}
    stands_for = np.arange(len(meanings))
    arcs: list[Arc] = []
    fresh = 1
    for label, meaning in enumerate(meanings):
        if not meaning:
            continue
        if len(meaning) == 1:  # a mark keeps its name, above all states
            arcs.append((0, 0, tree.states + 1 - meaning[0], label, 0.0))
            continue
        left, phone, right = (max(each - 1, 0) for each in meaning)  # an edge sounds like silence
        states = tuple(int(state) + 1 for state in tree.table[left, phone, right])
        if states in known:
            stands_for[label] = known[states]
            continue
        known[states] = label
        state = 0
        for place, each in enumerate(states):
            target = 0 if place == len(states) - 1 else fresh
            arcs.append((state, target, each, label if place == 0 else 0, 0.0))
            state, fresh = fresh, fresh + (target != 0)
    return build_fst(arcs, {0: 0.0}), stands_for
