"""How well an acoustic network does: frame accuracy, and word errors with weights of its own."""

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from attar.errors import FolderError
from attar.files import make_folder
from attar.recipes.speech_data import Part, Prepared
from attar.recipes.speech_training import doing
from attar.recipes.stages import Progress
from attar.records import read_sealed_json, write_sealed_json
from attar.speech.decoding import DecodingSettings
from attar.speech.graphs import Graph
from attar.speech.recognition import (
    compute_log_posteriors,
    recognize,
    to_log_likelihoods,
    tune,
)
from attar.speech.recognition import score as count
from attar.speech.scoring import (
    WordErrors,
    bootstrap_interval,
    interval_over_speakers,
    pool,
    pool_by_speaker,
)
from attar.teachers.fingerprints import hash_network

SCALES = (0.07, 0.1, 0.14, 0.2, 0.3, 0.45)  # acoustic scales that are tried
_MOST_TUNED = 120  # held-out utterances on which they are tried
PENALTIES = (0.0, -1.5, -3.0, 2.0)  # word penalties, in nats, each with each scale


@dataclass(frozen=True, slots=True)
class Score:
    """What a network does on speakers that it never heard."""

    name: str
    held_out_accuracy: float  # of frames, a fraction
    test_accuracy: float
    test: WordErrors
    interval_over_utterances: tuple[float, float]  # of the test WER, 95 %
    by_speaker: Mapping[str, WordErrors]
    settings: DecodingSettings

    @classmethod
    def from_json(cls, path: Path) -> "Score":
        """Read what an earlier run left.

        Raises:
            FolderError: If the file is damaged.
        """
        content = read_sealed_json(path)
        try:
            content.pop("made_of")
            content["test"] = WordErrors(**content["test"])
            content["by_speaker"] = {
                name: WordErrors(**each) for name, each in content["by_speaker"].items()
            }
            content["interval_over_utterances"] = tuple(content["interval_over_utterances"])
            content["settings"] = DecodingSettings(**content["settings"])
            return cls(**content)
        except (KeyError, TypeError, AttributeError) as error:
            raise FolderError(f"{path} is damaged ({error}); remove it to score again") from error

    @property
    def interval_over_speakers(self) -> tuple[float, float] | None:
        """Of the test WER of other speakers, 95 %; None if the test has too few of them."""
        return interval_over_speakers(self.by_speaker)

    def to_json(self) -> dict[str, Any]:
        """Give what a result file holds of it."""
        return asdict(self) | {
            "interval_over_speakers": self.interval_over_speakers,
            "test_wer": self.test.wer,
        }


@dataclass(frozen=True)
class Scorer:
    """Scores networks on held-out and test speakers."""

    prepared: Prepared
    graph: Graph
    folder: Path

    @cached_property
    def _made_of(self) -> list[object]:
        """What decides a score beside the network."""
        parts = (self.prepared.held_out, self.prepared.test)
        return [
            SCALES, PENALTIES, _MOST_TUNED, vars(self.graph), self.prepared.log_priors,
            *((part.packed.frames, part.packed.offsets) for part in parts),
            *((part.states, part.references, part.speakers) for part in parts),
        ]  # fmt: skip

    def score(self, name: str, network: nn.Module) -> Generator[Progress, None, Score]:
        """Score a network, decoding with weights that are chosen for it on held-out speakers.

        The score is kept in a file, from which the next call with the same network, graph and
        speakers takes it.

        Args:
            name: Of the file.
            network: A network, or a cohort, whose members' mean counts.

        Yields:
            What is being done.
        """
        path = make_folder(self.folder) / f"{name}.json"
        made_of = hash_network(network, *self._made_of)
        if path.exists() and read_sealed_json(path).get("made_of") == made_of:
            return Score.from_json(path)
        yield doing(f"scoring {name.replace('-', ' ')}", 1.0)
        held_out, test = self.prepared.held_out, self.prepared.test
        of_held_out = compute_log_posteriors(network, held_out.packed)
        yield doing(f"choosing weights for {name.replace('-', ' ')}", 1.0)
        chosen = self._choose(of_held_out)
        yield doing(f"decoding with {name.replace('-', ' ')}", 1.0)
        of_test = compute_log_posteriors(network, test.packed)
        decoded = recognize(self.graph, chosen, self._likelihoods(test, of_test))
        errors = count(test.references, decoded)
        found = Score(
            name=name,
            held_out_accuracy=frame_accuracy(of_held_out, held_out),
            test_accuracy=frame_accuracy(of_test, test),
            test=pool(errors),
            interval_over_utterances=bootstrap_interval(errors, generator=np.random.default_rng(0)),
            by_speaker=pool_by_speaker(errors, test.speakers),
            settings=chosen,
        )
        write_sealed_json(path, json.loads(json.dumps(asdict(found))) | {"made_of": made_of})
        return found

    def _choose(self, log_posteriors: Float[Tensor, "frames states"]) -> DecodingSettings:
        part = self.prepared.held_out
        step = -(-len(part.utterances) // _MOST_TUNED)  # rounded up
        return tune(
            self.graph, self._likelihoods(part, log_posteriors)[::step], part.references[::step],
            acoustic_scales=SCALES, word_penalties=PENALTIES,
        ).settings  # fmt: skip

    def _likelihoods(
        self, part: Part, log_posteriors: Float[Tensor, "frames states"]
    ) -> Sequence[NDArray[np.float32]]:
        """Turn posteriors into likelihoods, an array an utterance."""
        return to_log_likelihoods(log_posteriors, self.prepared.log_priors, part.packed.offsets)


def frame_accuracy(log_posteriors: Float[Tensor, "frames states"], part: Part) -> float:
    """Return the fraction of frames whose most probable state is the aligned one."""
    right = log_posteriors.argmax(dim=1) == part.states
    return float(right.double().mean())
