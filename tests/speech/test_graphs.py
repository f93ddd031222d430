import math

import numpy as np
import pytest

from attar.errors import AttarError, DataError, FolderError
from attar.speech.graphs import build_graph, cached_graph, read_graph
from attar.speech.language_models import LanguageModel
from attar.speech.tree import monophone_tree
from speech.toy import (
    BIGRAM,
    LEXICON,
    SILENCE_PROBABILITY,
    UNIGRAM,
    search_all,
    states_of,
    topology,
    triphone_tree,
)

pytest.importorskip("kaldifst", reason="needs attar[speech]")
pytest.importorskip("kaldi_decoder", reason="needs attar[speech]")
from attar.speech.decoding import Decoder, DecodingSettings


def make_graph(tree, model=BIGRAM):
    return build_graph(
        LEXICON, model, tree, topology(tree), silence_probability=SILENCE_PROBABILITY
    )


@pytest.mark.parametrize("model", [UNIGRAM, BIGRAM], ids=["unigram", "bigram"])
@pytest.mark.parametrize(
    "tree", [monophone_tree(LEXICON.phones), triphone_tree()], ids=["monophones", "triphones"]
)
def test_best_path_is_that_of_an_exhaustive_search(model, tree):
    decoder = Decoder(make_graph(tree, model), DecodingSettings(acoustic_scale=1.0, beam=1e4))
    generator = np.random.default_rng(0)
    found = set()
    for phones in (["c"], ["c", "SIL"], ["SIL", "e", "b"], ["c", "a", "b"], ["a", "SIL", "c"]):
        states = states_of(tree, phones)
        scores = generator.normal(size=(len(states), tree.states)).astype(np.float32)
        scores[np.arange(len(states)), states] += 2.0
        cost, words = search_all(scores, tree, model, longest=3)
        decoded = decoder.decode(scores)
        assert decoded.cost == pytest.approx(cost, abs=2e-3)
        assert decoded.words == words
        assert decoded.is_complete
        found.add(words)
    assert len(found) > 2


def test_word_penalty_counts_once_a_word():
    tree = triphone_tree()
    scores = np.random.default_rng(1).normal(size=(9, tree.states)).astype(np.float32)
    found = []
    for penalty in (0.0, -8.0):
        settings = DecodingSettings(acoustic_scale=1.0, word_penalty=penalty, beam=1e4)
        decoded = Decoder(make_graph(tree), settings).decode(scores)
        cost, words = search_all(scores, tree, BIGRAM, longest=3, word_penalty=penalty)
        assert decoded.words == words
        assert decoded.cost == pytest.approx(cost, abs=2e-3)
        found.append(len(words))
    assert found[1] > found[0]


def test_path_has_a_state_for_each_frame():
    tree = triphone_tree()
    scores = np.random.default_rng(2).normal(size=(20, tree.states)).astype(np.float32)
    decoded = Decoder(make_graph(tree), DecodingSettings(acoustic_scale=1.0)).decode(scores)
    assert decoded.states.shape == (20,)
    assert decoded.states.min() >= 0


def test_words_of_one_side_alone_are_left_out():
    tree = monophone_tree(LEXICON.phones)
    some = LanguageModel({"A": -1.0, "UNSEEN": -0.5, "</s>": -1.0}, {}, {})
    assert make_graph(tree, some).words == ("A",)
    with pytest.raises(DataError, match="in common, got none"):
        make_graph(tree, LanguageModel({"a": -1.0, "</s>": -1.0}, {}, {}))


def test_silence_probability_is_checked():
    tree = monophone_tree(LEXICON.phones)
    with pytest.raises(AttarError, match="silence_probability"):
        build_graph(LEXICON, UNIGRAM, tree, topology(tree), silence_probability=1.0)


def test_graph_is_cached_by_content(tmp_path):
    tree = monophone_tree(LEXICON.phones)
    parts = LEXICON, BIGRAM, tree, topology(tree)
    first = cached_graph(tmp_path, *parts)
    (path,) = tmp_path.iterdir()
    again = cached_graph(tmp_path, *parts)
    assert again.words == first.words
    np.testing.assert_array_equal(again.costs, first.costs)
    cached_graph(tmp_path, LEXICON, UNIGRAM, tree, topology(tree))
    cached_graph(tmp_path, *parts, silence_probability=0.2)
    assert len(list(tmp_path.iterdir())) == 3
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    for damaged in (content, content[:-9]):
        path.write_bytes(damaged)
        with pytest.raises(FolderError, match="is damaged"):
            read_graph(path)


def test_costs_of_a_state_sum_to_one_over_staying_and_leaving():
    tree = monophone_tree(LEXICON.phones)
    graph, shape = make_graph(tree), topology(tree)
    loops = graph.sources == graph.targets
    for cost, label in zip(graph.costs[loops], graph.states[loops], strict=True):
        assert math.exp(-cost) == pytest.approx(float(shape.self_loops[label - 1]))
