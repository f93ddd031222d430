import json
import re

import numpy as np
import pytest
import torch

from attar.cli import main
from attar.models import acoustic_dnn
from attar.records import read_sealed_json, write_sealed_json
from attar.speech.audio import Recording, write_recording
from attar.speech.decoding import DecodingSettings
from attar.speech.features import FilterbankSettings
from attar.speech.fsdd import LEXICON
from attar.speech.graphs import build_graph
from attar.speech.hmm import Topology
from attar.speech.language_models import count_words
from attar.speech.recognizer import Recognizer
from attar.speech.tree import monophone_tree

for package in ("kaldi_decoder", "kaldi_native_fbank", "soundfile", "jiwer"):
    pytest.importorskip(package, reason="needs attar[speech]")
soundfile = pytest.importorskip("soundfile")
RATE = 8000


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Make a recognizer of digits that has learned nothing."""
    tree = monophone_tree(LEXICON.phones)
    topology = Topology.uniform(tree.states, 0.6)
    graph = build_graph(LEXICON, count_words([["ONE", "TWO"]], LEXICON.words), tree, topology)
    inputs = 26 * 40
    generator = torch.Generator().manual_seed(0)
    network = acoustic_dnn(
        tree.states, 1, 8, inputs=inputs, generator=generator, hidden_dropout=0.3
    )
    settings = DecodingSettings(acoustic_scale=1.0, word_penalty=-20.0)
    folder = tmp_path_factory.mktemp("model")
    Recognizer(
        network, (tree.states, 1, 8, inputs), (0.0,) * tree.states, FilterbankSettings(RATE),
        tree, LEXICON, graph, settings,
    ).save(folder)  # fmt: skip
    return folder


def record(path, seconds=0.6, rate=RATE, loudness=0.1):
    samples = loudness * np.random.default_rng(0).normal(size=int(seconds * rate))
    write_recording(Recording(torch.from_numpy(samples.astype(np.float32)), rate), path)
    return path


@pytest.fixture
def transcribe(capsys, shape_hints_off):
    """Make the function that runs the command, and returns its exit code, output and errors."""

    def run(*arguments):
        with pytest.raises(SystemExit) as exit_info:
            main(["transcribe", *map(str, arguments)])
        captured = capsys.readouterr()
        return exit_info.value.code or 0, captured.out, captured.err

    return run


def test_words_come_with_times_and_confidence(model, tmp_path, transcribe):
    path = record(tmp_path / "one.wav")
    code, out, _ = transcribe(model, path)
    assert code == 0
    assert f"{path}, 0.60 s: " in out
    assert "confidence" in out
    assert "times real time" in out


def test_json_has_the_same(model, tmp_path, transcribe):
    first, second = record(tmp_path / "one.wav"), record(tmp_path / "two.wav", seconds=0.4)
    _, out, _ = transcribe(model, first, second, "--json")
    one, two = map(json.loads, out.splitlines())
    assert (one["seconds"], two["file"]) == (0.6, str(second))
    assert one["text"].split() == [word["word"] for word in one["words"]]
    for word in one["words"]:
        assert 0 <= word["start_seconds"] < word["end_seconds"] <= 0.6
        assert 0 <= word["confidence"] <= 1


def test_reference_counts_word_errors(model, tmp_path, transcribe):
    path = record(tmp_path / "one.wav")
    (tmp_path / "text").write_text("one SEVEN SEVEN\n")
    code, out, _ = transcribe(model, path, "--reference", tmp_path / "text")
    assert code == 0
    assert "WER" in out
    assert "in 2 words" in out
    _, as_json, _ = transcribe(model, path, "--reference", tmp_path / "text", "--json")
    errors = json.loads(as_json)["errors"]
    assert errors.pop("reference_words") == 2
    assert f"{errors['substitutions']} substitutions, {errors['deletions']} deletions" in out
    (tmp_path / "text").write_text("one\n")  # nothing was said
    _, out, _ = transcribe(model, path, "--reference", tmp_path / "text")
    assert "insertions in 0 words" in out


def write_stereo(path):
    soundfile.write(path, 0.1 * np.random.default_rng(0).normal(size=(4000, 2)), RATE)


def cut_off(path):
    record(path)
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda path: record(path, rate=16000), "expected 8000 samples a second, got 16000"),
        (write_stereo, "expected one channel, got 2"),
        (lambda path: record(path, loudness=0.0), "got silence"),
        (lambda path: path.write_bytes(b""), "which is empty"),
        (lambda path: record(path, seconds=0), "none"),
        (lambda path: record(path, seconds=0.01), "expected at least 25 ms"),
        (cut_off, "it was cut off"),
        (lambda path: path.write_bytes(b"no sound at all"), "expected a sound file"),
        (lambda path: None, "cannot read"),
    ],
    ids=["rate", "stereo", "silence", "empty", "no samples", "short", "cut off", "text", "none"],
)
def test_a_wrong_file_is_one_line_and_code_2(model, tmp_path, transcribe, make, error):
    path = tmp_path / "bad.wav"
    make(path)
    code, _, err = transcribe(model, path)
    assert code == 2
    assert error in err
    assert str(path) in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "error"),
    [("one ELEVEN", "lexicon in .*text, one, got ELEVEN"), ("two ONE", "got none for one")],
)
def test_a_wrong_reference_is_told_before_anything_else(model, tmp_path, transcribe, line, error):
    path = record(tmp_path / "one.wav")
    (tmp_path / "text").write_text(line + "\n")
    code, out, err = transcribe(model, path, "--reference", tmp_path / "text")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert re.search(error, err)


def test_what_is_no_recognizer_is_told(model, tmp_path, transcribe):
    path = record(tmp_path / "one.wav")
    code, _, err = transcribe(tmp_path, path)
    assert code == 2
    assert "attar reproduce speech" in err
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for each in model.iterdir():
        (damaged / each.name).write_bytes(each.read_bytes())
    content = read_sealed_json(damaged / "recognizer.json")
    del content["shape"]
    write_sealed_json(damaged / "recognizer.json", content)
    code, _, err = transcribe(damaged, path)
    assert code == 2
    assert "is no recognizer of this release" in err
    content = read_sealed_json(model / "recognizer.json") | {"filterbanks": None}
    write_sealed_json(damaged / "recognizer.json", content)
    code, _, err = transcribe(damaged, path)
    assert code == 2
    assert "ready-made features" in err
