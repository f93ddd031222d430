"""A made-up language of four phones, and people who speak it."""

import numpy as np
import torch

from attar.speech.lexicon import Lexicon
from attar.speech.utterances import Corpus, Utterance

LEXICON = Lexicon(
    {
        "A": (("a",),),
        "BA": (("b", "a"), ("b", "o")),
        "OB": (("o", "b"),),
        "O": (("o",),),
    }
)
SENTENCES = ("A OB", "BA", "O BA A", "OB OB", "BA O", "A", "O A BA", "")
PHONES = LEXICON.phones
FRAMES_A_STATE = 4
DIMS = 6


def sound_of(phone: int, left: int, position: int) -> np.ndarray:
    """Where the features of a state lie; the first position of "b" depends on what is before."""
    before = left if (PHONES[phone] == "b" and position == 0) else 0
    return np.random.default_rng([phone, position, before]).normal(size=DIMS) * 4


def speak(
    words: tuple[str, ...], generator: np.random.Generator
) -> tuple[torch.Tensor, list[tuple[int, int]]]:
    """Make features of these words, pauses at both ends; and each frame's phone and position."""
    phones = [0]
    for word in words:
        spoken = LEXICON.pronunciations[word]
        phones += [PHONES.index(each) for each in spoken[generator.integers(len(spoken))]]
    phones.append(0)
    rows, truth = [], []
    for left, phone in zip([0, *phones], phones, strict=False):
        for position in range(3):
            for _ in range(FRAMES_A_STATE + int(generator.integers(-1, 2))):
                rows.append(sound_of(phone, left, position) + generator.normal(size=DIMS))
                truth.append((phone, position))
    return torch.tensor(np.array(rows), dtype=torch.float32), truth


def made_up_corpus(
    utterances: int, seed: int = 0
) -> tuple[Corpus, dict[str, list[tuple[int, int]]]]:
    """Make a corpus, and the truth about its frames by utterance."""
    generator = np.random.default_rng(seed)
    spoken, truth = [], {}
    for number in range(utterances):
        words = tuple(SENTENCES[number % len(SENTENCES)].split())
        id = f"u{number:03d}"
        features, truth[id] = speak(words, generator)
        spoken.append(Utterance(id, f"speaker{number % 3}", words, features))
    return Corpus(tuple(spoken)), truth
