import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.errors import DataError
from attar.speech.hmm import POSITIONS, Topology
from attar.speech.tree import Leaf, Question, Tree, monophone_tree
from attar.speech.utterance_graphs import utterance_graph
from attar.speech.viterbi import align

from .made_up import LEXICON, PHONES


def tree_with_contexts():
    """Each state of "b" sounds different after "o", and before silence."""
    tree = monophone_tree(PHONES)
    b, o = PHONES.index("b"), PHONES.index("o")
    fresh = itertools.count(tree.states)

    def ask(leaf):
        before_silence = Question("right", "silence", (0,), Leaf(next(fresh)), leaf)
        return Question("left", "o", (o,), Leaf(next(fresh)), before_silence)

    roots = [list(row) for row in tree.roots]
    roots[b] = [ask(leaf) for leaf in roots[b]]
    return Tree(PHONES, tuple(map(tuple, roots)))


TREE = tree_with_contexts()


def ways_to_say(words):
    """All sequences of phones: each pronunciation, with and without silence anywhere."""
    if not words:
        return [[0]]
    pause = [[], [0]]
    parts = [pause]
    for word in words:
        spoken = LEXICON.pronunciations[word]
        parts += [[[PHONES.index(phone) for phone in each] for each in spoken], pause]
    return [list(itertools.chain(*choice)) for choice in itertools.product(*parts)]


def states_of(phones):
    """The tied state of each HMM state of these phones."""
    neighbors = [0, *phones, 0]
    return [
        TREE.state(left, phone, right, position)
        for left, phone, right in zip(neighbors, phones, neighbors[2:], strict=False)
        for position in range(POSITIONS)
    ]


def best_by_trying_all(words, log_likelihoods, topology):
    """Try each way to say the words and each way to spread its states over the frames."""
    frames = len(log_likelihoods)
    best = (-math.inf, None)
    for phones in ways_to_say(words):
        states = states_of(phones)
        for cuts in itertools.combinations(range(1, frames), len(states) - 1):
            edges = [0, *cuts, frames]
            score, path = 0.0, []
            for state, start, end in zip(states, edges, edges[1:], strict=False):
                score += float(log_likelihoods[start:end, state].sum())
                score += (end - start - 1) * float(topology.stay[state])
                score += float(topology.leave[state])
                path += [state] * (end - start)
            best = max(best, (score, path), key=lambda each: each[0])
    return best


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(st.lists(st.sampled_from(["A", "O", "BA"]), max_size=2), st.integers(0, 3)),
        min_size=1,
        max_size=4,
    ),
    st.integers(0, 1000),
)
def test_the_best_path_is_that_found_by_trying_all(said, seed):
    generator = np.random.default_rng(seed)
    graphs = [utterance_graph(words, LEXICON) for words, _ in said]
    topology = Topology(generator.uniform(0.1, 0.9, TREE.states).astype(np.float32))
    matrices = [
        generator.normal(size=(graph.shortest + more, TREE.states)).astype(np.float32)
        for graph, (_, more) in zip(graphs, said, strict=True)
    ]
    paths = align(graphs, matrices, tree=TREE, topology=topology)
    for (words, _), matrix, path in zip(said, matrices, paths, strict=True):
        score, states = best_by_trying_all(words, matrix, topology)
        assert path.log_likelihood == pytest.approx(score, abs=1e-3)
        assert path.states.tolist() == states


def test_more_utterances_than_go_forward_together_give_what_each_gives_alone():
    generator = np.random.default_rng(0)
    said = [["A"], ["OB", "BA"], [], ["O"]] * 20
    graphs = [utterance_graph(words, LEXICON) for words in said]
    matrices = [
        generator.normal(size=(40 + index % 7, TREE.states)).astype(np.float32)
        for index in range(len(said))
    ]
    topology = Topology.uniform(TREE.states, 0.6)
    together = align(graphs, matrices, tree=TREE, topology=topology)
    for graph, matrix, path in zip(graphs, matrices, together, strict=True):
        (alone,) = align([graph], [matrix], tree=TREE, topology=topology)
        assert path.log_likelihood == pytest.approx(alone.log_likelihood)
        assert path.graph_states.tolist() == alone.graph_states.tolist()


def test_too_few_frames_are_refused_with_the_number_needed():
    graph = utterance_graph(["OB", "A"], LEXICON)
    with pytest.raises(DataError, match="at least 9 frames in utterance 0, got 8"):
        align(
            [graph],
            [np.zeros((8, TREE.states), dtype=np.float32)],
            tree=TREE,
            topology=Topology.uniform(TREE.states),
        )


def test_a_word_without_a_pronunciation_is_named():
    with pytest.raises(DataError, match="got ZEBRA"):
        utterance_graph(["A", "ZEBRA"], LEXICON)


def test_the_plain_path_has_first_pronunciations_and_silence_at_both_ends():
    graph = utterance_graph(["BA", "O"], LEXICON)
    phones = graph.phone[graph.plain_path[::POSITIONS]]
    assert [PHONES[phone] for phone in phones] == ["SIL", "b", "a", "o", "SIL"]
    left, right = graph.left[graph.plain_path[3]], graph.right[graph.plain_path[9]]
    assert (PHONES[left], PHONES[right]) == ("SIL", "SIL")  # of the first b, and of the last o


@pytest.mark.parametrize(("words", "shortest"), [((), 3), (("A",), 3), (("BA", "OB"), 12)])
def test_the_shortest_way_has_a_frame_for_each_state_and_no_pause(words, shortest):
    assert utterance_graph(words, LEXICON).shortest == shortest


def test_the_topology_is_estimated_from_visits():
    states = np.array([0, 0, 0, 1, 1, 0])
    entered = np.array([True, False, False, True, False, True])
    topology = Topology.estimate(states, entered, count=3)
    # One frame more that stays and one that leaves: 4 frames and 2 visits are 1 - 3/6.
    np.testing.assert_allclose(topology.self_loops, [1 - 3 / 6, 1 - 2 / 4, 0.5])
    np.testing.assert_allclose(np.exp(topology.stay) + np.exp(topology.leave), 1.0, rtol=1e-6)
