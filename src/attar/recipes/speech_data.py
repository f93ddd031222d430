"""What the speech experiments start from: a corpus in three parts, and the state of every frame."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor, nn

from attar.errors import DataError, FolderError
from attar.files import make_folder, write_atomically
from attar.recipes.speech_config import DataConfig
from attar.recipes.speech_corpora import SpeechCorpus, load_corpus
from attar.recipes.speech_training import NetworkShape, doing, following, make_stage
from attar.recipes.stages import Progress, WorkMeter, train_stage
from attar.records import read_sealed_json, write_sealed_json
from attar.speech.alignment import (
    Aligned,
    Alignment,
    align_corpus,
    read_alignment,
    write_alignment,
)
from attar.speech.flat_start import Aligner, AlignmentSettings, train_aligner
from attar.speech.frames import FrameSet
from attar.speech.hmm import Topology
from attar.speech.language_models import LanguageModel
from attar.speech.lexicon import Lexicon
from attar.speech.packed import PackedFrames
from attar.speech.recognition import compute_log_posteriors, estimate_log_priors
from attar.speech.tree import Tree
from attar.speech.tree_files import describe_tree, read_tree, write_tree
from attar.speech.utterances import Corpus, Problem, Utterance, count_problems
from attar.teachers.fingerprints import hash_value
from attar.training import hard_target_loss

PARTS = ("train", "held out", "test")
_CEPSTRA = 13  # that mixtures see of filterbanks
_ALIGNER_SEED = 1_000_000  # no baseline has its weights, or the alignment would favor that one


@dataclass(frozen=True)
class Part:
    """Utterances, their frames in one matrix, and the tied state of each frame."""

    utterances: tuple[Utterance, ...]
    states: Int64[Tensor, " frames"]

    @cached_property
    def packed(self) -> PackedFrames:
        """The frames."""
        return PackedFrames([each.features for each in self.utterances])

    @property
    def references(self) -> list[tuple[str, ...]]:
        """What was said in each."""
        return [each.words for each in self.utterances]

    @property
    def speakers(self) -> list[str]:
        """Who said each."""
        return [each.speaker for each in self.utterances]


@dataclass(frozen=True)
class Prepared:
    """A corpus, aligned."""

    corpus: SpeechCorpus
    tree: Tree
    topology: Topology
    train: Part
    held_out: Part
    test: Part
    problems: tuple[Problem, ...]  # utterances that were left out

    @property
    def lexicon(self) -> Lexicon:
        """How words are pronounced."""
        return self.corpus.lexicon

    @property
    def language_model(self) -> LanguageModel:
        """Of the words."""
        return self.corpus.language_model

    @cached_property
    def log_priors(self) -> Float[NDArray[np.float32], " states"]:
        """The log of how often each state is met in training."""
        return estimate_log_priors(self.train.states, self.tree.states)

    def describe(self) -> dict[str, Any]:
        """Say what it has, for a result file."""
        parts = zip(PARTS, (self.train, self.held_out, self.test), strict=True)
        return {
            "name": self.corpus.name,
            "tied states": self.tree.states,
            "features": self.train.packed.frames.shape[1],
            "left out": count_problems(self.problems),
            **{
                name: {
                    "utterances": len(part.utterances),
                    "speakers": len(set(part.speakers)),
                    "hours": len(part.states) / 360_000,
                    "words": sum(map(len, part.references)),
                }
                for name, part in parts
            },
        }


def prepare(config: DataConfig, folder: Path) -> Generator[Progress, None, Prepared]:
    """Read the corpus and align it: with Gaussian mixtures, then with a network.

    Leaves the tree, the topology and the alignments in `alignment`, from which the next call
    takes them.

    Yields:
        How far it is.
    """
    yield doing(f"reading {config.corpus}", 0.0)
    corpus = load_corpus(config)
    kept = make_folder(folder / "alignment")
    if not (kept / "final.json").exists():
        yield from _align(config, corpus, kept)
    return _open(corpus, kept)


def read_prepared(config: DataConfig, folder: Path) -> Prepared:
    """Read the corpus again, and the alignment that an earlier call of `prepare` left.

    Raises:
        FolderError: If either is not there.
    """
    return _open(load_corpus(config), folder / "alignment")


def _align(config: DataConfig, corpus: SpeechCorpus, kept: Path) -> Generator[Progress, None, None]:
    # Diagonal covariances suit cepstra better than filterbanks, whose neighbors rise together.
    cepstra = _CEPSTRA if corpus.filterbanks else 0
    settings = AlignmentSettings(states=config.states, cepstra=cepstra)
    aligner, aligned = yield from following(
        partial(train_aligner, corpus.train, corpus.lexicon, settings)
    )
    first = {"train": aligned}
    for name, part in (("held out", corpus.held_out), ("test", corpus.test)):
        first[name] = align_corpus(
            part, corpus.lexicon, aligner.score, tree=aligner.tree, topology=aligner.topology
        )
    final, topology = first, aligner.topology
    if config.align_epochs:
        final, topology = yield from _align_again(config, corpus, first, aligner, kept)
    write_tree(aligner.tree, kept / "tree.json")
    write_atomically(kept / "tree.txt", ("\n".join(describe_tree(aligner.tree)) + "\n").encode())
    parts = zip(PARTS, (corpus.train, corpus.held_out, corpus.test), strict=True)
    for name, part in parts:
        write_alignment(
            _path(kept, name), final[name].alignment,
            tree=aligner.tree, corpus=part, lexicon=corpus.lexicon,
        )  # fmt: skip
    problems = [each for name in PARTS for each in final[name].corpus.problems]
    write_sealed_json(
        kept / "final.json",
        {
            "self_loops": topology.self_loops.tolist(),
            "problems": [[each.utterance, each.kind, each.detail] for each in problems],
            "log_likelihood": {name: final[name].log_likelihood for name in PARTS},
        },
    )


def _align_again(
    config: DataConfig,
    corpus: SpeechCorpus,
    first: dict[str, Aligned],
    aligner: Aligner,
    kept: Path,
) -> Generator[Progress, None, tuple[dict[str, Aligned], Topology]]:
    """Train a network on the mixtures' alignment, and align everything with it."""
    tree = aligner.tree
    parts = {name: make_part(first[name].corpus, first[name].alignment) for name in PARTS}
    train, held_out = parts["train"], parts["held out"]
    shape = NetworkShape(
        states=tree.states, inputs=train.packed.window_dims, layers=3, units=config.align_units,
        dropout=0.1,
    )  # fmt: skip
    # Named by its data: a run that was stopped here and goes on with another corpus has no network.
    data = hash_value([corpus.train.fingerprint(), corpus.lexicon.fingerprint(), train.states])
    stage = make_stage(
        f"network-{data[:16]}", "a network to align with", lambda: shape.make(_ALIGNER_SEED),
        epochs=config.align_epochs, batch_size=256, learning_rate=0.001, seed=0,
    )  # fmt: skip
    frames, measured = (FrameSet(each.packed, each.states, classes=tree.states)
                        for each in (train, held_out))  # fmt: skip
    meter = WorkMeter(stage.work(len(frames)))
    trained = yield from train_stage(
        stage, frames, hard_target_loss, folder=kept, meter=meter,
        test_set=measured.subset(torch.arange(0, len(measured), 8)),
    )  # fmt: skip
    scorer = NetworkScorer(trained.network, estimate_log_priors(train.states, tree.states))
    final = {}
    for name in PARTS:
        yield doing(f"aligning the {name} part with the network", 1.0)
        final[name] = align_corpus(
            first[name].corpus, corpus.lexicon, scorer, tree=tree, topology=aligner.topology
        )
    return final, _estimate_topology(final["train"], tree)


