"""What the tests of several recipes share."""

import pytest

from attar.recipes import speech
from recipes.voices import tiny_config, write_corpus


@pytest.fixture(scope="session")
def voices(tmp_path_factory):
    """Write a corpus of made-up voices."""
    folder = tmp_path_factory.mktemp("corpus") / "voices"
    write_corpus(folder)
    return folder


@pytest.fixture(scope="session")
def speech_run(voices, tmp_path_factory):
    """Run the speech experiment in small."""
    pytest.importorskip("kaldi_decoder", reason="needs attar[speech]")
    pytest.importorskip("jiwer", reason="needs attar[speech]")
    folder = tmp_path_factory.mktemp("speech-run")
    for _ in speech.run(tiny_config(voices), folder, command="attar reproduce speech"):
        pass
    return folder
