"""The text files of a Kaldi-style data folder: a key and its value a line."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from attar.errors import DataError, file_error
from attar.files import write_atomically


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a recording."""

    recording: str
    start_seconds: float
    end_seconds: float


def read_table(path: Path) -> dict[str, str]:
    """Read lines of a key and a value; the value may be empty.

    Raises:
        DataError: If a key stands there twice, or the file is not UTF-8.
        FolderError: If it cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise file_error("read", path, error) from error
    except UnicodeDecodeError as error:
        raise DataError(f"expected UTF-8 in {path}, got byte {error.start} that is none") from error
    table: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        key, *value = line.split(maxsplit=1)
        if key in table:
            raise DataError(f"expected ids that occur once, got {key!r} again in {path}:{number}")
        table[key] = value[0].strip() if value else ""
    return table


def write_table(path: Path, table: Mapping[str, str]) -> None:
    """Write lines of a key and a value, in order of keys, as Kaldi wants them."""
    lines = [f"{key} {table[key]}".rstrip() + "\n" for key in sorted(table)]
    write_atomically(path, "".join(lines).encode())


def read_segments(path: Path) -> dict[str, Segment]:
    """Read `segments`: utterance, recording, start and end in seconds.

    Raises:
        DataError: If a line has another form, or an utterance stands there twice.
        FolderError: If the file cannot be read.
    """
    segments = {}
    for utterance, value in read_table(path).items():
        try:
            recording, start, end = value.split()
            segment = Segment(recording, float(start), float(end))
        except ValueError as error:
            raise DataError(
                f"expected a recording, start and end for {utterance} in {path}, got {value!r}"
            ) from error
        if not 0 <= segment.start_seconds < segment.end_seconds:
            raise DataError(f"expected 0 <= start < end for {utterance} in {path}, got {value!r}")
        segments[utterance] = segment
    return segments