@dataclass(frozen=True)
class NetworkScorer:
    """Gives log-likelihoods of tied states from a network, for an alignment."""

    network: nn.Module
    log_priors: Float[NDArray[np.float32], " states"]

    def __call__(self, utterances: Sequence[Utterance]) -> list[NDArray[np.float32]]:
        """Answer some utterances, one array each: [frames, states]."""
        packed = PackedFrames([each.features for each in utterances])
        scores = compute_log_posteriors(self.network, packed).numpy() - self.log_priors
        return np.split(scores, packed.offsets[1:-1].tolist())


def _estimate_topology(aligned: Aligned, tree: Tree) -> Topology:
    paths = [path.graph_states for path in aligned.paths]
    entered = np.concatenate([np.r_[True, path[1:] != path[:-1]] for path in paths])
    states = np.concatenate([path.states for path in aligned.paths]).astype(np.int64)
    return Topology.estimate(states, entered, count=tree.states)


def _open(corpus: SpeechCorpus, kept: Path) -> Prepared:
    """Read what `_align` left."""
    tree = read_tree(kept / "tree.json")
    content = read_sealed_json(kept / "final.json")
    try:
        topology = Topology(np.array(content["self_loops"], dtype=np.float32))
        problems = tuple(Problem(*each) for each in content["problems"])
    except (KeyError, TypeError, ValueError) as error:
        raise FolderError(f"{kept} is damaged ({error}); remove it to align again") from error
    train, held_out, test = (
        make_part(
            part,
            read_alignment(_path(kept, name), tree=tree, corpus=part, lexicon=corpus.lexicon),
        )
        for name, part in zip(PARTS, (corpus.train, corpus.held_out, corpus.test), strict=True)
    )
    left_out = tuple(dict.fromkeys(corpus.problems + problems))  # some stand in both
    return Prepared(corpus, tree, topology, train, held_out, test, left_out)


def make_part(corpus: Corpus, alignment: Alignment) -> Part:
    """Join an alignment with the utterances that it has; others were left out.

    Raises:
        DataError: If the corpus lacks one of them, has them in another order, or of another length.
    """
    aligned = set(alignment.ids)
    kept = [each for each in corpus.utterances if each.id in aligned]
    if [each.id for each in kept] != list(alignment.ids):
        raise DataError("the corpus has other utterances than its alignment; is it another one?")
    for each, frames in zip(kept, np.diff(alignment.offsets).tolist(), strict=True):
        if each.frames != frames:
            raise DataError(
                f"expected {frames} frames in {each.id}, as its alignment has, got {each.frames}; "
                "is the alignment of another corpus?"
            )
    states = torch.from_numpy(alignment.states.astype(np.int64))
    return Part(tuple(kept), states)


def _path(kept: Path, name: str) -> Path:
    return kept / f"{name.replace(' ', '-')}.safetensors"
