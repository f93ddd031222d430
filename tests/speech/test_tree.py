import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attar.errors import DataError, FolderError
from attar.speech.phone_classes import phone_classes
from attar.speech.tree import Leaf, monophone_tree
from attar.speech.tree_building import count_contexts, grow_tree
from attar.speech.tree_files import describe_tree, read_tree, tree_checksum, write_tree

PHONES = ("SIL", "AA", "IY", "M", "N", "S")


def contexts_and_features(seed=0, frames=6000):
    """Frames of which the first position of AA sounds nasal after M and N."""
    generator = np.random.default_rng(seed)
    contexts = np.stack(
        [
            generator.integers(len(PHONES), size=frames),
            generator.integers(len(PHONES), size=frames),
            generator.integers(len(PHONES), size=frames),
            generator.integers(3, size=frames),
        ],
        axis=1,
    )
    features = generator.normal(size=(frames, 4)) + contexts[:, 1:2]
    nasal = np.isin(contexts[:, 0], [3, 4]) & (contexts[:, 1] == 1) & (contexts[:, 3] == 0)
    features[nasal] += 5
    return contexts, torch.tensor(features, dtype=torch.float32)


@pytest.fixture(scope="module")
def grown():
    contexts, features = contexts_and_features()
    return grow_tree(count_contexts(contexts, features), PHONES, states=30, least_frames=20.0)


def follow(node, left, right):
    while not isinstance(node, Leaf):
        asked = left if node.side == "left" else right
        node = node.yes if asked in node.phones else node.no
    return node.state


def test_a_monophone_tree_numbers_states_by_phone_and_position():
    tree = monophone_tree(PHONES)
    assert tree.states == 18
    assert tree.state(4, 2, 5, 1) == tree.state(0, 2, 0, 1) == 7


def test_the_first_question_is_the_one_that_matters(grown):
    root = grown.roots[PHONES.index("AA")][0]
    assert (root.side, root.name, root.phones) == ("left", "nasal", (3, 4))
    assert grown.state(3, 1, 0, 0) != grown.state(5, 1, 0, 0)


def test_silence_has_no_questions_and_all_states_are_used(grown):
    assert all(isinstance(root, Leaf) for root in grown.roots[0])
    assert grown.states == 30
    assert np.unique(grown.table).tolist() == list(range(30))


@given(left=st.integers(0, 5), phone=st.integers(0, 5), right=st.integers(0, 5))
def test_the_table_has_the_answers_of_the_questions(grown, left, phone, right):
    for position in range(3):
        state = follow(grown.roots[phone][position], left, right)
        assert grown.state(left, phone, right, position) == state


def test_leaves_have_enough_frames():
    contexts, features = contexts_and_features(frames=2000)
    tree = grow_tree(count_contexts(contexts, features), PHONES, states=500, least_frames=50.0)
    states = tree.table[tuple(contexts.T)]
    roots = {root.state for row in tree.roots for root in row if isinstance(root, Leaf)}
    counts = np.bincount(states, minlength=tree.states)
    assert all(counts[state] >= 50 for state in range(tree.states) if state not in roots)


def test_the_likelihood_of_single_gaussians_grows_with_the_tree():
    contexts, features = contexts_and_features(frames=2000)
    statistics = count_contexts(contexts, features)

    def likelihood(states):
        tree = grow_tree(statistics, PHONES, states=states, least_frames=20.0)
        own = torch.from_numpy(tree.table[tuple(contexts.T)]).long()
        total = 0.0
        for state in range(tree.states):
            variance = features[own == state].double().var(0, unbiased=False).clamp(min=0.01)
            total += -0.5 * int((own == state).sum()) * variance.log().sum().item()
        return total

    assert likelihood(18) < likelihood(19) < likelihood(24) < likelihood(36)


def test_a_tree_comes_back_from_its_file_and_a_changed_one_is_refused(grown, tmp_path):
    path = tmp_path / "tree.json"
    write_tree(grown, path)
    back = read_tree(path)
    assert back == grown
    assert tree_checksum(back) == tree_checksum(grown) != tree_checksum(monophone_tree(PHONES))
    content = json.loads(path.read_text())
    content["roots"][1][0]["phones"] = [3]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"tree\.json is not as it was written"):
        read_tree(path)
    path.write_text('{"format": "something else"}')
    with pytest.raises(DataError, match="expected 'attar phonetic tree 1'"):
        read_tree(path)
    path.write_text("no JSON")
    with pytest.raises(DataError, match="expected a tree in"):
        read_tree(path)
    with pytest.raises(FolderError, match="cannot read the tree"):
        read_tree(tmp_path / "none.json")


def test_questions_and_leaves_can_be_printed(grown):
    lines = list(describe_tree(grown))
    assert lines[0] == "6 phones, 30 tied states"
    start = lines.index("AA 1 of 3")
    assert lines[start + 1].strip() == "left: nasal (M N)?"
    assert sum(line.split()[-2:][0] == "state" for line in lines) == 30


def test_classes_without_phones_or_with_all_are_no_questions():
    classes = phone_classes(("SIL", "AA", "x"))
    assert classes == {"silence": (0,), "AA": (1,), "x": (2,)}
