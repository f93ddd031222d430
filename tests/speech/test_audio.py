import struct

import numpy as np
import pytest
import soundfile
import torch

from attar.errors import DataError, FolderError
from attar.speech.audio import Recording, read_recording, write_recording


@pytest.fixture
def wav(tmp_path):
    samples = torch.sin(torch.arange(4000) / 10) / 2
    path = tmp_path / "tone.wav"
    write_recording(Recording(samples, 8000), path)
    return path


def test_a_recording_comes_back(wav):
    back = read_recording(wav, sample_rate_hz=8000)
    assert (back.sample_rate_hz, back.seconds) == (8000, 0.5)
    expected = torch.sin(torch.arange(4000) / 10) / 2
    torch.testing.assert_close(back.samples, expected, atol=1e-4, rtol=0)


def test_other_programs_read_what_is_written(wav):
    about = soundfile.info(wav)
    assert (about.frames, about.samplerate, about.channels, about.subtype) == (
        4000,
        8000,
        1,
        "PCM_16",
    )


@pytest.mark.parametrize("kind", ["FLAC", "NIST", "WAV"])
def test_other_formats_are_read(tmp_path, kind):
    path = tmp_path / "sound"
    soundfile.write(path, np.linspace(-0.5, 0.5, 900), 16000, format=kind, subtype="PCM_16")
    assert len(read_recording(path).samples) == 900


def test_a_wav_with_other_chunks_is_read(wav):
    content = wav.read_bytes()
    extra = struct.pack("<4sI", b"LIST", 3) + b"abc\0"  # an odd length is padded
    wav.write_bytes(content[:12] + extra + content[12:])
    assert len(read_recording(wav).samples) == 4000


def test_a_wav_that_was_cut_off_is_refused(wav):
    wav.write_bytes(wav.read_bytes()[:-1000])
    with pytest.raises(DataError, match=r"tone\.wav: the header promises 8000 bytes .* 7000 are"):
        read_recording(wav)


def damage(content: bytes, position: int, new: bytes) -> bytes:
    return content[:position] + new + content[position + len(new) :]


@pytest.mark.parametrize(
    ("position", "new", "message"),
    [
        (24, struct.pack("<I", 16000), "contradicts itself: 16000 samples a second"),
        (22, struct.pack("<H", 0), "says 0 channels"),
        (40, struct.pack("<I", 0xFFFFFFFF), "promises 4294967295 bytes"),
        (8, b"WAVX", "of another kind"),
    ],
)
def test_a_header_that_lies_is_refused(wav, position, new, message):
    wav.write_bytes(damage(wav.read_bytes(), position, new))
    with pytest.raises(DataError, match=message):
        read_recording(wav)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "which is empty"),
        (b"RIFF\0\0", "cut off"),
        (b"some text, no sound at all, but longer than a header would be", "expected a sound file"),
    ],
)
def test_files_that_are_no_recordings_are_refused(tmp_path, content, message):
    path = tmp_path / "x.wav"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_recording(path)


def test_a_header_without_samples_is_refused(wav):
    wav.write_bytes(wav.read_bytes()[:36])
    with pytest.raises(DataError, match="there are none"):
        read_recording(wav)
    write_recording(Recording(torch.zeros(0), 8000), wav)
    with pytest.raises(DataError, match="expected samples, got none"):
        read_recording(wav)


def test_two_channels_and_another_rate_are_refused(tmp_path):
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.zeros((900, 2)), 16000)
    with pytest.raises(DataError, match=r"one channel, got 2 in .*stereo\.wav"):
        read_recording(path)
    soundfile.write(path, np.zeros(900), 44100)
    with pytest.raises(DataError, match="expected 16000 samples a second, got 44100"):
        read_recording(path, sample_rate_hz=16000)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FolderError, match=r"cannot read .*none\.wav"):
        read_recording(tmp_path / "none.wav")
