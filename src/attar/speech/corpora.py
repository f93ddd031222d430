"""Corpora in folders: Kaldi-style, with recordings or with features that are made already."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from attar.errors import DataError, FolderError, file_error
from attar.files import make_folder, write_atomically
from attar.speech.audio import Recording, read_recording
from attar.speech.features import FilterbankSettings, add_deltas, log_mel, normalize_speakers
from attar.speech.lexicon import Lexicon, read_lexicon
from attar.speech.tables import Segment, read_segments, read_table, write_table
from attar.speech.utterances import Corpus, Problem, Utterance

FEATURES_FILE = "features.safetensors"
MFCC = "mfcc"  # features of this kind get their changes beside them when they are read
BAD_RECORDING, NO_FEATURES, NO_TRANSCRIPT = "bad recording", "no features", "no transcript"
MISSING_WAV, BAD_SEGMENT = "missing wav", "segment outside its recording"


@dataclass(frozen=True)
class SpeechData:
    """A corpus to learn from, one of other speakers to test with, and how words are pronounced."""

    train: Corpus
    test: Corpus
    lexicon: Lexicon
    language_model: Path | None  # an ARPA file, if the corpus brings one
    filterbanks: FilterbankSettings | None  # None where the features came ready-made

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What was left out of both parts, and why."""
        return self.train.problems + self.test.problems


def read_speech_data(folder: Path) -> SpeechData:
    """Read a folder of `train/`, `test/`, `lexicon.txt` and perhaps `lm.arpa`.

    Features are normalized by speaker. An utterance that cannot be used is left out and stands in
    `problems`; a folder that is wrong as a whole is refused.

    Raises:
        DataError: If there is nothing to train or test with, an id stands in a file twice, or
            speakers of the test are also heard in training.
        FolderError: If a file cannot be read.
    """
    lexicon = read_lexicon(folder / "lexicon.txt")
    train, filterbanks = read_part(folder / "train")
    test, _ = read_part(folder / "test", filterbanks)
    both = sorted(set(train.speakers) & set(test.speakers))
    if both:
        raise DataError(
            f"expected other speakers in {folder / 'test'} than in training, got {both[0]} in both"
        )
    if train.dims != test.dims:
        raise DataError(f"expected {train.dims} features a frame in the test, got {test.dims}")
    model = folder / "lm.arpa"
    return SpeechData(
        normalize_speakers(train),
        normalize_speakers(test),
        lexicon,
        model if model.exists() else None,
        filterbanks,
    )


def read_part(
    folder: Path, filterbanks: FilterbankSettings | None = None
) -> tuple[Corpus, FilterbankSettings | None]:
    """Read a Kaldi-style data folder: `text`, `utt2spk`, and `wav.scp` or `features.safetensors`.

    `segments` says which parts of recordings are utterances; without it each recording is one.
    Without `utt2spk`, each utterance counts as a speaker of its own.

    Args:
        folder: The folder; paths in `wav.scp` are relative to it.
        filterbanks: By default 40 of them at the sample rate of the first recording.

    Returns:
        The corpus, not normalized, and the settings of its filterbanks: None for other features.

    Raises:
        DataError: If no utterance is left, or an id stands in a file twice.
        FolderError: If a file cannot be read.
    """
    text = read_table(folder / "text")
    speakers_file = folder / "utt2spk"
    speakers = read_table(speakers_file) if speakers_file.exists() else {id: id for id in text}
    if (folder / "wav.scp").exists():
        features, problems, filterbanks = _compute(folder, text, filterbanks)
    else:
        features, problems = _load(folder, text)
        filterbanks = None
    unknown = [id for id in features if id not in speakers]
    if unknown:
        raise DataError(f"expected a speaker for each utterance in {speakers_file}, got none for "
                        f"{unknown[0]}")  # fmt: skip
    utterances = tuple(
        Utterance(id, speakers[id], tuple(text[id].split()), features[id])
        for id in text
        if id in features
    )
    if not utterances:
        first = f", such as {problems[0]}" if problems else ""
        raise DataError(f"expected utterances in {folder}, got none that can be used{first}")
    return Corpus(utterances, tuple(problems)), filterbanks


def write_features(folder: Path, features: Mapping[str, Tensor], *, kind: str) -> None:
    """Write ready-made features of utterances, by id, beside `text` and `utt2spk`."""
    content = save({id: each.contiguous() for id, each in features.items()}, {"kind": kind})
    write_atomically(folder / FEATURES_FILE, content)


