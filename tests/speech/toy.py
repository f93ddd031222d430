"""A toy language, and the best path through it by trying all of them."""

import itertools
import math

import numpy as np

from attar.speech.hmm import POSITIONS, Topology
from attar.speech.language_models import count_bigrams, count_words
from attar.speech.lexicon import Lexicon
from attar.speech.tree import Leaf, Question, Tree

LEXICON = Lexicon(
    {
        "A": (("a",), ("e", "b")),  # two pronunciations
        "B": (("a",),),  # a homophone
        "CAB": (("c", "a", "b"),),
        "C": (("c",),),  # a beginning of another word
    }
)
SENTENCES = [["A", "CAB"], ["C", "A"], ["B", "B"], ["A"], ["C", "C", "A"]]
BIGRAM = count_bigrams(SENTENCES, LEXICON.words)
UNIGRAM = count_words(SENTENCES, LEXICON.words)
SILENCE_PROBABILITY = 0.3


def triphone_tree() -> Tree:
    """Phones a and b sound different beside others, on either side."""
    phones = LEXICON.phones
    fresh = itertools.count()
    roots = []
    for phone in phones:
        positions = []
        for position in range(POSITIONS):
            node = Leaf(next(fresh))
            if phone in "ab" and position != 1:
                side = "left" if position == 0 else "right"
                no = Question(side, "c", (3,), Leaf(next(fresh)), Leaf(next(fresh)))
                node = Question(side, "silence or b", (0, 2), node, no)
            positions.append(node)
        roots.append(tuple(positions))
    return Tree(phones, tuple(roots))


def topology(tree: Tree) -> Topology:
    return Topology(np.linspace(0.3, 0.8, tree.states).astype(np.float32))


def states_of(tree, phones, *, frames_each=1):
    """Return a tied state for each frame of someone who says these phones."""
    index = [LEXICON.phone_index[phone] for phone in phones]
    around = [0, *index, 0]
    return [
        tree.state(around[place], phone, around[place + 2], position)
        for place, phone in enumerate(index)
        for position in range(POSITIONS)
        for _ in range(frames_each)
    ]


def search_all(frames, tree, model, *, longest, word_penalty=0.0):
    """Return the least cost and its words, over all sentences of at most `longest` words."""
    best = (math.inf, ())
    for count in range(longest + 1):
        for words in itertools.product(LEXICON.words, repeat=count):
            for spoken in itertools.product(*(LEXICON.pronunciations[word] for word in words)):
                if POSITIONS * sum(map(len, spoken)) > len(frames):
                    continue
                for pauses in itertools.product((False, True), repeat=count + 1):
                    phones = _phones(spoken, pauses)
                    pause, none = SILENCE_PROBABILITY, 1 - SILENCE_PROBABILITY
                    log_p = sum(math.log(pause if each else none) for each in pauses)
                    cost = -log_p - model.score(words) + word_penalty * count
                    cost += _align(frames, phones, tree)
                    best = min(best, (cost, words))
    return best


def _phones(spoken, pauses):
    names = ["SIL"] * pauses[0]
    for phones, pause in zip(spoken, pauses[1:], strict=True):
        names += [*phones, *["SIL"] * pause]
    return [LEXICON.phone_index[name] for name in names]


def _align(frames, phones, tree):
    """Return the least cost of the frames in the states of these phones."""
    around = [0, *phones, 0]
    states = [
        tree.state(around[place], phone, around[place + 2], position)
        for place, phone in enumerate(phones)
        for position in range(POSITIONS)
    ]
    if not states or len(states) > len(frames):
        return math.inf
    stay, leave = topology(tree).stay, topology(tree).leave
    costs = np.full(len(states), np.inf)
    costs[0] = -frames[0, states[0]]
    for frame in frames[1:]:
        moved = np.concatenate([[np.inf], (costs - leave[states])[:-1]])
        costs = np.minimum(costs - stay[states], moved) - frame[states]
    return float(costs[-1] - leave[states[-1]])
