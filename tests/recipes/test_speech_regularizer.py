import pytest

from attar.errors import AttarError, FolderError
from attar.recipes import speech_regularizer
from attar.records import ExperimentResult

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
    assert (
        0.1
        <= result.details["frames"] / (result.details["corpus"]["train"]["hours"] * 360_000)
        < 0.2
    )
    assert max(result.details["epochs"]["hard"]) <= 8
    assert run(tmp_path, config) == []
    assert all_hard > 20
