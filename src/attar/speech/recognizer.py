"""A recognizer in a folder: all that turns recordings into words, and nothing that runs code."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from attar.errors import AttarError, DataError, FolderError
from attar.files import make_folder
from attar.models import Dropout, acoustic_dnn
from attar.records import read_sealed_json, write_sealed_json
from attar.speech.audio import read_recording
from attar.speech.decoding import Decoder, DecodingSettings
from attar.speech.features import FilterbankSettings, log_mel, normalize
from attar.speech.graphs import Graph, read_graph, write_graph
from attar.speech.lexicon import Lexicon, read_lexicon
from attar.speech.packed import PackedFrames
from attar.speech.recognition import TimedWord, compute_log_posteriors, time_words
from attar.speech.tree import Tree
from attar.speech.tree_files import read_tree, write_tree
from attar.training import load_weights, save_weights

FORMAT, VERSION = "attar recognizer", 2
_FILE, _WEIGHTS, _GRAPH, _TREE, _LEXICON = (
    "recognizer.json", "network.safetensors", "graph.safetensors", "tree.json", "lexicon.txt",
)  # fmt: skip
_QUIETEST = 1e-4  # root mean square of a recording with anything in it: −80 dB


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was recognized in a file."""

    path: Path
    seconds: float
    words: tuple[TimedWord, ...]

    @property
    def text(self) -> str:
        """The words, in a line."""
        return " ".join(each.word for each in self.words)


@dataclass(frozen=True)
class Recognizer:
    """A network with all that makes words of its posteriors."""

    network: nn.Sequential  # as acoustic_dnn makes them
    shape: tuple[int, int, int, int]  # states, layers, units, inputs
    log_priors: tuple[float, ...]
    filterbanks: FilterbankSettings | None
    tree: Tree
    lexicon: Lexicon
    graph: Graph
    settings: DecodingSettings

    def save(self, folder: Path) -> None:
        """Write it to a folder; `docs/speech.md` says what is in there.

        Raises:
            FolderError: If the folder cannot be written.
        """
        make_folder(folder)
        save_weights(folder / _WEIGHTS, _without_dropout(self.network))
        write_graph(folder / _GRAPH, self.graph)
        write_tree(self.tree, folder / _TREE)
        self.lexicon.write(folder / _LEXICON)
        write_sealed_json(
            folder / _FILE,
            {
                "format": FORMAT,
                "version": VERSION,
                "shape": list(self.shape),
                "log_priors": list(self.log_priors),
                "filterbanks": None if self.filterbanks is None else asdict(self.filterbanks),
                "decoding": asdict(self.settings),
            },
        )

    @classmethod
    def open(cls, folder: Path) -> "Recognizer":
        """Read a recognizer that `save` wrote.

        Raises:
            FolderError: If the folder is none, or something in it is damaged.
        """
        path = folder / _FILE
        if not path.exists():
            found = f"expected a recognizer in {folder}, got no {_FILE} there"
            raise FolderError(f"{found}; `attar reproduce speech` leaves one in RUN/recognizer")
        content = read_sealed_json(path)
        try:
            if content["format"] != FORMAT or content["version"] != VERSION:
                raise ValueError(f"{content['format']} {content['version']}")
            return cls._build(folder, content)
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, AttarError):
                raise
            raise FolderError(f"{path} is no recognizer of this release ({error})") from error

    @classmethod
    def _build(cls, folder: Path, content: dict[str, Any]) -> "Recognizer":
        states, layers, units, inputs = content["shape"]
        network = acoustic_dnn(states, layers, units, inputs=inputs, generator=torch.Generator())
        load_weights(folder / _WEIGHTS, network)
        banks = content["filterbanks"]
        return cls(
            network.eval(),
            (states, layers, units, inputs),
            tuple(content["log_priors"]),
            None if banks is None else FilterbankSettings(**banks),
            read_tree(folder / _TREE),
            read_lexicon(folder / _LEXICON),
            read_graph(folder / _GRAPH),
            DecodingSettings(**content["decoding"]),
        )

    def transcribe(self, path: Path) -> Transcript:
        """Recognize the words of a recording, which is taken as one speaker's.

        Raises:
            DataError: If it has another sample rate, several channels, is empty, silent, cut off
                or no sound file.
            FolderError: If it cannot be read.
            AttarError: If the recognizer was trained on features that came without recordings.
        """
        if self.filterbanks is None:
            raise AttarError(
                "expected a recognizer that was trained on recordings, got one of ready-made "
                "features, which attar cannot compute; train with a corpus that has wav.scp"
            )
        recording = read_recording(path, sample_rate_hz=self.filterbanks.sample_rate_hz)
        loudness = float(recording.samples.square().mean().sqrt())
        if loudness < _QUIETEST:
            raise DataError(f"expected speech in {path}, got silence (loudness {loudness:.1g})")
        if len(recording.samples) < self.filterbanks.shortest_samples:
            raise DataError(
                f"expected at least {self.filterbanks.frame_length_ms:g} ms of speech in {path}, "
                f"got {1000 * recording.seconds:.0f} ms"
            )
        (features,) = normalize([log_mel(recording.samples, self.filterbanks)])
        words = self.recognize(PackedFrames([features]))
        return Transcript(path, recording.seconds, words)

    def recognize(self, packed: PackedFrames) -> tuple[TimedWord, ...]:
        """Recognize the words of an utterance's normalized features."""
        log_posteriors = compute_log_posteriors(self.network, packed)
        log_priors = np.array(self.log_priors, dtype=np.float32)
        decoded = Decoder(self.graph, self.settings).decode(log_posteriors.numpy() - log_priors)
        if not decoded.words:
            return ()
        return time_words(decoded, log_posteriors.exp(), self.tree, self.lexicon)


def _without_dropout(network: nn.Sequential) -> nn.Sequential:
    """Leave out the layers that only training has, so that the others have the same names."""
    return nn.Sequential(*(layer for layer in network if not isinstance(layer, Dropout)))
