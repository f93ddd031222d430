import json
import shutil
from dataclasses import replace

import pytest

from attar.errors import AttarError, FolderError
from attar.recipes import speech
from attar.records import ExperimentResult
from attar.targets import SoftTargets, Sparse
from recipes.voices import write_corpus

pytest.importorskip("kaldi_decoder", reason="needs attar[speech]")
pytest.importorskip("jiwer", reason="needs attar[speech]")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus") / "voices"
    write_corpus(folder)
    return folder


def make_config(corpus, **changes):
    config = speech.Config(
        corpus=str(corpus), held_out=1, states=30, align_units=16, align_epochs=2, seeds=2,
        layers=1, units=24, epochs=6, batch_size=64, learning_rate=0.01, views=1, masked_frames=0,
        masked_band=0, dropout=0.0, shift=0.1, temperatures="1,4", k=5,
    )  # fmt: skip
    return replace(config, **changes)


def run(folder, config):
    return [str(now) for now in speech.run(config, folder, command="attar reproduce speech")]


@pytest.fixture(scope="module")
def finished(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    run(folder, make_config(corpus))
    return folder


def test_result_has_table_1(finished):
    result = ExperimentResult.read(finished / "speech.json")
    assert [row.paper for row in result.rows] == [58.9, 61.1, 60.8, 10.9, 10.7, 10.7]
    baseline, ensemble, distilled, *wers = result.rows
    assert [row.seeds for row in result.rows] == [2, 1, 1] * 2
    assert min(baseline.mean, ensemble.mean, distilled.mean) > 40  # 30 states: chance is 3 %
    assert max(row.mean for row in wers) < 60
    details = result.details
    assert set(details["baselines"][0]["by_speaker"]) == {"t0", "t1"}
    assert details["corpus"]["held out"]["speakers"] == 1
    assert set(details["held-out frame accuracy by temperature"]) == {"1", "4"}
    low, high = details["distilled"]["interval"]
    assert low <= details["distilled"]["test_wer"] <= high


def test_soft_targets_are_sparse_and_for_each_view(finished):
    store = SoftTargets.open(finished / "soft-targets")
    assert store.plan.encoding == Sparse(k=5)
    assert [view.number for view in store.plan.views] == [1]


def test_a_finished_run_is_not_run_again(finished, corpus, folder_bytes):
    before = folder_bytes(finished)
    assert run(finished, make_config(corpus)) == []
    assert folder_bytes(finished) == before


def test_each_stage_goes_on_where_a_run_was_stopped(finished, corpus, tmp_path):
    config = make_config(corpus)
    folder = tmp_path / "run"
    for _ in range(30):  # killed again and again, each time a little later
        steps = 0
        for now in speech.run(config, folder, command="attar reproduce speech"):
            steps += 1
            if steps > 25 and not str(now).startswith("aligning"):
                break
        else:
            break
    ours, theirs = (
        ExperimentResult.read(each / "speech.json") for each in (folder, finished)
    )
    assert [row.values for row in ours.rows] == [row.values for row in theirs.rows]


def test_other_settings_in_the_same_folder_are_refused(finished, corpus):
    with pytest.raises(FolderError, match="--units 24, not 25"):
        run(finished, make_config(corpus, units=25))


def test_a_damaged_score_is_named(finished, corpus, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    (folder / "speech.json").unlink()
    path = folder / "scores" / "ensemble.json"
    content = json.loads(path.read_text())
    del content["interval"]
    path.write_text(json.dumps(content))
    with pytest.raises(FolderError, match=r"ensemble.json is damaged .* remove it"):
        run(folder, make_config(corpus))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"temperatures": "0.5,2"}, "temperatures of 1 or more"),
        ({"epochs": 0}, "epochs > 0"),
        ({"held_out": 0}, "held_out > 0"),
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
