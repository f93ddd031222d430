"""`attar data an4` and `attar data fsdd`: corpora of speech."""

from pathlib import Path
from typing import Annotated

import typer

from attar.speech import an4 as an4_corpus
from attar.speech import fsdd as fsdd_corpus
from attar.speech.corpora import SpeechData, read_speech_data
from attar.speech.fsdd import StringSettings
from attar.speech.utterances import Problem, count_problems

_DEFAULTS = StringSettings()
Out = Annotated[Path, typer.Option("--out", help="The folder to make.", show_default=True)]


def an4(
    source: Annotated[
        str,
        typer.Argument(
            help="Folder, archive or URL of AN4 as distributed by CMU, with recordings; or "
            f"{an4_corpus.FEATURES}, its MFCC, beside etc/.",
            metavar="[SOURCE]",
        ),
    ] = an4_corpus.URL,
    out: Out = Path("an4"),
) -> None:
    """Prepare CMU's AN4: 74 speakers for training and 10 others for testing.

    Without SOURCE it is downloaded from CMU. The output is a folder for `attar reproduce speech`:
    train/ and test/ in Kaldi's form, lexicon.txt and lm.arpa.
    """
    _tell_fetching(source)
    _tell(an4_corpus.prepare_an4(source, out), out)


def fsdd(
    source: Annotated[
        str,
        typer.Argument(
            help="Folder, archive or URL with recordings/7_jackson_32.wav and so on.",
            metavar="[SOURCE]",
        ),
    ] = fsdd_corpus.URL,
    out: Out = Path("fsdd"),
    test_speakers: Annotated[
        int, typer.Option(help="Number of test speakers, of 6.")
    ] = _DEFAULTS.test_speakers,
    strings: Annotated[int, typer.Option(help="Training strings per speaker.")] = _DEFAULTS.strings,
    test_strings: Annotated[
        int, typer.Option(help="Test strings per speaker.")
    ] = _DEFAULTS.test_strings,
    seed: Annotated[
        int, typer.Option(help="Random seed of digits, pauses and noise.")
    ] = _DEFAULTS.seed,
) -> None:
    """Prepare strings of 3 to 7 digits from the Free Spoken Digit Dataset, with pauses and noise.

    Without SOURCE it is downloaded from GitHub. The output is a folder for `attar reproduce
    speech`: train/ and test/ in Kaldi's form, and lexicon.txt; no speaker is in both.
    """
    _tell_fetching(source)
    settings = StringSettings(
        test_speakers=test_speakers, strings=strings, test_strings=test_strings, seed=seed
    )
    _tell(fsdd_corpus.prepare_fsdd(source, out, settings, progress=print), out)


def _tell_fetching(source: str) -> None:
    if "://" in source:
        print(f"fetching {source}", flush=True)


def _tell(left_out: list[Problem], folder: Path) -> None:
    """Read what was made, and say what is in it."""
    data: SpeechData = read_speech_data(folder)
    for part, corpus in (("train", data.train), ("test", data.test)):
        words = sum(len(each.words) for each in corpus.utterances)
        print(
            f"{folder / part}: {len(corpus):,} utterances of {len(corpus.speakers)} speakers, "
            f"{words:,} words, {corpus.frames / 6000:.1f} min, {corpus.dims} features a frame"
        )
    problems = (*left_out, *data.problems)
    if problems:
        print(f"left out: {count_problems(problems)}")
        for problem in problems:
            print(f"  {problem}")
    unspoken = data.lexicon.missing(
        word
        for corpus in (data.train, data.test)
        for each in corpus.utterances
        for word in each.words
    )
    if unspoken:
        print(f"without a pronunciation: {', '.join(unspoken)}")
