"""Words and how they are pronounced."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from attar.errors import DataError, file_error
from attar.files import sha256, write_atomically

SILENCE = "SIL"  # the phone of index 0
Pronunciation = tuple[str, ...]
_VARIANT = re.compile(r"\(\d+\)$")  # Sphinx writes other pronunciations as WORD(2)
_STRESS = re.compile(r"(?<=[A-Z])[012]$")  # CMUdict writes AH0, AH1, AH2


@dataclass(frozen=True)
class Lexicon:
    """Pronunciations of words, in phones; `SIL` stands between words where there is a pause."""

    pronunciations: Mapping[str, tuple[Pronunciation, ...]]

    @cached_property
    def phones(self) -> tuple[str, ...]:
        """`SIL`, and then all other phones in order of names."""
        used = {
            phone for each in self.pronunciations.values() for spoken in each for phone in spoken
        }
        return (SILENCE, *sorted(used - {SILENCE}))

    @cached_property
    def phone_index(self) -> dict[str, int]:
        """The index of each phone in `phones`."""
        return {phone: index for index, phone in enumerate(self.phones)}

    @property
    def words(self) -> tuple[str, ...]:
        """All words, in order."""
        return tuple(sorted(self.pronunciations))

    def missing(self, words: Iterable[str]) -> list[str]:
        """Give those of the words that have no pronunciation, each once."""
        return list(dict.fromkeys(word for word in words if word not in self.pronunciations))

    def fingerprint(self) -> str:
        """Return the SHA-256 of all words and pronunciations."""
        return sha256(self._text().encode())

    def write(self, path: Path) -> None:
        """Write it as `lexicon.txt`: a word and its phones a line."""
        write_atomically(path, self._text().encode())

    def _text(self) -> str:
        return "".join(
            f"{word} {' '.join(spoken)}\n"
            for word in self.words
            for spoken in self.pronunciations[word]
        )


def read_lexicon(path: Path) -> Lexicon:
    """Read a lexicon in ARPABET: Kaldi's `lexicon.txt`, a Sphinx dictionary, or CMUdict.

    Markers of stress are taken away; a pronunciation that stands there twice counts once.

    Raises:
        DataError: If a line has no phones, or there are no words.
        FolderError: If the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise file_error("read the lexicon", path, error) from error
    except UnicodeDecodeError as error:
        raise DataError(f"expected UTF-8 in {path}, got byte {error.start} that is none") from error
    found: dict[str, list[Pronunciation]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith(";;;"):
            continue
        word, *phones = line.split()
        if not phones:
            raise DataError(f"expected a word and its phones in {path}:{number}, got {line!r}")
        spoken = tuple(_STRESS.sub("", phone) for phone in phones)
        variants = found.setdefault(_VARIANT.sub("", word), [])
        if spoken not in variants:
            variants.append(spoken)
    if not found:
        raise DataError(f"expected words and their phones in {path}, got an empty file")
    return Lexicon({word: tuple(variants) for word, variants in found.items()})
