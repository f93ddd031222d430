"""From a network's posteriors to words: likelihoods, the search for weights, words with times."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from attar.errors import AttarError, DataError
from attar.losses import mean_logits
from attar.modes import evaluation_mode
from attar.speech.decoding import Decoded, Decoder, DecodingSettings
from attar.speech.graphs import Graph
from attar.speech.hmm import POSITIONS
from attar.speech.lexicon import SILENCE, Lexicon
from attar.speech.packed import PackedFrames
from attar.speech.scoring import WordErrors, count_errors, pool
from attar.speech.tree import Tree

_BATCH = 1024  # frames
_SMALLEST_COUNT = 0.5  # of a state that no frame is in

LogPosteriors = Float[Tensor, "frames states"]
Words = tuple[str, ...]


def compute_log_posteriors(network: nn.Module, packed: PackedFrames) -> LogPosteriors:
    """Run a network over all frames; a cohort answers with the arithmetic mean of its members.

    Args:
        network: Maps windows [batch, inputs] to logits [batch, states], or a cohort to
            [members, batch, states].
        packed: The frames.

    Returns:
        Log posteriors, float32.
    """
    parts = []
    with evaluation_mode(network), torch.inference_mode():
        for indices in torch.arange(len(packed)).split(_BATCH):
            logits = network(packed.windows(indices))
            if logits.ndim == 3:
                logits = mean_logits(logits, mean="arithmetic")
            parts.append(torch.log_softmax(logits.float(), dim=-1))
    return torch.cat(parts).clone()


def estimate_log_priors(
    states: Int[Tensor, " frames"], classes: int
) -> Float[NDArray[np.float32], " classes"]:
    """Return the log of how often each tied state is met in an alignment."""
    counts = torch.bincount(states[states >= 0].long(), minlength=classes).double()
    counts = counts.clamp(min=_SMALLEST_COUNT)
    priors: NDArray[np.float32] = (counts / counts.sum()).log().float().numpy()
    return priors


def to_log_likelihoods(
    log_posteriors: LogPosteriors,
    log_priors: Float[NDArray[np.float32], " states"],
    offsets: Int[Tensor, " _"],
) -> list[NDArray[np.float32]]:
    """Turn posteriors into likelihoods but for a factor a frame, and cut them into utterances.

    By Bayes: log p(frame | state) = log p(state | frame) − log p(state) + what no state changes.
    """
    scores = log_posteriors.numpy() - log_priors
    return np.split(scores, offsets[1:-1].tolist())


@dataclass(frozen=True, slots=True)
class TuningStep:
    """What weights were tried, and what came of them."""

    settings: DecodingSettings
    errors: WordErrors


@dataclass(frozen=True, slots=True)
class Tuning:
    """The weights of fewest word errors, and all that were tried."""

    settings: DecodingSettings
    steps: tuple[TuningStep, ...]


def recognize(
    graph: Graph, settings: DecodingSettings, log_likelihoods: Sequence[NDArray[np.float32]]
) -> list[Decoded]:
    """Decode utterances."""
    decoder = Decoder(graph, settings)
    return [decoder.decode(each) for each in log_likelihoods]


def score(references: Sequence[Words], decoded: Sequence[Decoded]) -> list[WordErrors]:
    """Count the word errors of each utterance."""
    return [
        count_errors(reference, each.words)
        for reference, each in zip(references, decoded, strict=True)
    ]


def tune(
    graph: Graph,
    log_likelihoods: Sequence[NDArray[np.float32]],
    references: Sequence[Words],
    *,
    acoustic_scales: Sequence[float],
    word_penalties: Sequence[float],
) -> Tuning:
    """Choose acoustic scale (one over the language model's weight) and word penalty, of all pairs.

    Args:
        graph: To decode with.
        log_likelihoods: Of held-out utterances.
        references: Their words.
        acoustic_scales: To try.
        word_penalties: To try, in nats. Of equals, the first pair stays.
    """
    steps = []
    for scale, penalty in itertools.product(acoustic_scales, word_penalties):
        settings = DecodingSettings(acoustic_scale=scale, word_penalty=penalty)
        errors = score(references, recognize(graph, settings, log_likelihoods))
        steps.append(TuningStep(settings, pool(errors)))
    best = min(steps, key=lambda step: step.errors.errors)
    return Tuning(best.settings, tuple(steps))


@dataclass(frozen=True, slots=True)
class TimedWord:
    """A word, when it was said, and how sure the network is of its sounds."""

    word: str
    start_seconds: float
    end_seconds: float
    confidence: float  # mean posterior of the word's own phones over its frames, 0 to 1


def time_words(
    decoded: Decoded,
    posteriors: Float[Tensor, "frames states"],
    tree: Tree,
    lexicon: Lexicon,
    *,
    frame_seconds: float = 0.01,
) -> tuple[TimedWord, ...]:
    """Tell when each word of a path begins and ends, and how sure the network is.

    Raises:
        AttarError: If the path's phones are no pronunciations of its words: it is of another tree
            or lexicon.
    """
    phone_of, position_of = describe_states(tree)
    runs = list(_phone_runs(phone_of[decoded.states], position_of[decoded.states]))
    spoken = [run for run in runs if tree.phones[run[0]] != SILENCE]
    lengths = _split_phones(
        [tree.phones[phone] for phone, *_ in spoken],
        decoded.words,
        lexicon,
        is_complete=decoded.is_complete,
    )
    phone_posteriors = torch.zeros(len(posteriors), len(tree.phones))
    phone_posteriors.index_add_(1, torch.from_numpy(phone_of).long(), posteriors.float())
    timed, first = [], 0
    for word, length in zip(decoded.words, lengths, strict=True):
        if not length:  # the recording ended before it
            continue
        own = spoken[first : first + length]
        frames = [(frame, phone) for phone, start, end in own for frame in range(start, end)]
        sure = torch.stack([phone_posteriors[frame, phone] for frame, phone in frames]).mean()
        timed.append(
            TimedWord(word, own[0][1] * frame_seconds, own[-1][2] * frame_seconds, float(sure))
        )
        first += length
    return tuple(timed)


def describe_states(tree: Tree) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the phone and the position of each tied state, which belongs to one of each."""
    phones, positions = np.zeros((2, tree.states), dtype=np.int64)
    for phone in range(len(tree.phones)):
        for position in range(POSITIONS):
            states = np.unique(tree.table[:, phone, :, position])
            phones[states], positions[states] = phone, position
    return phones, positions


def _phone_runs(
    phones: NDArray[np.int64], positions: NDArray[np.int64]
) -> Iterator[tuple[int, int, int]]:
    """Yield phone, first frame and end of each run of frames in one phone."""
    starts = [
        frame
        for frame, position in enumerate(positions)
        if position == 0
        and (frame == 0 or positions[frame - 1] != 0 or phones[frame] != phones[frame - 1])
    ]
    for start, end in zip(starts, [*starts[1:], len(phones)], strict=True):
        yield int(phones[start]), start, end


def _split_phones(
    phones: Sequence[str], words: Words, lexicon: Lexicon, *, is_complete: bool
) -> list[int]:
    """Return how many phones each word has, so that all are pronunciations one after the other.

    Where a recording ends within a word, that word may lack phones, or phones their word.
    """
    ways: dict[int, list[int]] = {0: []}  # phones used -> lengths of the words so far
    for place, word in enumerate(words):
        may_be_cut = not is_complete and place == len(words) - 1
        after: dict[int, list[int]] = {}
        for used, lengths in ways.items():
            for spoken in lexicon.pronunciations[word]:
                end = used + len(spoken)
                heard = tuple(phones[used:end])
                if heard == spoken or (may_be_cut and heard == spoken[: len(heard)]):
                    after.setdefault(used + len(heard), [*lengths, len(heard)])
        ways = after
    end = len(phones) if is_complete else max(ways, default=-1)
    if end not in ways:
        found = f"got the phones {' '.join(phones)} for {' '.join(words)}"
        raise AttarError(f"expected pronunciations of the words, {found}; is it another lexicon's?")
    return ways[end]


def check_known(words: Sequence[str], lexicon: Lexicon, source: str) -> None:
    """Raise `DataError`, naming them, if words of a reference are outside the lexicon."""
    unknown = lexicon.missing(words)
    if unknown:
        raise DataError(
            f"expected words of the lexicon in {source}, got {', '.join(unknown[:5])}"
            f"{', …' * (len(unknown) > 5)}; add them to lexicon.txt"
        )
