"""Strings of digits out of the Free Spoken Digit Dataset: single digits of six speakers."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from attar.errors import DataError, check_not_negative, check_positive
from attar.files import make_folder
from attar.speech.audio import Recording, read_recording, write_recording
from attar.speech.corpora import write_part
from attar.speech.lexicon import Lexicon
from attar.speech.sources import new_folder, open_source
from attar.speech.utterances import Problem

URL = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/heads/master.zip"
SAMPLE_RATE_HZ = 8000
_NAME = re.compile(r"^(\d)_([a-z]+)_(\d+)\.wav$")  # 7_jackson_32.wav
_FADE_SAMPLES = 40  # 5 ms at each end of a digit, against clicks
_LOUDNESS = 0.1  # root mean square of a digit

WORDS = ("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE")
LEXICON = Lexicon(
    {
        "ZERO": (("Z", "IH", "R", "OW"), ("Z", "IY", "R", "OW")),
        "ONE": (("W", "AH", "N"),),
        "TWO": (("T", "UW"),),
        "THREE": (("TH", "R", "IY"),),
        "FOUR": (("F", "AO", "R"),),
        "FIVE": (("F", "AY", "V"),),
        "SIX": (("S", "IH", "K", "S"),),
        "SEVEN": (("S", "EH", "V", "AH", "N"),),
        "EIGHT": (("EY", "T"),),
        "NINE": (("N", "AY", "N"),),
    }
)


@dataclass(frozen=True, slots=True)
class StringSettings:
    """How digits are strung together."""

    test_speakers: int = 2  # the last ones by name; nobody hears them in training
    strings: int = 200  # a speaker, in training
    test_strings: int = 100  # a speaker
    shortest: int = 3  # digits
    longest: int = 7
    least_pause_seconds: float = 0.02
    longest_pause_seconds: float = 0.4
    least_snr_db: float = 10.0  # of a string: digits against noise
    most_snr_db: float = 30.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check that ranges are ranges.

        Raises:
            AttarError: If one is not.
        """
        check_positive(
            test_speakers=self.test_speakers, strings=self.strings, test_strings=self.test_strings
        )
        check_positive(shortest=self.shortest)
        check_not_negative(least_pause_seconds=self.least_pause_seconds, seed=self.seed)
        for name, least, most in (
            ("digits", self.shortest, self.longest),
            ("pauses", self.least_pause_seconds, self.longest_pause_seconds),
            ("noise", self.least_snr_db, self.most_snr_db),
        ):
            if least > most:
                raise DataError(f"expected {name} from less to more, got {least:g} to {most:g}")


def prepare_fsdd(
    source: str,
    folder: Path,
    settings: StringSettings,
    *,
    progress: Callable[[str], None] | None = None,
) -> list[Problem]:
    """Make the folder that `read_speech_data` reads out of strings of recorded digits.

    Args:
        source: A folder, an archive or a URL of the data set.
        folder: A new one; gets `train/`, `test/` and `lexicon.txt`.
        settings: Strings, pauses, noise, the seed.
        progress: Is told which speaker is done.

    Returns:
        Recordings that could not be used; strings are made of the others.

    Raises:
        DataError: If the source has no such recordings, or those of too few speakers.
        FolderError: If the folder is there already, or something cannot be read or written.
    """
    with open_source(source) as found:
        digits, problems = _read_digits(found)
    speakers = sorted(digits)
    if len(speakers) <= settings.test_speakers:
        names = ", ".join(speakers) or "no recordings named like 7_jackson_32.wav"
        raise DataError(
            f"expected more than {settings.test_speakers} speakers in {source}, "
            f"got {len(speakers)}: {names}"
        )
    with new_folder(folder) as made:
        LEXICON.write(made / "lexicon.txt")
        for part, chosen, count in (
            ("train", speakers[: -settings.test_speakers], settings.strings),
            ("test", speakers[-settings.test_speakers :], settings.test_strings),
        ):
            text: dict[str, str] = {}
            for speaker in chosen:
                # By name, so that a speaker's strings are the same whoever else is there.
                generator = np.random.default_rng([settings.seed, *speaker.encode()])
                strings = _make_strings(digits[speaker], count, settings, generator)
                text |= _write_strings(strings, speaker, made / part / "wav")
                if progress:
                    progress(f"{part}: {count} strings of {speaker}")
            write_part(
                made / part,
                text=text,
                speakers={id: id.partition("-")[0] for id in text},
                recordings={id: f"wav/{id}.wav" for id in text},
            )
    return problems


