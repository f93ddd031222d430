"""Reading recordings, and refusing those whose headers lie."""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from jaxtyping import Float
from torch import Tensor

from attar.errors import DataError, file_error
from attar.files import write_atomically
from attar.speech.extra import load_extra


@dataclass(frozen=True, slots=True)
class Recording:
    """One channel of sound."""

    samples: Float[Tensor, " samples"]  # between -1 and 1
    sample_rate_hz: int

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / self.sample_rate_hz


def read_recording(path: Path, *, sample_rate_hz: int | None = None) -> Recording:
    """Read a file of one channel: wav, FLAC, NIST SPHERE or what else `libsndfile` knows.

    Args:
        path: The file.
        sample_rate_hz: What it has to be, if that matters.

    Raises:
        DataError: If it is empty, cut off, has another sample rate or more than one channel, is no
            sound file, or a wav whose header contradicts itself or the file's size.
        FolderError: If the file cannot be read.
        MissingExtraError: If `soundfile` is not installed.
    """
    soundfile = load_extra("soundfile")
    try:
        with path.open("rb") as file:
            check_wav_header(file, path)
            file.seek(0)
            samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
    except OSError as error:
        raise file_error("read", path, error) from error
    except (soundfile.LibsndfileError, RuntimeError) as error:
        reason = str(getattr(error, "error_string", error)).rstrip(".")
        raise DataError(f"expected a sound file, got {path}: {reason}") from error
    if samples.shape[1] != 1:
        raise DataError(
            f"expected one channel, got {samples.shape[1]} in {path}; mix them, or choose one"
        )
    if sample_rate_hz is not None and rate != sample_rate_hz:
        raise DataError(
            f"expected {sample_rate_hz} samples a second, got {rate} in {path}; resample it"
        )
    if not len(samples):
        raise DataError(f"expected samples, got none in {path}")
    return Recording(torch.from_numpy(samples[:, 0].copy()), int(rate))


def write_recording(recording: Recording, path: Path) -> None:
    """Write a wav file with samples of 16 bits.

    Raises:
        FolderError: If it cannot be written.
    """
    samples = (recording.samples.clamp(-1, 1) * 32767).round().to(torch.int16).numpy().tobytes()
    rate = recording.sample_rate_hz
    layout = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
    data = struct.pack("<4sI", b"data", len(samples)) + samples
    body = b"WAVE" + layout + data
    write_atomically(path, struct.pack("<4sI", b"RIFF", len(body)) + body)


def check_wav_header(file: BinaryIO, path: Path) -> None:
    """Compare what a wav file's header says with what the file has; other formats pass.

    `libsndfile` reads on with what is there: a recording that was cut off would be a short one.

    Raises:
        DataError: If they differ, or the header contradicts itself.
    """
    size = file.seek(0, 2)
    file.seek(0)
    if not size:
        raise DataError(f"expected a sound file, got {path}, which is empty")
    start = file.read(12)
    if start[:4] != b"RIFF":
        return
    if len(start) < 12 or start[8:] != b"WAVE":
        raise DataError(f"expected a wav file, got {path}, which is cut off or of another kind")
    while len(head := file.read(8)) == 8:
        name, length = struct.unpack("<4sI", head)
        rest = size - file.tell()
        if name == b"fmt ":
            _check_format(file.read(min(length, 16)), path)
            file.seek(length - min(length, 16) + length % 2, 1)
            continue
        if name == b"data":
            if length > rest:
                raise DataError(
                    f"{path}: the header promises {length} bytes of samples, {rest} are there; "
                    "it was cut off, or written by a program that did not finish its header"
                )
            return
        file.seek(length + length % 2, 1)
    raise DataError(f"{path}: the header promises samples, but there are none; it was cut off")


def _check_format(layout: bytes, path: Path) -> None:
    if len(layout) < 16:
        raise DataError(f"{path}: the header is cut off")
    _, channels, rate, bytes_a_second, frame_bytes, bits = struct.unpack("<HHIIHH", layout)
    compressed = bits == 0 or frame_bytes * 8 != channels * bits
    if not (channels and rate and frame_bytes):
        raise DataError(f"{path}: the header says {channels} channels, {rate} samples a second")
    if not compressed and bytes_a_second != rate * frame_bytes:
        raise DataError(
            f"{path}: the header contradicts itself: {rate} samples a second of {frame_bytes} "
            f"bytes are not {bytes_a_second} bytes a second"
        )
