"""An utterance's own graph: all ways of saying its words, for the alignment."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from attar.errors import DataError
from attar.speech.hmm import POSITIONS
from attar.speech.lexicon import SILENCE, Lexicon

_EDGE = -1  # what comes before the first phone, and after the last one; it sounds like silence


class _Spoken(NamedTuple):
    """A phone of the words, not yet in context; silence is 0."""

    phone: int
    before: list[int]  # indices of phones that it can follow, or _EDGE


class _Triphone(NamedTuple):
    spoken: int  # which phone of the words
    left: int
    right: int


@dataclass(frozen=True)
class UtteranceGraph:
    """HMM states of the phones in context that an utterance can consist of, in order of time.

    States `POSITIONS * i` and the next ones are those of one phone; from the last of them one goes
    to the first one of a phone that follows. Each state may also be stayed in.
    """

    left: NDArray[np.int16]  # each state's phones in context, and its position: [states]
    phone: NDArray[np.int16]
    right: NDArray[np.int16]
    position: NDArray[np.int16]
    before: tuple[tuple[int, ...], ...]  # of each phone: last states of those that it follows
    initial: NDArray[np.bool_]  # of each phone: whether an utterance may begin with it
    final: NDArray[np.int32]  # states that an utterance may end in

    def __len__(self) -> int:
        """How many states it has."""
        return len(self.phone)

    @cached_property
    def shortest(self) -> int:
        """How many frames an utterance must have, at least: one a state."""
        passed = np.zeros(len(self), dtype=np.int64)
        for index, before in enumerate(self.before):
            start = 0 if self.initial[index] else min(int(passed[state]) for state in before)
            first = POSITIONS * index
            passed[first : first + POSITIONS] = start + np.arange(1, POSITIONS + 1)
        return int(passed[self.final].min())

    @cached_property
    def plain_path(self) -> NDArray[np.int32]:
        """The states of one way through: first pronunciations, silence at both ends only."""
        state = int(self.final[-1])
        phones = [state // POSITIONS]
        while before := self.before[phones[-1]]:
            # What silence precedes is there twice: once without it, unless it begins the words.
            state = min(before, key=lambda last: (self.phone[last] == 0, self.left[last] == 0))
            phones.append(state // POSITIONS)
        starts = POSITIONS * np.array(phones[::-1])
        states: NDArray[np.int32] = (starts[:, None] + np.arange(POSITIONS)).astype(np.int32)
        return states.ravel()

    def pdfs(self, table: NDArray[np.int32]) -> NDArray[np.int32]:
        """Give the tied state of each state, by a tree's table: [states]."""
        return table[self.left, self.phone, self.right, self.position]


def utterance_graph(words: Sequence[str], lexicon: Lexicon) -> UtteranceGraph:
    """Make the graph of these words: any of their pronunciations, with or without pauses.

    Pauses may stand before, between and after words. Without words it is all silence. Each
    phone stands there once for each pair of phones that can be beside it, so that contexts cross
    words.

    Raises:
        DataError: If a word has no pronunciation.
    """
    missing = lexicon.missing(words)
    if missing:
        raise DataError(f"expected words of the lexicon, got {', '.join(missing)}")
    spoken, last = _speak(words, lexicon)
    after: list[list[int]] = [[] for _ in spoken]
    for index, each in enumerate(spoken):
        for previous in each.before:
            if previous != _EDGE:
                after[previous].append(index)
    for index in last:
        after[index].append(_EDGE)
    triphones, variants = _expand(spoken, after)
    return _connect(spoken, triphones, variants, set(last))


def _speak(words: Sequence[str], lexicon: Lexicon) -> tuple[list[_Spoken], list[int]]:
    """Give the phones of the words with what each can follow, and those that can be last."""
    spoken: list[_Spoken] = []
    silence = lexicon.phone_index[SILENCE]

    def add(phone: int, before: list[int]) -> int:
        spoken.append(_Spoken(phone, before))
        return len(spoken) - 1

    front = [_EDGE]
    front = [*front, add(silence, front)]
    for word in words:
        ends = []
        for pronunciation in lexicon.pronunciations[word]:
            before = front
            for phone in pronunciation:
                before = [add(lexicon.phone_index[phone], before)]
            ends += before
        front = [*ends, add(silence, ends)]
    return spoken, [index for index in front if index != _EDGE]


def _expand(
    spoken: Sequence[_Spoken], after: Sequence[Sequence[int]]
) -> tuple[list[_Triphone], list[list[int]]]:
    """Put each phone into all its contexts; give them, and which of them belong to each phone."""

    def phones(indices: Sequence[int]) -> list[int]:
        return sorted({0 if index == _EDGE else spoken[index].phone for index in indices})

    triphones: list[_Triphone] = []
    variants: list[list[int]] = []
    for index, each in enumerate(spoken):
        free = each.phone == 0  # silence has no context: one of it is enough
        contexts = [
            _Triphone(index, left, right)
            for left in ([0] if free else phones(each.before))
            for right in ([0] if free else phones(after[index]))
        ]
        variants.append(list(range(len(triphones), len(triphones) + len(contexts))))
        triphones += contexts
    return triphones, variants


def _connect(
    spoken: Sequence[_Spoken],
    triphones: Sequence[_Triphone],
    variants: Sequence[Sequence[int]],
    last: set[int],
) -> UtteranceGraph:
    """Join phones in context where each fits what the other has beside it."""
    before: list[tuple[int, ...]] = []
    initial = np.zeros(len(triphones), dtype=bool)
    final = []
    for number, (index, left, right) in enumerate(triphones):
        phone = spoken[index].phone
        fitting = []
        for previous in spoken[index].before:
            if previous == _EDGE:
                initial[number] |= left == 0
                continue
            if phone != 0 and spoken[previous].phone != left:
                continue
            free = spoken[previous].phone == 0
            fitting += [
                POSITIONS * variant + POSITIONS - 1
                for variant in variants[previous]
                if free or triphones[variant].right == phone
            ]
        before.append(tuple(fitting))
        if index in last and right == 0:
            final.append(POSITIONS * number + POSITIONS - 1)
    columns = np.array([(left, spoken[index].phone, right) for index, left, right in triphones])
    left, phone, right = np.repeat(columns.astype(np.int16), POSITIONS, axis=0).T
    position = np.tile(np.arange(POSITIONS, dtype=np.int16), len(triphones))
    return UtteranceGraph(
        left, phone, right, position, tuple(before), initial, np.array(final, dtype=np.int32)
    )
