"""What was said, by whom, and how it sounds: utterances, corpora, and what was wrong with them."""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from torch import Tensor

from attar.errors import DataError


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recording of one speaker."""

    id: str
    speaker: str
    words: tuple[str, ...]  # () where nothing is said
    features: Float[Tensor, "frames dims"]  # float32, one row each 10 ms

    @property
    def frames(self) -> int:
        """How many frames it has."""
        return len(self.features)


@dataclass(frozen=True, slots=True)
class Problem:
    """An utterance that was left out, and why."""

    utterance: str
    kind: str  # what such problems are counted by, such as "missing wav"
    detail: str

    def __str__(self) -> str:
        """Say it in one line."""
        return f"{self.utterance}: {self.kind}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Corpus:
    """Utterances with one kind of features, and those that had to be left out."""

    utterances: tuple[Utterance, ...]
    problems: tuple[Problem, ...] = ()

    def __post_init__(self) -> None:
        """Check that ids are unique and that all features have as many columns.

        Raises:
            DataError: If not; it names the utterance.
        """
        counts = Counter(each.id for each in self.utterances)
        twice = [name for name, count in counts.items() if count > 1]
        if twice:
            raise DataError(
                f"expected ids that occur once, got {twice[0]} {counts[twice[0]]} times"
            )
        for each in self.utterances:
            if each.features.shape[1] != self.dims:
                raise DataError(
                    f"expected {self.dims} features a frame, as {self.utterances[0].id} has, got "
                    f"{each.features.shape[1]} in {each.id}"
                )

    def __len__(self) -> int:
        """How many utterances it has."""
        return len(self.utterances)

    @property
    def dims(self) -> int:
        """How many features a frame has."""
        return self.utterances[0].features.shape[1] if self.utterances else 0

    @property
    def frames(self) -> int:
        """How many frames all utterances have."""
        return sum(each.frames for each in self.utterances)

    @property
    def speakers(self) -> tuple[str, ...]:
        """Who speaks, in order of names."""
        return tuple(sorted({each.speaker for each in self.utterances}))

    def fingerprint(self) -> str:
        """Return the SHA-256 of all utterances: ids, speakers, words and features, in order."""
        sha256 = hashlib.sha256()
        for each in self.utterances:
            features = each.features.float().contiguous()
            about = [each.id, each.speaker, each.words, list(features.shape)]
            sha256.update(json.dumps(about).encode() + features.numpy().tobytes())
        return sha256.hexdigest()

    def without(self, problems: Iterable[Problem]) -> "Corpus":
        """Leave out the utterances that have these problems, and keep the problems."""
        new = tuple(problems)
        bad = {each.utterance for each in new}
        kept = tuple(each for each in self.utterances if each.id not in bad)
        return replace(self, utterances=kept, problems=self.problems + new)

    def of_speakers(self, speakers: Collection[str]) -> "Corpus":
        """Keep the utterances of these speakers, in their order."""
        chosen = set(speakers)
        return Corpus(tuple(each for each in self.utterances if each.speaker in chosen))


def split_speakers(
    corpus: Corpus, *, held_out: int, generator: np.random.Generator
) -> tuple[Corpus, Corpus]:
    """Split a corpus so that no speaker is in both parts.

    Args:
        corpus: At least `held_out + 1` speakers.
        held_out: How many speakers the second part gets.
        generator: Draws them.

    Returns:
        The rest, and the utterances of the speakers that are held out.

    Raises:
        DataError: If the corpus has too few speakers.
    """
    speakers = corpus.speakers
    if not 0 < held_out < len(speakers):
        raise DataError(
            f"expected 1 to {len(speakers) - 1} speakers to hold out, got {held_out}: "
            f"the corpus has {len(speakers)} in all"
        )
    drawn = {str(name) for name in generator.choice(speakers, size=held_out, replace=False)}
    return corpus.of_speakers(set(speakers) - drawn), corpus.of_speakers(drawn)


def count_problems(problems: Iterable[Problem]) -> str:
    """Count problems by kind, in one line; "" if there are none.

    Example:
        >>> count_problems([Problem("a", "too short", ""), Problem("b", "too short", "")])
        '2 too short (a, b)'
    """
    kinds: dict[str, list[str]] = {}
    for each in problems:
        kinds.setdefault(each.kind, []).append(each.utterance)
    return "; ".join(
        f"{len(names)} {kind} ({', '.join(names[:3])}{', …' * (len(names) > 3)})"
        for kind, names in kinds.items()
    )
