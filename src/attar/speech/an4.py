"""CMU's AN4: letters, numbers and commands of 84 speakers, 1991."""

import re
from pathlib import Path

import numpy as np
import torch

from attar.errors import DataError, file_error
from attar.files import make_folder, write_atomically
from attar.speech.audio import read_recording, write_recording
from attar.speech.corpora import MFCC, write_features, write_part
from attar.speech.lexicon import read_lexicon
from attar.speech.sources import find, new_folder, open_source
from attar.speech.utterances import Problem

URL = "http://www.speech.cs.cmu.edu/databases/an4/an4_sphere.tar.gz"
PARTS = ("train", "test")
FEATURES = "an4_mfcc13.npz"
_TRANSCRIPT = re.compile(r"^(.*)\(([^()\s]+)\)\s*$")  # YES (an251-fash-b)


def prepare_an4(source: str, folder: Path) -> list[Problem]:
    """Make the folder that `read_speech_data` reads out of AN4.

    Args:
        source: A folder, an archive or a URL: the corpus as CMU distributes it, with recordings; or
            `an4_mfcc13.npz`, its 13 MFCC, beside `etc/`.
        folder: A new one; gets `train/`, `test/`, `lexicon.txt` and the language model.

    Returns:
        Recordings that could not be used; the others are in the folder.

    Raises:
        DataError: If the source is not AN4, or is damaged.
        FolderError: If the folder is there already, or something cannot be read or written.
    """
    with open_source(source) as found, new_folder(folder) as made:
        dictionary = find(found, "an4.dic")
        if dictionary is None:
            raise DataError(f"expected AN4, got {source}, which has no an4.dic")
        read_lexicon(dictionary).write(made / "lexicon.txt")
        model = dictionary.with_name("an4.ug.lm")
        if model.exists():
            write_atomically(made / "lm.arpa", _without_comments(model))
        features = find(found, FEATURES)
        if features is not None:
            _write_mfcc(features, made)
            return []
        return _write_recordings(dictionary.parent, made)


def _write_mfcc(path: Path, folder: Path) -> None:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            frames = torch.from_numpy(arrays["feats"])
            offsets = arrays["offsets"].tolist()
            rows = list(
                zip(
                    *(arrays[key].tolist() for key in ("utt", "text", "speaker", "split")),
                    strict=True,
                )
            )
    except OSError as error:
        raise file_error("read", path, error) from error
    except (KeyError, ValueError) as error:
        raise DataError(f"expected AN4's MFCC in {path}, got something else ({error})") from error
    if len(offsets) != len(rows) + 1 or offsets[-1] != len(frames):
        raise DataError(f"{path} is damaged: its offsets don't fit its frames")
    for part in PARTS:
        chosen = [index for index, row in enumerate(rows) if row[3] == part]
        write_part(
            folder / part,
            text={rows[index][0]: rows[index][1] for index in chosen},
            speakers={rows[index][0]: rows[index][2] for index in chosen},
        )
        features = {rows[index][0]: frames[offsets[index] : offsets[index + 1]] for index in chosen}
        write_features(folder / part, features, kind=MFCC)


def _write_recordings(etc: Path, folder: Path) -> list[Problem]:
    problems = []
    for part in PARTS:
        text = _read_transcripts(etc / f"an4_{part}.transcription")
        speakers, recordings = {}, {}
        place = make_folder(folder / part / "wav")
        for line in (etc / f"an4_{part}.fileids").read_text().split():
            id = Path(line).name
            recording = _find_recording(etc.parent / "wav" / line)
            if recording is None:
                problems.append(Problem(id, "missing wav", f"no wav/{line}.sph or .wav"))
                continue
            try:
                write_recording(read_recording(recording), place / f"{id}.wav")
            except DataError as error:
                problems.append(Problem(id, "bad recording", str(error)))
                continue
            speakers[id], recordings[id] = Path(line).parent.name, f"wav/{id}.wav"
        if not recordings:
            raise DataError(f"expected AN4's recordings beside {etc}, got none of {part}")
        known = {id: words for id, words in text.items() if id in recordings}
        write_part(folder / part, text=known, speakers=speakers, recordings=recordings)
    return problems


def _find_recording(stem: Path) -> Path | None:
    for suffix in (".sph", ".wav"):
        path = stem.with_name(stem.name + suffix)
        if path.exists():
            return path
    return None


def _read_transcripts(path: Path) -> dict[str, str]:
    text: dict[str, str] = {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        match = _TRANSCRIPT.match(line.replace("<s>", "").replace("</s>", ""))
        if match is None:
            raise DataError(f"expected WORDS (id) in {path}:{number}, got {line!r}")
        if match[2] in text:
            raise DataError(
                f"expected ids that occur once, got {match[2]} again in {path}:{number}"
            )
        text[match[2]] = match[1].strip()
    return text


def _without_comments(model: Path) -> bytes:
    """Begin an ARPA file with its counts, as most readers want it."""
    content = model.read_bytes()
    return content[max(content.find(b"\n\\data\\"), 0) :].lstrip()
