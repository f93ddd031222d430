import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from attar.errors import AttarError, FolderError
from attar.recipes import speech
from attar.recipes.speech_data import read_prepared
from attar.recipes.speech_scoring import Scorer
from attar.recipes.speech_systems import make_graph
from attar.records import ExperimentResult
from attar.speech.corpora import read_speech_data
from attar.speech.packed import PackedFrames
from attar.speech.recognizer import Recognizer
from attar.speech.tree_files import describe_tree, read_tree
from attar.targets import SoftTargets, Sparse
from recipes.voices import tiny_config

pytest.importorskip("kaldi_decoder", reason="needs attar[speech]")
pytest.importorskip("jiwer", reason="needs attar[speech]")
pytestmark = pytest.mark.slow  # several networks are trained


def run(folder, config):
    return [str(now) for now in speech.run(config, folder, command="attar reproduce speech")]


def test_result_has_table_1(speech_run):
    result = ExperimentResult.read(speech_run / "speech.json")
    assert [row.paper for row in result.rows] == [58.9, 61.1, 60.8, 10.9, 10.7, 10.7]
    baseline, ensemble, distilled, *wers = result.rows
    assert [row.seeds for row in result.rows] == [2, 1, 1] * 2
    assert min(baseline.mean, ensemble.mean, distilled.mean) > 30  # 30 states: chance is 3 %
    assert max(row.mean for row in wers) < 90
    details = result.details
    assert set(details["baselines"][0]["by_speaker"]) == {"t0", "t1"}
    assert details["corpus"]["held out"]["speakers"] == 1
    assert set(details["held-out frame accuracy by temperature"]) == {"1", "4"}
    low, high = details["distilled"]["interval_over_utterances"]
    assert low <= details["distilled"]["test_wer"] <= high


def test_two_speakers_are_too_few_for_an_interval_over_speakers(speech_run):
    details = ExperimentResult.read(speech_run / "speech.json").details
    assert details["distilled"]["interval_over_speakers"] is None
    notes = "\n".join(details["notes"])
    assert "none for other speakers, as 2 are too few to tell" in notes
    assert "one recording alone to normalize over" in notes


def test_every_network_decodes_with_weights_of_its_own(speech_run, voices, tmp_path):
    prepared = read_prepared(tiny_config(voices), speech_run)
    scorer = Scorer(prepared, make_graph(prepared, tmp_path), tmp_path / "scores")
    network = nn.Linear(prepared.train.packed.window_dims, prepared.tree.states)
    said = [str(now) for now in scorer.score("baseline-1", network)]
    assert "choosing weights for baseline 1" in said


def test_a_score_is_kept_for_its_network_graph_and_speakers(speech_run, voices, tmp_path):
    prepared = read_prepared(tiny_config(voices), speech_run)
    graph = make_graph(prepared, tmp_path)
    network = nn.Linear(prepared.train.packed.window_dims, prepared.tree.states)

    def score(prepared, graph, network):
        return list(Scorer(prepared, graph, tmp_path / "scores").score("one", network))

    assert score(prepared, graph, network)
    assert score(prepared, graph, network) == []
    dearer = replace(graph, costs=graph.costs + np.float32(0.5) * (graph.outputs > 0))
    assert score(prepared, dearer, network)
    one = prepared.test.utterances[0]
    others = replace(
        prepared.test, utterances=(replace(one, words=("NO",) * 9), *prepared.test.utterances[1:])
    )
    assert score(replace(prepared, test=others), dearer, network)
    assert score(replace(prepared, held_out=others), dearer, network)
    assert score(replace(prepared, held_out=others), dearer, network) == []


def test_the_tree_can_be_read(speech_run):
    tree = read_tree(speech_run / "alignment" / "tree.json")
    text = (speech_run / "alignment" / "tree.txt").read_text(encoding="utf-8")
    assert text.splitlines() == list(describe_tree(tree))


def test_soft_targets_are_sparse_and_for_each_view(speech_run):
    store = SoftTargets.open(speech_run / "soft-targets")
    assert store.plan.encoding == Sparse(k=5)
    assert [view.number for view in store.plan.views] == [1]


def test_a_finished_run_is_not_run_again(speech_run, voices):
    path = speech_run / "speech.json"
    before = path.stat().st_mtime_ns
    assert run(speech_run, tiny_config(voices)) == []
    assert path.stat().st_mtime_ns == before


def test_picture_and_recognizer_are_left(speech_run, voices):
    assert (speech_run / "utterance.png").read_bytes().startswith(b"\x89PNG")
    recognizer = Recognizer.open(speech_run / "recognizer")
    assert recognizer.filterbanks is None  # the corpus has no sound
    corpus = read_speech_data(voices)
    right = [
        [word.word for word in recognizer.recognize(PackedFrames([each.features]))]
        == list(each.words)
        for each in corpus.test.utterances
    ]
    assert any(right)


def test_each_stage_goes_on_where_a_run_was_stopped(speech_run, voices, tmp_path):
    config = tiny_config(voices)
    folder = tmp_path / "run"
    stops = ["a network to align with", "aligning the train", "2 networks", "students", "scoring"]
    for stop in [*stops, None]:
        for now in speech.run(config, folder, command="attar reproduce speech"):
            if stop is not None and str(now).startswith(stop):
                break
    ours, theirs = (ExperimentResult.read(each / "speech.json") for each in (folder, speech_run))
    assert [row.values for row in ours.rows] == [row.values for row in theirs.rows]


def test_other_settings_in_the_same_folder_are_refused(speech_run, voices):
    with pytest.raises(FolderError, match="--units 24, not 25"):
        run(speech_run, tiny_config(voices, units=25))


def test_a_damaged_score_is_named(speech_run, voices, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(speech_run, folder)
    (folder / "speech.json").unlink()
    path = folder / "scores" / "ensemble.json"
    content = json.loads(path.read_text())
    del content["interval_over_utterances"]
    path.write_text(json.dumps(content))
    with pytest.raises(FolderError, match=r"ensemble.json is damaged: .* remove it"):
        run(folder, tiny_config(voices))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"temperatures": "0.5,2"}, "temperatures of 1 or more"),
        ({"epochs": 0}, "epochs > 0"),
        ({"held_out": -1}, "held_out >= 0"),
        ({"hard_weight": -1.0}, "hard_weight >= 0"),
    ],
)
def test_wrong_options_are_refused_at_once(changes, error):
    with pytest.raises(AttarError, match=error):
        speech.Config(**changes)


def test_a_corpus_that_is_not_there_says_what_makes_it(tmp_path):
    config = speech.Config(corpus="an4", data=str(tmp_path / "none"))
    with pytest.raises(FolderError, match="attar data an4"):
        run(tmp_path / "run", config)
