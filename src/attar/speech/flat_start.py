"""From words to states: a flat start, Gaussian mixtures, and a tree, aligned again and again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from attar.errors import AttarError, check_not_negative, check_positive
from attar.progress import reporting
from attar.speech.alignment import Aligned, align_graphs, make_graphs
from attar.speech.features import add_deltas, cepstra
from attar.speech.gmm import Mixtures, single_gaussians, update_mixtures
from attar.speech.hmm import Topology
from attar.speech.lexicon import Lexicon
from attar.speech.tree import Tree, monophone_tree
from attar.speech.tree_building import count_contexts, grow_tree
from attar.speech.utterance_graphs import UtteranceGraph
from attar.speech.utterances import Corpus, Utterance

_LEAST_DEVIATION = 1e-3  # of a cepstrum, so that one that never changes stays finite
_UPDATES = 2  # of the mixtures, for each alignment


@dataclass(frozen=True, slots=True)
class AlignmentSettings:
    """How the alignment is made: how often with mixtures of 1, 2, 4 … components, and the tree."""

    monophone_passes: tuple[int, ...] = (5, 3, 3)
    triphone_passes: tuple[int, ...] = (2, 2, 2)
    states: int = 600
    cepstra: int = 0  # if above 0, features are filterbanks, and mixtures see so many cepstra
    least_frames: float = 100.0  # of a tied state that comes from a question
    least_variance: float = 0.02  # of features whose variance is 1 over all frames

    def __post_init__(self) -> None:
        """Check that there is something to do.

        Raises:
            AttarError: If not.
        """
        check_not_negative(cepstra=self.cepstra)
        for name, passes in (
            ("monophone_passes", self.monophone_passes),
            ("triphone_passes", self.triphone_passes),
        ):
            if not passes or min(passes) < 1:
                raise AttarError(f"expected {name} of 1 or more, got {passes}")
        check_positive(
            states=self.states, least_frames=self.least_frames, least_variance=self.least_variance
        )


@dataclass(frozen=True, slots=True)
class AlignmentProgress:
    """How far the alignment is."""

    stage: str
    done: int
    passes: int
    log_likelihood: float  # of a frame, in nats

    @property
    def fraction(self) -> float:
        """Of all passes."""
        return self.done / self.passes

    def __str__(self) -> str:
        """Say it in one line."""
        return (
            f"aligning, {self.stage} · pass {self.done} of {self.passes} · "
            f"{self.log_likelihood:.2f} nats a frame"
        )


@dataclass(frozen=True)
class View:
    """What mixtures see of features: these, or cepstra of filterbanks with their changes.

    Diagonal covariances suit filterbanks badly, since neighbors rise and fall together.
    """

    cepstra: int
    scale: Float[Tensor, " seen"]  # what each of them is multiplied by

    @classmethod
    def fit(cls, features: Float[Tensor, "frames dims"], count: int) -> "View":
        """Give each cepstrum and change variance 1 over these frames."""
        if not count:
            return cls(0, torch.ones(features.shape[1]))
        plain = add_deltas(cepstra(features, count=count))
        return cls(count, 1 / plain.std(0, unbiased=False).clamp(min=_LEAST_DEVIATION))

    def __call__(self, features: Float[Tensor, "frames dims"]) -> Float[Tensor, "frames seen"]:
        """Answer one utterance."""
        if not self.cepstra:
            return features
        return add_deltas(cepstra(features, count=self.cepstra)) * self.scale


@dataclass(frozen=True)
class Aligner:
    """Gaussian mixtures of tied states; they align the utterances of others, too."""

    tree: Tree
    topology: Topology
    mixtures: Mixtures
    view: View

    def score(self, utterances: Sequence[Utterance]) -> list[Float[np.ndarray, "_ states"]]:
        """Give each utterance's log-likelihoods: a `Scorer`."""
        lengths = [each.frames for each in utterances]
        seen = torch.cat([self.view(each.features) for each in utterances])
        scores = self.mixtures.log_likelihoods(seen)
        return [each.numpy() for each in scores.split(lengths)]

    def align(self, corpus: Corpus, graphs: Sequence[UtteranceGraph]) -> Aligned:
        """Align utterances."""
        return align_graphs(corpus, graphs, self.score, tree=self.tree, topology=self.topology)


