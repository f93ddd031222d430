"""A small corpus of made-up voices: each phone is a point in the space of features, with noise."""

from dataclasses import replace

import numpy as np
import torch

from attar.recipes import speech
from attar.speech.corpora import write_features, write_part
from attar.speech.lexicon import Lexicon

LEXICON = Lexicon({"NO": (("N", "OW"),), "YES": (("Y", "EH", "S"),), "SEE": (("S", "IY"),)})
DIMS = 8


def speak(words, generator, *, noise):
    """Return the features of somebody who says the words: [frames, DIMS]."""
    names = ["SIL"]
    for word in words:
        names += [*LEXICON.pronunciations[word][0], *["SIL"] * int(generator.integers(2))]
    places = np.random.default_rng(7).normal(size=(len(LEXICON.phones), 3, DIMS))
    rows = [
        places[LEXICON.phone_index[name], position] + noise * generator.normal(size=DIMS)
        for name in [*names, "SIL"]
        for position in range(3)
        for _ in range(int(generator.integers(3, 6)) * (3 if name == "SIL" else 1))
    ]
    return torch.from_numpy(np.array(rows, dtype=np.float32))


def write_corpus(folder, *, speakers=4, test_speakers=2, utterances=9, noise=0.4, seed=0):
    """Write train/, test/ and lexicon.txt, as docs/speech.md describes them."""
    generator = np.random.default_rng(seed)
    for part, names in (
        ("train", [f"s{n}" for n in range(speakers)]),
        ("test", [f"t{n}" for n in range(test_speakers)]),
    ):
        text, of, features = {}, {}, {}
        for name in names:
            for number in range(utterances):
                id = f"{name}-{number}"
                words = generator.choice(LEXICON.words, size=int(generator.integers(1, 5)))
                text[id], of[id] = " ".join(words), name
                features[id] = speak(words, generator, noise=noise)
        write_part(folder / part, text=text, speakers=of)
        write_features(folder / part, features, kind="made up")
    LEXICON.write(folder / "lexicon.txt")


def tiny_config(corpus, **changes):
    """Make a configuration of seconds."""
    config = speech.Config(
        corpus=str(corpus), held_out=1, states=30, align_units=16, align_epochs=2, seeds=2,
        layers=1, units=24, epochs=6, batch_size=64, learning_rate=0.01, views=1, masked_frames=0,
        masked_band=0, dropout=0.0, shift=0.1, temperatures="1,4", k=5,
    )  # fmt: skip
    return replace(config, **changes)
