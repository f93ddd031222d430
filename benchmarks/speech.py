"""How fast the speech part is: `python benchmarks/speech.py`.

Prints, and with `--out FILE` writes as JSON: features and decoding as multiples of real time; a
training step of 4×1024 and of the paper's 8×2560 with 14,000 states on made-up features, as a
fraction of the peak, and from that the hours for the paper's 700 million frames. All on one thread,
in the time that the processor spends on this program, so that others on the machine matter less.
Everything is made up here, so that no corpus is needed.
"""

import argparse
import resource
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from attar.models import acoustic_dnn
from attar.precision import cpu_multiplies_bfloat16, keep_freed_memory
from attar.records import this_machine, write_json
from attar.speech.decoding import Decoder, DecodingSettings
from attar.speech.features import FilterbankSettings, log_mel
from attar.speech.frames import FrameSet
from attar.speech.fsdd import LEXICON
from attar.speech.graphs import build_graph
from attar.speech.hmm import POSITIONS, Topology
from attar.speech.language_models import count_bigrams
from attar.speech.packed import PackedFrames
from attar.speech.recognition import compute_log_posteriors
from attar.speech.tree import monophone_tree
from attar.training import TrainingRun, TrainingSettings, hard_target_loss

PAPER_FRAMES = 700_000_000
FRAMES_PER_SECOND = 100
BATCH = 256


@dataclass(frozen=True)
class Training:
    """What training a network takes."""

    name: str
    step_seconds: float
    of_peak: float
    memory_gib: float  # of the process, at its highest
    paper_hours: float  # one pass over the paper's frames


def peak_flops(size: int = 2048) -> float:
    """Return the operations a second of a square matrix product in the quickest number format."""
    dtype = torch.bfloat16 if cpu_multiplies_bfloat16() else torch.float32
    a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
    times = []
    for _ in range(7):
        started = time.process_time()
        a @ b
        times.append(time.process_time() - started)
    return 2 * size**3 / float(np.median(times))


def time_features(seconds: float = 120.0) -> float:
    """Return how many seconds of sound a second makes filterbanks of."""
    generator = torch.Generator().manual_seed(0)
    samples = 0.1 * torch.randn(int(16_000 * seconds), generator=generator)
    settings = FilterbankSettings()
    log_mel(samples[:16_000], settings)
    started = time.process_time()
    log_mel(samples, settings)
    return seconds / (time.process_time() - started)


def time_decoding(utterances: int = 20) -> float:
    """Return how many seconds of digits a second recognizes, the network included."""
    generator = np.random.default_rng(0)
    tree = monophone_tree(LEXICON.phones)
    sentences = [list(generator.choice(LEXICON.words, size=5)) for _ in range(50)]
    graph = build_graph(
        LEXICON, count_bigrams(sentences, LEXICON.words), tree, Topology.uniform(tree.states, 0.7)
    )
    decoder = Decoder(graph, DecodingSettings(acoustic_scale=0.4))
    network = acoustic_dnn(
        tree.states, 3, 512, inputs=26 * 40, generator=torch.Generator().manual_seed(0)
    )
    spoken = [say(sentence, tree.states, generator) for sentence in sentences[:utterances]]
    frames = 0
    started = time.process_time()
    for scores in spoken:
        compute_log_posteriors(network, PackedFrames([torch.zeros(len(scores), 40)]))
        decoder.decode(scores)  # of somebody, as the network has learned nothing
        frames += len(scores)
    return frames / FRAMES_PER_SECOND / (time.process_time() - started)


def say(words: list[str], states: int, generator: np.random.Generator) -> np.ndarray:
    """Return log-likelihoods of somebody who says the words, not very clearly."""
    phones = [phone for word in words for phone in [*LEXICON.pronunciations[word][0], "SIL"]]
    path = [
        POSITIONS * LEXICON.phone_index[phone] + position
        for phone in phones
        for position in range(POSITIONS)
        for _ in range(3)
    ]
    scores = 2 * generator.normal(size=(len(path), states)).astype(np.float32)
    scores[np.arange(len(path)), path] += 4
    return scores


def time_training(
    name: str, layers: int, units: int, states: int, *, steps: int, peak: float
) -> Training:
    """Train on made-up frames, and take the time of the steps after the first two."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(20_000, 40, generator=generator)
    targets = torch.randint(states, (len(frames),), generator=generator)
    data = FrameSet(PackedFrames([frames]), targets, classes=states)
    network = acoustic_dnn(
        states, layers, units, inputs=data.packed.window_dims, generator=generator
    )
    epochs = 1 + steps * BATCH // len(frames)
    settings = TrainingSettings(epochs=epochs, batch_size=BATCH, learning_rate=0.01, seed=0)
    run = iter(TrainingRun(network, data, hard_target_loss, settings))
    times = []
    for _ in range(steps):
        started = time.process_time()
        next(run)
        times.append(time.process_time() - started)
    step = float(np.median(times[2:]))
    weights = sum(each.numel() for each in network.parameters() if each.ndim == 2)
    first = data.packed.window_dims * units  # whose inputs need no gradient
    operations = 2 * BATCH * (3 * weights - first)
    return Training(
        name=name,
        step_seconds=step,
        of_peak=operations / step / peak,
        memory_gib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        paper_hours=PAPER_FRAMES / BATCH * step / 3600,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--steps", type=int, default=200, help="of each training, 3 or more")
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    features, decoding = time_features(), time_decoding()
    print(f"features: {features:,.0f} times real time (aim: 300)")
    print(f"decoding: {decoding:,.0f} times real time (aim: 20)")
    precision = "bfloat16" if cpu_multiplies_bfloat16() else "float32"
    peak = peak_flops()
    print(f"peak: {peak / 1e9:.0f} GFLOP/s in {precision}, one thread")
    trainings = []
    for name, layers, units, states in (
        ("4×1024, 2,000 states", 4, 1024, 2000),
        ("8×2560, 14,000 states", 8, 2560, 14_000),
    ):
        found = time_training(name, layers, units, states, steps=options.steps, peak=peak)
        trainings.append(asdict(found))
        print(
            f"{name}: {1000 * found.step_seconds:,.0f} ms a step of {BATCH} frames, "
            f"{found.of_peak:.2f} of the peak (aim: 0.60), {found.memory_gib:.1f} GiB, "
            f"{found.paper_hours:,.0f} h for the paper's frames"
        )
    if options.out:
        write_json(
            options.out,
            {
                "machine": asdict(this_machine()),
                "features_times_real_time": features,
                "decoding_times_real_time": decoding,
                "precision": precision,
                "peak_gflops": peak / 1e9,
                "steps": options.steps,
                "trainings": trainings,
            },
        )


if __name__ == "__main__":
    main()
