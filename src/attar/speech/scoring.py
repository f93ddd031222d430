"""Word error rates: counts that are pooled, never rates that are averaged."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from attar.errors import AttarError, DataError, check_positive
from attar.speech.extra import load_extra

FEWEST_SPEAKERS = 10  # of whom an interval over speakers can be trusted


@dataclass(frozen=True, slots=True)
class WordErrors:
    """What is wrong with words that were recognized, against those that were said."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    reference_words: int = 0

    @property
    def errors(self) -> int:
        """All of them."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def wer(self) -> float:
        """Errors a reference word, a fraction that may exceed 1.

        Raises:
            DataError: If there are no reference words.
        """
        if not self.reference_words:
            raise DataError("expected reference words to take an error rate of, got none")
        return self.errors / self.reference_words

    def __add__(self, other: "WordErrors") -> "WordErrors":
        return WordErrors(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.reference_words + other.reference_words,
        )

    def __str__(self) -> str:
        """Say it for people."""
        return (
            f"{self.wer:.1%} WER: {self.substitutions} substitutions, {self.deletions} deletions, "
            f"{self.insertions} insertions in {self.reference_words} words"
        )


class Interval(NamedTuple):
    """Where a rate lies, by the bootstrap."""

    low: float
    high: float


def count_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> WordErrors:
    """Count the fewest errors that turn the reference into the hypothesis.

    Either may be empty: an empty hypothesis has deletions alone, an empty reference insertions.

    Example:
        >>> count_errors(["ONE", "TWO", "TWO"], ["ONE", "TOO"])
        WordErrors(substitutions=1, deletions=1, insertions=0, reference_words=3)
    """
    if not reference or not hypothesis:
        return WordErrors(
            deletions=len(reference), insertions=len(hypothesis), reference_words=len(reference)
        )
    jiwer = load_extra("jiwer")
    # Lists of words, so that no word is split at what jiwer thinks a space.
    keep = jiwer.Compose([])
    counted = jiwer.process_words(
        [list(reference)], [list(hypothesis)],
        reference_transform=keep, hypothesis_transform=keep,
    )  # fmt: skip
    return WordErrors(counted.substitutions, counted.deletions, counted.insertions, len(reference))


def pool(errors: Iterable[WordErrors]) -> WordErrors:
    """Add the counts of several utterances."""
    return sum(errors, WordErrors())


def pool_by_speaker(
    errors: Sequence[WordErrors], speakers: Sequence[str]
) -> Mapping[str, WordErrors]:
    """Add the counts of each speaker's utterances.

    Raises:
        AttarError: If there is not one speaker for each utterance.
    """
    if len(errors) != len(speakers):
        found = f"{len(errors)} utterances, {len(speakers)} speakers"
        raise AttarError(f"expected a speaker for each utterance, got {found}")
    pooled: dict[str, WordErrors] = {}
    for each, speaker in sorted(zip(errors, speakers, strict=True), key=lambda pair: pair[1]):
        pooled[speaker] = pooled.get(speaker, WordErrors()) + each
    return pooled


def bootstrap_interval(
    errors: Sequence[WordErrors],
    *,
    generator: np.random.Generator,
    level: float = 0.95,
    draws: int = 2000,
) -> Interval:
    """Return where the pooled WER lies if other utterances, or other speakers, were drawn.

    Args:
        errors: Of each utterance: other utterances of the same speakers are drawn. Or of each
            speaker, see `interval_over_speakers`.
        generator: Draws them with replacement.
        level: Of confidence.
        draws: How many sets are drawn.

    Raises:
        AttarError: If the level is not between 0 and 1.
        DataError: If there are no reference words.

    Source: Bisani & Ney (2004), "Bootstrap estimates for confidence intervals in ASR performance".
    """
    check_positive(draws=draws)
    if not 0 < level < 1:
        raise AttarError(f"expected 0 < level < 1, got {level}")
    wrong = np.array([each.errors for each in errors])
    words = np.array([each.reference_words for each in errors])
    if not words.sum():
        raise DataError("expected reference words to take an error rate of, got none")
    drawn = generator.integers(len(errors), size=(draws, len(errors)))
    rates = wrong[drawn].sum(1) / np.maximum(words[drawn].sum(1), 1)  # [draws]
    low, high = np.quantile(rates, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def interval_over_speakers(by_speaker: Mapping[str, WordErrors]) -> Interval | None:
    """Return where the pooled WER of other speakers lies with 95 % of confidence.

    Utterances of a speaker are alike: where one is recognized badly, so are most of that speaker's.
    So an interval over utterances says nothing of speakers that were not heard, and is too narrow
    for them.

    Args:
        by_speaker: Word errors of each test speaker; some have words.

    Returns:
        The interval, by the bootstrap over whole speakers; None of fewer than `FEWEST_SPEAKERS`.
        Of ten speakers it is still somewhat too narrow.

    Source: Bisani & Ney (2004), sec. 4; Cameron, Gelbach & Miller (2008) on few clusters.
    """
    if len(by_speaker) < FEWEST_SPEAKERS:
        return None
    errors = list(by_speaker.values())
    return bootstrap_interval(errors, generator=np.random.default_rng(0))
