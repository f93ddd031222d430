"""The corpora of the speech experiments, cut into three parts of different speakers."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attar.errors import FolderError
from attar.recipes.speech_config import DataConfig
from attar.speech.corpora import read_speech_data
from attar.speech.features import FilterbankSettings
from attar.speech.language_models import LanguageModel, count_bigrams, read_arpa
from attar.speech.lexicon import Lexicon
from attar.speech.utterances import Corpus, Problem, split_speakers

NAMED = ("an4", "fsdd")  # that `attar data` prepares


@dataclass(frozen=True)
class SpeechCorpus:
    """A corpus in three parts, of which no two have a speaker in common."""

    name: str
    train: Corpus
    held_out: Corpus
    test: Corpus
    lexicon: Lexicon
    language_model: LanguageModel
    filterbanks: FilterbankSettings | None  # None where features came ready-made
    problems: tuple[Problem, ...]  # utterances that could not be read


def load_corpus(config: DataConfig) -> SpeechCorpus:
    """Read the corpus, and hold out some training speakers.

    The language model is the corpus's own, or bigrams counted in what the other training speakers
    say.

    Raises:
        DataError: If the corpus is wrong, or has too few speakers.
        FolderError: If it is not there; the error says what makes it.
    """
    is_named = config.corpus in NAMED
    folder = Path(config.data or config.corpus)
    if not folder.is_dir():
        advice = (
            f"run `attar data {config.corpus}`, or say with --data where it is"
            if is_named
            else f"give --corpus {' or '.join(NAMED)}, or a folder as docs/speech.md describes it"
        )
        raise FolderError(f"expected a corpus in {folder}, got no such folder; {advice}")
    data = read_speech_data(folder)
    count = config.held_out or max(1, len(data.train.speakers) // 9)
    train, held_out = split_speakers(
        data.train, held_out=count, generator=np.random.default_rng(config.data_seed)
    )
    model = (
        read_arpa(data.language_model)
        if data.language_model
        else count_bigrams((each.words for each in train.utterances), data.lexicon.words)
    )
    return SpeechCorpus(
        config.corpus if is_named else folder.name,
        train, held_out, data.test, data.lexicon, model, data.filterbanks, data.problems,
    )  # fmt: skip
