"""What the networks see: log-mel filterbanks, or MFCC with their changes; normalized by speaker."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from attar.errors import DataError, check_positive
from attar.speech.extra import load_extra
from attar.speech.utterances import Corpus, Utterance

_FULL_SCALE = 32768.0  # Kaldi's filterbanks expect samples of 16 bits
_LEAST_DEVIATION = 1e-3  # of a feature, so that one that never changes becomes 0
_REACH = 2  # frames on each side from which a change is estimated


@dataclass(frozen=True, slots=True)
class FilterbankSettings:
    """Log-mel filterbanks: 40 of them, 10 ms, as Hinton et al. (2015), sec. 4, has them."""

    sample_rate_hz: int = 16000
    bins: int = 40
    frame_length_ms: float = 25.0
    frame_shift_ms: float = 10.0
    low_hz: float = 20.0
    high_hz: float | None = None  # None for half the sample rate

    def __post_init__(self) -> None:
        """Check that there are frequencies between the lowest and the highest one.

        Raises:
            AttarError: If not.
        """
        check_positive(sample_rate_hz=self.sample_rate_hz, bins=self.bins)
        check_positive(frame_length_ms=self.frame_length_ms, frame_shift_ms=self.frame_shift_ms)
        high = self.high_hz or self.sample_rate_hz / 2
        if not 0 <= self.low_hz < high <= self.sample_rate_hz / 2:
            raise DataError(
                f"expected 0 <= low_hz < high_hz <= {self.sample_rate_hz / 2:g}, "
                f"got {self.low_hz:g} and {high:g}"
            )

    @property
    def shortest_samples(self) -> int:
        """How many samples one frame needs."""
        return int(self.sample_rate_hz * self.frame_length_ms / 1000)


def log_mel(
    samples: Float[Tensor, " samples"], settings: FilterbankSettings
) -> Float[Tensor, "frames bins"]:
    """Compute log-mel filterbanks, without dither: the same samples give the same numbers.

    Frames lie wholly inside the recording, as Kaldi's do by default: the first one is centered at
    half a frame's length.

    Args:
        samples: Between -1 and 1.
        settings: The sample rate among them.

    Raises:
        DataError: If there are too few samples for a frame.
        MissingExtraError: If `kaldi-native-fbank` is not installed.
    """
    if len(samples) < settings.shortest_samples:
        raise DataError(
            f"expected at least {settings.shortest_samples} samples "
            f"({settings.frame_length_ms:g} ms), got {len(samples)}"
        )
    fbank = load_extra("kaldi_native_fbank")
    options = fbank.FbankOptions()
    options.frame_opts.samp_freq = settings.sample_rate_hz
    options.frame_opts.frame_length_ms = settings.frame_length_ms
    options.frame_opts.frame_shift_ms = settings.frame_shift_ms
    options.frame_opts.dither = 0.0
    options.mel_opts.num_bins = settings.bins
    options.mel_opts.low_freq = settings.low_hz
    options.mel_opts.high_freq = settings.high_hz or 0.0  # which means half the sample rate
    computer = fbank.OnlineFbank(options)
    computer.accept_waveform(settings.sample_rate_hz, (samples * _FULL_SCALE).numpy())
    computer.input_finished()
    rows = [computer.get_frame(index) for index in range(computer.num_frames_ready)]
    return torch.from_numpy(np.stack(rows).astype(np.float32))


def cepstra(
    filterbanks: Float[Tensor, "frames bins"], *, count: int
) -> Float[Tensor, "frames count"]:
    """Turn filterbanks into that many cepstra, which go together less: their cosine transform.

    Raises:
        DataError: If there are fewer filterbanks.
    """
    bins = filterbanks.shape[1]
    if not 0 < count <= bins:
        raise DataError(f"expected 1 to {bins} cepstra of {bins} filterbanks, got {count}")
    centers = torch.arange(bins, dtype=filterbanks.dtype) + 0.5
    angles = centers[:, None] * torch.arange(count) * (torch.pi / bins)
    transform: Tensor = angles.cos() * (2 / bins) ** 0.5  # [bins, count]
    return filterbanks @ transform


def add_deltas(features: Float[Tensor, "frames dims"]) -> Float[Tensor, "frames three_dims"]:
    """Append how each feature changes, and how that changes: three times as many columns.

    A change is the slope of the straight line through 5 frames; edges are repeated.
    """
    changes = _slopes(features)
    return torch.cat([features, changes, _slopes(changes)], dim=1)


def _slopes(features: Float[Tensor, "frames dims"]) -> Float[Tensor, "frames dims"]:
    steps = torch.arange(-_REACH, _REACH + 1, dtype=features.dtype)
    kernel = (steps / steps.square().sum()).view(1, 1, -1)  # least squares
    padded = functional.pad(
        features.T[:, None], (_REACH, _REACH), mode="replicate"
    )  # [dims, 1, frames + 4]
    return functional.conv1d(padded, kernel)[:, 0].T


def normalize(features: Sequence[Float[Tensor, "_ dims"]]) -> list[Float[Tensor, "_ dims"]]:
    """Give all of these together mean 0 and variance 1 in every column."""
    frames = torch.cat(list(features)).double()
    mean, deviation = frames.mean(0), frames.std(0, unbiased=False).clamp(min=_LEAST_DEVIATION)
    return [((each - mean) / deviation).float() for each in features]


def normalize_speakers(corpus: Corpus) -> Corpus:
    """Normalize the features of each speaker by the mean and variance of all that it says.

    Where a speaker is not known, give each utterance a speaker of its own.
    """
    by_speaker: dict[str, list[Utterance]] = defaultdict(list)
    for each in corpus.utterances:
        by_speaker[each.speaker].append(each)
    done = {
        utterance.id: features
        for spoken in by_speaker.values()
        for utterance, features in zip(
            spoken, normalize([each.features for each in spoken]), strict=True
        )
    }
    return replace(
        corpus,
        utterances=tuple(replace(each, features=done[each.id]) for each in corpus.utterances),
    )