def _write_strings(
    strings: Sequence[tuple[list[str], NDArray[np.float32]]], speaker: str, folder: Path
) -> dict[str, str]:
    """Write recordings; give their words by id."""
    make_folder(folder)
    text = {}
    for number, (words, samples) in enumerate(strings):
        id = f"{speaker}-{number:04d}"
        text[id] = " ".join(words)
        sound = Recording(torch.from_numpy(samples), SAMPLE_RATE_HZ)
        write_recording(sound, folder / f"{id}.wav")
    return text


_Digit = tuple[int, NDArray[np.float32]]


def _read_digits(folder: Path) -> tuple[dict[str, list[_Digit]], list[Problem]]:
    """Read all recordings, by speaker."""
    digits: dict[str, list[_Digit]] = {}
    problems = []
    for path in sorted(folder.rglob("*.wav")):
        match = _NAME.match(path.name)
        if match is None:
            continue
        try:
            recording = read_recording(path, sample_rate_hz=SAMPLE_RATE_HZ)
        except DataError as error:
            problems.append(Problem(path.name, "bad recording", str(error)))
            continue
        digits.setdefault(match[2], []).append((int(match[1]), recording.samples.numpy()))
    return digits, problems


def _make_strings(
    digits: Sequence[_Digit],
    count: int,
    settings: StringSettings,
    generator: np.random.Generator,
) -> list[tuple[list[str], NDArray[np.float32]]]:
    """String recordings together; all are used once before one is used again."""
    waiting: list[int] = []
    strings = []
    for _ in range(count):
        length = int(generator.integers(settings.shortest, settings.longest + 1))
        while len(waiting) < length:
            waiting = [*generator.permutation(len(digits)).tolist(), *waiting]
        chosen = [digits[waiting.pop()] for _ in range(length)]
        samples = _join([_level(sound) for _, sound in chosen], settings, generator)
        strings.append(([WORDS[digit] for digit, _ in chosen], samples))
    return strings


def _level(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Make a digit as loud as others, and fade it in and out."""
    loudness = float(np.sqrt(np.square(samples).mean()))
    leveled = samples * np.float32(_LOUDNESS / max(loudness, 1e-5))
    fade = np.linspace(0, 1, min(_FADE_SAMPLES, len(leveled) // 2), dtype=np.float32)
    leveled[: len(fade)] *= fade
    leveled[len(leveled) - len(fade) :] *= fade[::-1]
    return leveled


def _join(
    sounds: Sequence[NDArray[np.float32]], settings: StringSettings, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Put pauses before, between and after sounds, and noise over all."""
    least, longest = settings.least_pause_seconds, settings.longest_pause_seconds
    pauses = generator.uniform(least, longest, size=len(sounds) + 1) * SAMPLE_RATE_HZ
    silent = [np.zeros(int(length), dtype=np.float32) for length in pauses]
    parts = [silent[0]]
    for sound, pause in zip(sounds, silent[1:], strict=True):
        parts += [sound, pause]
    samples = np.concatenate(parts)
    snr_db = generator.uniform(settings.least_snr_db, settings.most_snr_db)
    noise = generator.standard_normal(len(samples)).astype(np.float32)
    noisy: NDArray[np.float32] = samples + noise * np.float32(_LOUDNESS * 10 ** (-snr_db / 20))
    return noisy / np.float32(max(1.0, float(np.abs(noisy).max())))
