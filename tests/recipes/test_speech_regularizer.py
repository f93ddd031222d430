import pytest
import torch

from attar.errors import AttarError, FolderError
from attar.recipes import speech_regularizer
from attar.recipes.speech_data import read_prepared
from attar.records import ExperimentResult, read_sealed_json, write_sealed_json
from recipes.voices import tiny_config

pytest.importorskip("kaldi_decoder", reason="needs attar[speech]")
pytestmark = pytest.mark.slow  # several networks are trained


def run(folder, config):
    return list(speech_regularizer.run(config, folder, command="attar reproduce"))


def test_needs_a_finished_speech_run(tmp_path):
    config = speech_regularizer.Config(run=str(tmp_path / "none"))
    with pytest.raises(FolderError, match="attar reproduce speech"):
        run(tmp_path / "out", config)


@pytest.mark.parametrize("changes", [{"share": 1.0}, {"share": 0.0}, {"temperature": 0.5}])
def test_wrong_options_are_refused(changes):
    with pytest.raises(AttarError):
        speech_regularizer.Config(**changes)


def test_table_5_from_a_finished_run(speech_run, tmp_path):
    config = speech_regularizer.Config(run=str(speech_run), seeds=2, share=0.1, epochs=8)
    assert run(tmp_path, config)
    result = ExperimentResult.read(tmp_path / "speech-regularizer.json")
    assert [row.paper for row in result.rows] == [63.4, 67.3, 65.4, 58.9, 44.5, 57.0]
    assert [row.seeds for row in result.rows] == [2] * 6
    all_hard, hard, soft = (row.mean for row in result.rows[3:])
    assert min(hard, soft) > 15  # 20 states or so: chance is 5 %
    frames = result.details["corpus"]["train"]["hours"] * 360_000
    assert all(0.1 <= each / frames < 0.2 for each in result.details["frames"])
    assert max(result.details["epochs"]["hard"]) <= 8
    assert run(tmp_path, config) == []
    assert all_hard > 20
    # What it was made from is looked at again, not the config alone.
    (tmp_path / "speech-regularizer.json").unlink()
    kept = tmp_path / "hard-1.json"
    write_sealed_json(kept, read_sealed_json(kept) | {"made_of": "0"})
    with pytest.raises(FolderError, match=r"hard-1.json was made from another speech run"):
        run(tmp_path, config)


def test_each_seed_learns_from_utterances_of_its_own(speech_run, voices):
    part = read_prepared(tiny_config(voices), speech_run).train
    drawn = [speech_regularizer.draw_utterances(part, 0.2, seed=seed) for seed in (0, 0, 1, 2)]
    assert torch.equal(drawn[0], drawn[1])
    for other in drawn[2:]:
        assert set(other.tolist()) != set(drawn[0].tolist())
