import math

import numpy as np
import pytest
import scipy.fft
import torch
from hypothesis import given
from hypothesis import strategies as st

from attar.errors import AttarError, DataError
from attar.speech.features import (
    FilterbankSettings,
    add_deltas,
    cepstra,
    log_mel,
    normalize,
    normalize_speakers,
)
from attar.speech.packed import PackedFrames
from attar.speech.utterances import Corpus, Utterance


def filterbanks_by_numpy(samples: np.ndarray, settings: FilterbankSettings) -> np.ndarray:
    """Kaldi's recipe from its documentation, written out once more."""
    rate = settings.sample_rate_hz
    length, shift = int(rate * 0.025), int(rate * 0.010)
    padded = 2 ** math.ceil(math.log2(length))
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / (length - 1))) ** 0.85

    def mel(hertz):
        return 1127.0 * np.log(1 + np.asarray(hertz) / 700.0)

    high = settings.high_hz or rate / 2
    edges = np.linspace(mel(settings.low_hz), mel(high), settings.bins + 2)
    bins = mel(np.arange(padded // 2) * rate / padded)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    weights = np.maximum(0, np.minimum(rising, falling))  # [bins, frequencies]
    rows = []
    for start in range(0, len(samples) - length + 1, shift):
        frame = samples[start : start + length] * 32768.0
        frame = frame - frame.mean()
        frame = frame - 0.97 * np.concatenate([frame[:1], frame[:-1]])
        power = np.abs(np.fft.rfft(frame * window, padded)) ** 2
        rows.append(np.log(np.maximum(weights @ power[: padded // 2], 1.1920929e-07)))
    return np.array(rows)


@pytest.mark.parametrize(
    "settings",
    [
        FilterbankSettings(),
        FilterbankSettings(8000, bins=23, low_hz=60.0, high_hz=3700.0),
    ],
)
def test_filterbanks_are_those_of_numpy(settings):
    generator = np.random.default_rng(0)
    time = np.arange(settings.sample_rate_hz) / settings.sample_rate_hz
    samples = 0.3 * np.sin(2 * np.pi * (200 + 900 * time) * time)
    samples += 0.02 * generator.normal(size=len(time))
    ours = log_mel(torch.tensor(samples, dtype=torch.float32), settings)
    expected = filterbanks_by_numpy(samples, settings)
    assert ours.shape == expected.shape == (98, settings.bins)
    np.testing.assert_allclose(ours.numpy(), expected, rtol=0, atol=2e-3)


def test_the_same_samples_give_the_same_filterbanks():
    samples = torch.randn(4000, generator=torch.Generator().manual_seed(0)) / 10
    first, second = (log_mel(samples, FilterbankSettings()) for _ in range(2))
    assert torch.equal(first, second)  # no dither


def test_digital_silence_is_finite():
    assert log_mel(torch.zeros(800), FilterbankSettings()).isfinite().all()


def test_too_few_samples_for_a_frame_are_refused():
    with pytest.raises(DataError, match=r"at least 400 samples \(25 ms\), got 399"):
        log_mel(torch.zeros(399), FilterbankSettings())


def test_frequencies_that_cannot_be_heard_are_refused():
    with pytest.raises(AttarError, match="low_hz < high_hz <= 4000, got 20 and 6000"):
        FilterbankSettings(8000, high_hz=6000.0)


def test_the_change_of_a_straight_line_is_its_slope():
    line = torch.arange(10.0)[:, None] * torch.tensor([[2.0, -1.0]])
    appended = add_deltas(line)
    assert appended.shape == (10, 6)
    torch.testing.assert_close(appended[2:-2, 2:4], torch.tensor([[2.0, -1.0]]).expand(6, 2))
    torch.testing.assert_close(appended[4:-4, 4:], torch.zeros(2, 2))
    # By hand at the edge, which is repeated: (1·(2 − 0) + 2·(4 − 0)) / 10.
    assert appended[0, 2].item() == pytest.approx(1.0)


@given(st.floats(-50, 50), st.floats(0.1, 20))
def test_normalizing_forgets_level_and_loudness(shift, scale):
    frames = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    plain = normalize([frames[:15], frames[15:]])
    moved = normalize([frames[:15] * scale + shift, frames[15:] * scale + shift])
    torch.testing.assert_close(torch.cat(plain), torch.cat(moved), rtol=1e-3, atol=1e-3)
    both = torch.cat(plain)
    torch.testing.assert_close(both.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(both.std(0, unbiased=False), torch.ones(3))


def test_cepstra_are_the_cosine_transform_of_scipy():
    features = torch.randn(7, 40, generator=torch.Generator().manual_seed(0))
    expected = scipy.fft.dct(features.numpy(), norm="ortho", axis=1)[:, :13]
    expected[:, 0] *= 2**0.5  # orthonormal, but for the sum
    torch.testing.assert_close(cepstra(features, count=13), torch.from_numpy(expected))
    with pytest.raises(DataError, match="expected 1 to 40 cepstra of 40 filterbanks, got 41"):
        cepstra(features, count=41)


def test_each_speaker_is_normalized_alone():
    generator = torch.Generator().manual_seed(0)
    utterances = tuple(
        Utterance(f"u{index}", speaker, (), torch.randn(9, 2, generator=generator) + 10 * index)
        for index, speaker in enumerate(["ann", "bob", "ann", "bob"])
    )
    done = normalize_speakers(Corpus(utterances)).utterances
    expected = normalize([utterances[0].features, utterances[2].features])
    torch.testing.assert_close(done[2].features, expected[1])
    assert [each.id for each in done] == ["u0", "u1", "u2", "u3"]


def test_a_feature_that_never_changes_becomes_zero():
    assert torch.equal(normalize([torch.full((5, 2), 3.0)])[0], torch.zeros(5, 2))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(0, 6), st.integers(0, 4))
def test_windows_repeat_the_edges_of_their_own_utterance(lengths, left, right):
    total = sum(lengths)
    features = torch.arange(total * 2.0).view(total, 2).split(lengths)
    packed = PackedFrames(features, left=left, right=right)
    windows = packed.windows(torch.arange(total))
    assert windows.shape == (total, packed.window_dims)
    rows = []
    for each in features:
        for frame in range(len(each)):
            around = [each[min(max(frame + step, 0), len(each) - 1)]
                      for step in range(-left, right + 1)]  # fmt: skip
            rows.append(torch.cat(around))
    assert torch.equal(windows, torch.stack(rows))


def test_frames_are_kept_as_halves_if_asked_and_windows_are_floats():
    packed = PackedFrames([torch.randn(5, 3), torch.randn(4, 3)], dtype=torch.float16)
    assert packed.frames.dtype == torch.float16
    window = packed.windows(packed.utterance(1)[:1])
    assert window.dtype == torch.float32
    assert window.shape == (1, 26 * 3)
    assert torch.equal(packed.utterance(1), torch.arange(5, 9))


def test_no_utterances_cannot_be_packed():
    with pytest.raises(DataError, match="at least one utterance"):
        PackedFrames([])
