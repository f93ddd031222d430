"""Language models of one or two words: read from an ARPA file, or counted in sentences."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from attar.errors import DataError, file_error

START, END, UNKNOWN = "<s>", "</s>", "<UNK>"
_LOWEST = -90.0  # log10; what ARPA files write for never, -99
_LN10 = math.log(10.0)


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """Probabilities of words, each after the word before it, in nats.

    Where a pair of words is not in `pairs`, the second one's own probability counts, times the
    back-off weight of the first.
    """

    words: Mapping[str, float]  # log p(word); END is one of them, START is not
    backoffs: Mapping[str, float]  # log weight of each word that has pairs, START maybe
    pairs: Mapping[tuple[str, str], float]  # log p(second | first)

    def log_probability(self, word: str, previous: str) -> float:
        """Return log p(word | previous); -inf for a word that the model does not know."""
        if (previous, word) in self.pairs:
            return self.pairs[previous, word]
        return self.backoffs.get(previous, 0.0) + self.words.get(word, -math.inf)

    def score(self, sentence: Sequence[str]) -> float:
        """Return the log probability of a whole sentence, its end included."""
        return sum(
            self.log_probability(word, previous)
            for previous, word in zip([START, *sentence], [*sentence, END], strict=True)
        )


def read_arpa(path: Path) -> LanguageModel:
    """Read a unigram or bigram model in the ARPA format.

    Raises:
        DataError: If the file is none; it names the line. If it has triples of words.
        FolderError: If it cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise file_error("read", path, error) from error
    order, words, backoffs, pairs = 0, {}, {}, {}
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if line.startswith("\\") and line.strip().endswith("-grams:"):
            order = _read_order(path, number, line)
        elif line.strip() == "\\end\\":
            break
        elif order and fields:
            probability, entry, backoff = _read_entry(path, number, fields, order)
            if order == 1:
                if probability > _LOWEST and entry[0] != START:
                    words[entry[0]] = probability * _LN10
                if backoff is not None and backoff > _LOWEST:
                    backoffs[entry[0]] = backoff * _LN10
            elif probability > _LOWEST:
                pairs[entry[0], entry[1]] = probability * _LN10
    if END not in words and not any(second == END for _, second in pairs):
        found = f"expected an ARPA language model with {END} in {path}, got {len(words)} words"
        raise DataError(f"{found}; is it the right file?")
    return LanguageModel(words, backoffs, pairs)


def count_bigrams(sentences: Iterable[Sequence[str]], vocabulary: Iterable[str]) -> LanguageModel:
    """Estimate a bigram model by Witten and Bell's method.

    A word that follows `first` for the first time is as likely as any such first time was among the
    words seen after it. Single words are counted with one more for each of the vocabulary.

    Source: Witten & Bell (1991), "The zero-frequency problem", method C.
    """
    singles: Counter[str] = Counter(dict.fromkeys(vocabulary, 1))
    after: dict[str, Counter[str]] = {}
    for sentence in sentences:
        for first, second in zip([START, *sentence], [*sentence, END], strict=True):
            singles[second] += 1
            after.setdefault(first, Counter())[second] += 1
    if not after:
        raise DataError("expected one sentence or more to count words in, got none")
    total = sum(singles.values())
    words = {word: math.log(count / total) for word, count in singles.items()}
    backoffs, pairs = {}, {}
    for first, seconds in after.items():
        kinds, count = len(seconds), sum(seconds.values())
        new = kinds / (kinds + count)  # probability of a word never seen after the first
        for second, times in seconds.items():
            unigram = math.exp(words[second])
            pairs[first, second] = math.log(times / (kinds + count) + new * unigram)
        backoffs[first] = math.log(new)
    return LanguageModel(words, backoffs, pairs)


def count_words(sentences: Iterable[Sequence[str]], vocabulary: Iterable[str]) -> LanguageModel:
    """Estimate a unigram model, with one count more for each word of the vocabulary."""
    singles: Counter[str] = Counter(dict.fromkeys(vocabulary, 1))
    for sentence in sentences:
        singles.update([*sentence, END])
    if not singles[END]:
        raise DataError("expected one sentence or more to count words in, got none")
    total = sum(singles.values())
    return LanguageModel({word: math.log(n / total) for word, n in singles.items()}, {}, {})


def _read_order(path: Path, number: int, line: str) -> int:
    order = line.strip()[1:].partition("-")[0]
    if order not in ("1", "2"):
        raise DataError(
            f"{path}:{number}: expected a language model of at most two words, got {line.strip()}"
        )
    return int(order)


def _read_entry(
    path: Path, number: int, fields: list[str], order: int
) -> tuple[float, list[str], float | None]:
    try:
        if len(fields) not in (order + 1, order + 2):
            raise ValueError
        backoff = float(fields[order + 1]) if len(fields) > order + 1 else None
        return float(fields[0]), fields[1 : order + 1], backoff
    except ValueError as error:
        found = " ".join(fields)[:60]
        raise DataError(
            f"{path}:{number}: expected log10 p, {order} word(s), back-off; got {found!r}"
        ) from error