def train_aligner(
    corpus: Corpus,
    lexicon: Lexicon,
    settings: AlignmentSettings,
    *,
    progress: Callable[[AlignmentProgress], None] | None = None,
) -> tuple[Aligner, Aligned]:
    """Learn from words alone which state each frame belongs to.

    At first every utterance's frames are spread evenly over the states of its words, with silence
    at both ends. Then one Gaussian for each state of each phone is fitted and all is aligned again,
    by Viterbi, in turn; with more components later. The tree is grown on that alignment, and its
    tied states go through the same.

    Args:
        corpus: Normalized features: MFCC with changes; or filterbanks, and `settings.cepstra`.
        lexicon: Pronunciations of the words.
        settings: Passes and the size of the tree.
        progress: Is told after each pass.

    Returns:
        What aligns, and the alignment of this corpus with the problems of utterances left out.

    Raises:
        DataError: If no utterance can be aligned.
    """
    kept, graphs = make_graphs(corpus, lexicon)
    passes = sum(settings.monophone_passes) + sum(settings.triphone_passes)
    done = 0
    with reporting(progress) as report:

        def told(stage: str, aligned: Aligned) -> None:
            nonlocal done
            done += 1
            report(AlignmentProgress(stage, done, passes, aligned.log_likelihood))

        training = _Training(kept, graphs, settings)
        tree = monophone_tree(lexicon.phones)
        flat = [
            graph.plain_path[np.arange(each.frames) * len(graph.plain_path) // each.frames]
            for graph, each in zip(graphs, kept.utterances, strict=True)
        ]
        _, aligned = training.run(
            tree, flat, settings.monophone_passes, lambda now: told("monophones", now)
        )
        paths = [path.graph_states for path in aligned.paths]
        tree = training.grow(paths, lexicon.phones)
        return training.run(
            tree, paths, settings.triphone_passes, lambda now: told("triphones", now)
        )


class _Training:
    """One corpus, aligned with one tree after the other."""

    def __init__(
        self,
        corpus: Corpus,
        graphs: Sequence[UtteranceGraph],
        settings: AlignmentSettings,
    ) -> None:
        self._corpus, self._graphs = corpus, graphs
        self._view = View.fit(
            torch.cat([each.features for each in corpus.utterances]), settings.cepstra
        )
        self._features = torch.cat([self._view(each.features) for each in corpus.utterances])
        self._settings = settings

    def run(
        self,
        tree: Tree,
        paths: Sequence[NDArray[np.int32]],
        passes: Sequence[int],
        told: Callable[[Aligned], None],
    ) -> tuple[Aligner, Aligned]:
        """Fit and align in turn, beginning with given paths through the graphs."""
        pdfs = [graph.pdfs(tree.table) for graph in self._graphs]
        mixtures = None
        for count in passes:
            mixtures = mixtures.split() if mixtures else None
            for _ in range(count):
                topology, mixtures = self._fit(tree, pdfs, paths, mixtures)
                aligner = Aligner(tree, topology, mixtures, self._view)
                aligned = aligner.align(self._corpus, self._graphs)
                told(aligned)
                paths = [path.graph_states for path in aligned.paths]
        return aligner, aligned

    def grow(self, paths: Sequence[NDArray[np.int32]], phones: tuple[str, ...]) -> Tree:
        """Grow the tree on the frames of each state in context."""
        rows = [
            np.stack([graph.left, graph.phone, graph.right, graph.position], axis=1)[path]
            for graph, path in zip(self._graphs, paths, strict=True)
        ]
        contexts = np.concatenate(rows).astype(np.int64)  # [frames, 4]
        return grow_tree(
            count_contexts(contexts, self._features),
            phones,
            states=self._settings.states,
            least_frames=self._settings.least_frames,
            least_variance=self._settings.least_variance,
        )

    def _fit(
        self,
        tree: Tree,
        pdfs: Sequence[NDArray[np.int32]],
        paths: Sequence[NDArray[np.int32]],
        mixtures: Mixtures | None,
    ) -> tuple[Topology, Mixtures]:
        chosen = [pdf[path] for pdf, path in zip(pdfs, paths, strict=True)]
        states = torch.from_numpy(np.concatenate(chosen).astype(np.int64))
        entered = np.concatenate([np.r_[True, path[1:] != path[:-1]] for path in paths])
        topology = Topology.estimate(states.numpy(), entered, count=tree.states)
        if mixtures is None or mixtures.means.shape[1] == 1:
            return topology, single_gaussians(
                self._features, states, count=tree.states, floor=self._settings.least_variance
            )
        for _ in range(_UPDATES):
            mixtures = update_mixtures(
                mixtures, self._features, states, floor=self._settings.least_variance
            )
        return topology, mixtures