def write_part(
    folder: Path,
    *,
    text: Mapping[str, str],
    speakers: Mapping[str, str],
    recordings: Mapping[str, str] | None = None,
) -> None:
    """Write the text files of a data folder, by utterance: words, speakers, paths of recordings."""
    make_folder(folder)
    write_table(folder / "text", text)
    write_table(folder / "utt2spk", speakers)
    if recordings is not None:
        write_table(folder / "wav.scp", recordings)


def _load(folder: Path, text: Mapping[str, str]) -> tuple[dict[str, Tensor], list[Problem]]:
    path = folder / FEATURES_FILE
    if not path.exists():
        raise FolderError(f"expected wav.scp or {FEATURES_FILE} in {folder}, got neither")
    features: dict[str, Tensor] = {}
    problems = []
    try:
        with safe_open(path, framework="pt") as file:
            kind = (file.metadata() or {}).get("kind")
            known = set(file.keys())
            for id in text:
                if id not in known:
                    problems.append(Problem(id, NO_FEATURES, f"not in {path}"))
                    continue
                found = file.get_tensor(id).float()
                if found.ndim != 2 or not len(found) or not found.isfinite().all():
                    problems.append(Problem(id, NO_FEATURES, "no matrix of finite numbers"))
                    continue
                features[id] = add_deltas(found) if kind == MFCC else found
    except OSError as error:
        raise file_error("read", path, error) from error
    except SafetensorError as error:
        raise DataError(f"expected safetensors in {path}, got something else ({error})") from error
    problems += [
        Problem(id, NO_TRANSCRIPT, f"not in {folder / 'text'}") for id in known - set(text)
    ]
    return features, problems


def _compute(
    folder: Path, text: Mapping[str, str], filterbanks: FilterbankSettings | None
) -> tuple[dict[str, Tensor], list[Problem], FilterbankSettings | None]:
    """Read all recordings and compute filterbanks of their utterances."""
    paths = read_table(folder / "wav.scp")
    segments_file = folder / "segments"
    segments: dict[str, Segment | None] = (
        dict(read_segments(segments_file)) if segments_file.exists() else dict.fromkeys(paths)
    )
    problems = [
        Problem(id, NO_TRANSCRIPT, f"not in {folder / 'text'}") for id in segments if id not in text
    ]
    problems += [
        Problem(id, MISSING_WAV, f"not in {folder / 'wav.scp'}")
        for id in text
        if id not in segments
    ]
    features: dict[str, Tensor] = {}
    read = _Reader(folder, paths)
    for id in text:
        if id not in segments:
            continue
        segment = segments[id]
        name = segment.recording if segment else id
        try:
            recording = read(name, filterbanks.sample_rate_hz if filterbanks else None)
            filterbanks = filterbanks or FilterbankSettings(recording.sample_rate_hz)
            features[id] = log_mel(_cut(recording, segment), filterbanks)
        except FileNotFoundError as error:
            problems.append(Problem(id, MISSING_WAV, str(error)))
        except IndexError as error:
            problems.append(Problem(id, BAD_SEGMENT, str(error)))
        except (DataError, FolderError) as error:
            problems.append(Problem(id, BAD_RECORDING, str(error)))
    return features, problems, filterbanks


class _Reader:
    """Reads recordings by name; the last one is kept, as its segments mostly follow each other."""

    def __init__(self, folder: Path, paths: Mapping[str, str]) -> None:
        self._folder, self._paths = folder, paths
        self._last: tuple[str, Recording] | None = None

    def __call__(self, name: str, sample_rate_hz: int | None) -> Recording:
        if name not in self._paths:
            raise FileNotFoundError(f"{name} is not in {self._folder / 'wav.scp'}")
        if self._last is None or self._last[0] != name:
            place = self._paths[name]
            if place.endswith("|"):
                raise DataError(f"expected a path in wav.scp, got a command: {place!r}; run it")
            path = self._folder / place
            if not path.exists():
                raise FileNotFoundError(f"there is no {path}")
            self._last = name, read_recording(path, sample_rate_hz=sample_rate_hz)
        return self._last[1]


def _cut(recording: Recording, segment: Segment | None) -> Float[Tensor, " samples"]:
    if segment is None:
        return recording.samples
    start, end = (
        round(seconds * recording.sample_rate_hz)
        for seconds in (segment.start_seconds, segment.end_seconds)
    )
    if end > len(recording.samples):
        raise IndexError(
            f"expected an end within {recording.seconds:.3f} s, got {segment.end_seconds:g} s"
        )
    return recording.samples[start:end]
