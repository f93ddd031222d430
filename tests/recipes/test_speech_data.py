"""The alignment that speech runs start from belongs to one corpus."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from attar.errors import DataError
from attar.recipes import speech_data
from attar.recipes.speech_data import make_part
from attar.speech.alignment import Alignment
from attar.speech.corpora import read_speech_data, write_features
from attar.speech.utterances import Corpus, Utterance
from recipes.voices import tiny_config


def say(id, frames):
    return Utterance(id, "somebody", ("A",), torch.zeros(frames, 3))


def align(**frames):
    return Alignment.join({id: np.zeros(count, np.int16) for id, count in frames.items()})


def test_an_alignment_of_other_lengths_is_refused():
    corpus = Corpus((say("a", 10), say("b", 20)))
    with pytest.raises(DataError, match=r"expected 20 frames in a, as its alignment has, got 10"):
        make_part(corpus, align(a=20, b=10))  # as many frames in all
    assert [each.frames for each in make_part(corpus, align(a=10, b=20)).utterances] == [10, 20]


def test_an_alignment_of_other_utterances_is_refused():
    corpus = Corpus((say("a", 10), say("b", 20)))
    for other in (align(b=20, a=10), align(a=10, c=20)):
        with pytest.raises(DataError, match="other utterances than its alignment"):
            make_part(corpus, other)
    assert len(make_part(corpus, align(b=20)).utterances) == 1  # the other one was left out


def test_the_utterances_of_an_alignment_are_looked_up_once():
    class Ids(tuple):
        walks = 0

        def __iter__(self):
            Ids.walks += 1
            return super().__iter__()

    corpus = Corpus(tuple(say(f"u{number:03}", 1) for number in range(100)))
    joined = align(**{each.id: 1 for each in corpus.utterances})
    make_part(corpus, replace(joined, ids=Ids(joined.ids)))
    assert Ids.walks < 5  # not once for each utterance


def test_a_corpus_that_was_made_again_is_refused(voices, tmp_path):
    config = tiny_config(tmp_path / "voices", align_epochs=0)
    shutil.copytree(voices, tmp_path / "voices")
    for _ in speech_data.prepare(config, tmp_path / "run"):
        pass
    assert speech_data.read_prepared(config, tmp_path / "run").tree.states > 0
    part = read_speech_data(tmp_path / "voices").test
    louder = {each.id: each.features + torch.rand(each.features.shape) for each in part.utterances}
    write_features(tmp_path / "voices" / "test", louder, kind="made up")  # the same ids and lengths
    with pytest.raises(DataError, match=r"expected the corpus that .*test.* was made from, got"):
        speech_data.read_prepared(config, tmp_path / "run")
    with pytest.raises(DataError, match="start again in another folder"):
        list(speech_data.prepare(config, tmp_path / "run"))


def test_a_stopped_alignment_does_not_go_on_with_another_corpus(voices, tmp_path):
    config = tiny_config(tmp_path / "voices", align_epochs=1)
    shutil.copytree(voices, tmp_path / "voices")
    for now in speech_data.prepare(config, tmp_path / "run"):
        if str(now).startswith("aligning the train part with the network"):
            break
    kept = tmp_path / "run" / "alignment"
    (first,) = kept.glob("network-*.safetensors")
    part = read_speech_data(tmp_path / "voices").train
    other = {each.id: each.features.flip(0) for each in part.utterances}
    write_features(tmp_path / "voices" / "train", other, kind="made up")
    for _ in speech_data.prepare(config, tmp_path / "run"):
        pass
    assert len(list(kept.glob("network-*.safetensors"))) == 2
    assert first.exists()
