import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attar.cohorts import Cohort
from attar.errors import AttarError, DataError
from attar.models import acoustic_dnn
from attar.speech.decoding import Decoder, DecodingSettings
from attar.speech.graphs import build_graph
from attar.speech.packed import PackedFrames
from attar.speech.recognition import (
    check_known,
    compute_log_posteriors,
    estimate_log_priors,
    recognize,
    time_words,
    to_log_likelihoods,
    tune,
)
from speech.toy import BIGRAM, LEXICON, states_of, topology, triphone_tree

pytest.importorskip("kaldi_decoder", reason="needs attar[speech]")
TREE = triphone_tree()
GRAPH = build_graph(LEXICON, BIGRAM, TREE, topology(TREE))


def say(*phones, frames=2):
    """Return posteriors of someone who says these phones, clearly, and the states."""
    states = states_of(TREE, phones, frames_each=frames)
    posteriors = torch.full((len(states), TREE.states), 0.1 / (TREE.states - 1))
    posteriors[torch.arange(len(states)), torch.tensor(states)] = 0.9
    return posteriors, states


def decode(posteriors):
    settings = DecodingSettings(acoustic_scale=1.0)
    return Decoder(GRAPH, settings).decode(posteriors.log().numpy())


def test_words_get_times_and_confidence():
    posteriors, states = say("SIL", "c", "a", "b", "SIL", "e", "b")
    decoded = decode(posteriors)
    assert decoded.words == ("CAB", "A")
    assert decoded.states.tolist() == states
    first, second = time_words(decoded, posteriors, TREE, LEXICON)
    assert (first.word, first.start_seconds, first.end_seconds) == ("CAB", 0.06, 0.24)
    assert (second.word, second.start_seconds, second.end_seconds) == ("A", 0.30, 0.42)
    assert 0.9 <= first.confidence < 1


def test_one_phone_twice_is_two_words():
    posteriors, _ = say("c", "c", "c")
    timed = time_words(decode(posteriors), posteriors, TREE, LEXICON)
    assert [word.word for word in timed] == ["C", "C", "C"]
    assert [word.start_seconds for word in timed] == pytest.approx([0.0, 0.06, 0.12])


def test_a_word_that_is_cut_off_still_has_its_frames():
    posteriors, states = say("c", "SIL", "c", "a")  # of CAB there is no end
    cut = posteriors[:-2], states[:-2]
    decoded = decode(cut[0])
    timed = time_words(decoded, cut[0], TREE, LEXICON)
    assert len(timed) >= 1
    assert timed[-1].end_seconds <= 0.01 * len(cut[1])


@given(seed=st.integers(0, 1000), frames=st.integers(1, 25))
def test_any_path_has_times_within_the_recording(seed, frames):
    generator = torch.Generator().manual_seed(seed)
    posteriors = torch.softmax(3 * torch.randn(frames, TREE.states, generator=generator), -1)
    end = 0.0
    for word in time_words(decode(posteriors), posteriors, TREE, LEXICON):
        assert end <= word.start_seconds + 1e-9
        assert word.start_seconds < word.end_seconds
        assert 0 < word.confidence <= 1
        end = word.end_seconds
    assert end <= 0.01 * frames + 1e-9


def test_confidence_is_low_where_posteriors_are_spread():
    posteriors, _ = say("c", "a", "b")
    unsure = 0.5 * posteriors + 0.5 / TREE.states
    clear, spread = (
        time_words(decode(each), each, TREE, LEXICON)[0].confidence for each in (posteriors, unsure)
    )
    assert spread < clear - 0.2


def test_a_path_of_another_lexicon_is_refused():
    posteriors, _ = say("c", "a", "b")
    decoded = decode(posteriors)
    other = type(LEXICON)({**LEXICON.pronunciations, "CAB": (("c", "b"),)})
    with pytest.raises(AttarError, match="is it another lexicon"):
        time_words(decoded, posteriors, TREE, other)


def test_tuning_finds_the_weights_of_fewest_errors():
    said = [say("c", "a", "b")[0].log().numpy() / 8, say("c", "c")[0].log().numpy() / 8]
    references = [("CAB",), ("C", "C")]
    tuning = tune(
        GRAPH, said, references, acoustic_scales=[0.5, 4.0], word_penalties=[30.0, 0.0, -30.0]
    )
    errors = [step.errors.errors for step in tuning.steps]
    assert len(errors) == 6
    assert min(errors) == 0 < errors[0]
    chosen = recognize(GRAPH, tuning.settings, said)
    assert [each.words for each in chosen] == references


def test_posteriors_of_a_cohort_are_the_arithmetic_mean():
    packed = PackedFrames([torch.randn(9, 4), torch.randn(5, 4)], left=2, right=1)
    networks = [
        acoustic_dnn(3, 1, 8, inputs=16, generator=torch.Generator().manual_seed(seed))
        for seed in range(3)
    ]
    each = torch.stack([compute_log_posteriors(network, packed) for network in networks])
    together = compute_log_posteriors(Cohort(networks), packed)
    torch.testing.assert_close(together.exp(), each.exp().mean(0))
    assert together.shape == (14, 3)


def test_likelihoods_are_posteriors_over_priors():
    priors = estimate_log_priors(torch.tensor([0, 0, 1, -1, 0]), 3)
    assert np.exp(priors).sum() == pytest.approx(1.0)
    assert np.exp(priors[0] - priors[1]) == pytest.approx(3.0)
    assert np.isfinite(priors[2])  # never met
    log_posteriors = torch.log_softmax(torch.randn(5, 3), -1)
    first, second = to_log_likelihoods(log_posteriors, priors, torch.tensor([0, 2, 5]))
    assert (first.shape, second.shape) == ((2, 3), (3, 3))
    np.testing.assert_allclose(second, log_posteriors[2:].numpy() - priors)


def test_unknown_words_are_named():
    check_known(["A", "CAB"], LEXICON, "text")
    with pytest.raises(DataError, match=r"lexicon in text, got D, E; add"):
        check_known(["A", "D", "E", "D"], LEXICON, "text")
