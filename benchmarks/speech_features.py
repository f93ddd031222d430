"""How fast filterbanks are made: `python benchmarks/speech_features.py`.

Prints, and with `--out FILE` writes as JSON, how many seconds of recordings one core turns into 40
log-mel filterbanks in a second of its time; and how many windows of 26 frames a second are gathered
from a packed matrix. Recordings are made up; several rounds, of which the median counts.
"""

import argparse
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from attar.records import this_machine, write_json
from attar.speech.features import FilterbankSettings, log_mel
from attar.speech.packed import PackedFrames

ROUNDS = 7
LENGTHS_SECONDS = (1, 3, 10)
BATCH = 256


@dataclass(frozen=True, slots=True)
class FeatureSpeed:
    """Per second of one core's time."""

    sample_rate_hz: int
    filterbanks_times_real_time: float
    windows: float


def measure_features(sample_rate_hz: int) -> FeatureSpeed:
    """Measure on one thread."""
    generator = torch.Generator().manual_seed(0)
    recordings = [
        torch.randn(seconds * sample_rate_hz, generator=generator) / 10
        for seconds in LENGTHS_SECONDS
    ]
    settings = FilterbankSettings(sample_rate_hz)
    features = [log_mel(each, settings) for each in recordings]  # also warms up
    packed = PackedFrames(features)
    batches = torch.randperm(len(packed), generator=generator).split(BATCH)
    seconds, window_seconds = [], []
    for _ in range(ROUNDS):
        start = time.process_time()
        for each in recordings:
            log_mel(each, settings)
        seconds.append(time.process_time() - start)
        start = time.process_time()
        for indices in batches:
            packed.windows(indices)
        window_seconds.append(time.process_time() - start)
    return FeatureSpeed(
        sample_rate_hz,
        sum(LENGTHS_SECONDS) / statistics.median(seconds),
        len(packed) / statistics.median(window_seconds),
    )


def main() -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="a JSON file to write")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = [measure_features(rate) for rate in (8000, 16000)]
    for each in results:
        print(
            f"{each.sample_rate_hz} Hz: filterbanks {each.filterbanks_times_real_time:.0f} × real "
            f"time, {each.windows:,.0f} windows a second"
        )
    if arguments.out:
        machine = asdict(this_machine())
        write_json(
            arguments.out, {"features": [asdict(each) for each in results], "machine": machine}
        )


if __name__ == "__main__":
    main()
