from dataclasses import replace

import numpy as np
import pytest
import torch

from attar.errors import DataError, FolderError
from attar.speech.alignment import (
    NO_PRONUNCIATION,
    TOO_SHORT,
    align_corpus,
    read_alignment,
    write_alignment,
)
from attar.speech.flat_start import AlignmentSettings, train_aligner
from attar.speech.lexicon import Lexicon
from attar.speech.tree import monophone_tree
from attar.speech.utterances import Corpus, Utterance

from .made_up import DIMS, LEXICON, PHONES, made_up_corpus

SETTINGS = AlignmentSettings(
    monophone_passes=(5, 2), triphone_passes=(2,), states=15, least_frames=30.0
)


@pytest.fixture(scope="module")
def trained():
    corpus, truth = made_up_corpus(48)
    told = []
    aligner, aligned = train_aligner(corpus, LEXICON, SETTINGS, progress=told.append)
    return corpus, truth, aligner, aligned, told


def phone_accuracy(aligned, truth):
    """Of frames, the share whose phone was found: states may shift inside a phone."""
    right = total = 0
    for utterance, graph, path in zip(
        aligned.corpus.utterances, aligned.graphs, aligned.paths, strict=True
    ):
        found = graph.phone[path.graph_states].tolist()
        right += sum(
            phone == real for phone, (real, _) in zip(found, truth[utterance.id], strict=True)
        )
        total += utterance.frames
    return right / total


def test_a_flat_start_finds_which_phone_each_frame_is(trained):
    _, truth, _, aligned, _ = trained
    assert phone_accuracy(aligned, truth) > 0.95


def test_the_tree_asks_about_what_made_the_sound_different(trained):
    tree = trained[2].tree
    b, o = PHONES.index("b"), PHONES.index("o")
    assert tree.states == 15
    assert tree.state(o, b, 0, 0) != tree.state(0, b, 0, 0)


def test_utterances_of_others_are_aligned_as_well(trained):
    aligner = trained[2]
    others, truth = made_up_corpus(8, seed=1)
    aligned = align_corpus(
        others, LEXICON, aligner.score, tree=aligner.tree, topology=aligner.topology
    )
    assert phone_accuracy(aligned, truth) > 0.95


def test_frames_become_more_probable_and_progress_ends_at_one(trained):
    told = trained[4]
    assert [now.done for now in told] == list(range(1, 10))
    assert told[-1].fraction == 1.0
    assert told[4].log_likelihood > told[0].log_likelihood
    assert str(told[0]).startswith("aligning, monophones · pass 1 of 9 · ")


def test_the_same_corpus_gives_the_same_alignment(trained):
    corpus, _, aligner, aligned, _ = trained
    again, realigned = train_aligner(corpus, LEXICON, SETTINGS)
    assert again.tree == aligner.tree
    np.testing.assert_array_equal(realigned.alignment.states, aligned.alignment.states)


def test_utterances_that_cannot_be_aligned_are_left_out_and_named(trained):
    corpus = trained[0]
    bad = (
        Utterance("short", "s", ("BA", "OB"), torch.zeros(11, DIMS)),
        Utterance("odd", "s", ("A", "ZEBRA"), torch.zeros(50, DIMS)),
    )
    aligner = trained[2]
    aligned = align_corpus(
        Corpus(corpus.utterances[:2] + bad),
        LEXICON,
        aligner.score,
        tree=aligner.tree,
        topology=aligner.topology,
    )
    assert [each.id for each in aligned.corpus.utterances] == ["u000", "u001"]
    assert [(each.utterance, each.kind) for each in aligned.corpus.problems] == [
        ("short", TOO_SHORT),
        ("odd", NO_PRONUNCIATION),
    ]
    assert str(aligned.corpus.problems[0]).endswith("expected at least 12 frames, got 11")
    with pytest.raises(DataError, match="got none, such as short: too short"):
        train_aligner(Corpus(bad), LEXICON, SETTINGS)


def test_mixtures_may_see_cepstra_of_filterbanks_that_go_together():
    corpus, truth = made_up_corpus(48)
    mixing = torch.tensor(np.random.default_rng(0).normal(size=(DIMS, 12)), dtype=torch.float32)
    mixed = Corpus(
        tuple(replace(each, features=each.features @ mixing) for each in corpus.utterances)
    )
    aligner, aligned = train_aligner(mixed, LEXICON, replace(SETTINGS, cepstra=8))
    assert aligner.mixtures.means.shape[2] == 24
    assert phone_accuracy(aligned, truth) > 0.9
    assert aligned.corpus.utterances[0].features.shape[1] == 12  # as they came


def test_an_alignment_comes_back_from_its_file_for_what_it_was_made_from(trained, tmp_path):
    _, _, aligner, aligned, _ = trained
    path = tmp_path / "alignment.safetensors"
    corpus = aligned.corpus
    made_of = {"tree": aligner.tree, "corpus": corpus, "lexicon": LEXICON}
    write_alignment(path, aligned.alignment, **made_of)
    back = read_alignment(path, **made_of)
    assert back.ids == aligned.alignment.ids
    np.testing.assert_array_equal(back.of("u003"), aligned.paths[3].states)
    with pytest.raises(DataError, match="got 'nobody'"):
        back.of("nobody")
    first, *others = corpus.utterances
    louder = replace(first, features=first.features + 0.01)
    more = Lexicon({**LEXICON.pronunciations, "AB": (("a", "b"),)})
    for what, other in (
        ("tree", monophone_tree(PHONES)),
        ("corpus", Corpus((louder, *others))),
        ("corpus", Corpus((*others, first))),
        ("corpus", Corpus((replace(first, words=("BA",)), *others))),
        ("lexicon", more),
    ):
        with pytest.raises(DataError, match=f"expected the {what} that .* was made from, got"):
            read_alignment(path, **made_of | {what: other})
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(FolderError, match="is damaged"):
        read_alignment(path, **made_of)
    path.write_bytes(content[:100])
    with pytest.raises(FolderError, match="is damaged"):
        read_alignment(path, **made_of)
    with pytest.raises(FolderError, match="none"):
        read_alignment(tmp_path / "none", **made_of)
