"""What a finished speech run gives to the explorer and the report."""

import shutil

import pytest
import torch

from attar.comparison_records import ComparisonRecord
from attar.errors import FolderError
from attar.explorer import make_explorer
from attar.recipes import speech_pages
from attar.records import ExperimentResult
from attar.speech.packed import LEFT
from recipes.voices import DIMS

pytestmark = pytest.mark.slow  # several networks are trained


@pytest.fixture
def folder(speech_run, tmp_path):
    return shutil.copytree(speech_run, tmp_path / "run")


def test_the_explorer_shows_windows_and_states_by_their_phones(folder):
    exploration = speech_pages.explore(folder)
    shown = exploration.sets[0]
    assert [each.name for each in exploration.sets] == ["test", "training"]
    assert exploration.class_names[0] == "SIL.1 #0"
    assert shown.pictures.shape == (len(shown.examples), DIMS + 1, 26, 3)
    assert "26 frames" in shown.caption
    result = ExperimentResult.read(folder / "speech.json")
    assert f"T = {exploration.temperature:g}" in result.rows[2].name
    page = make_explorer(exploration)
    assert "no gray images" in page
    assert len(page) < 5e6


def test_a_window_is_drawn_with_time_to_the_right_and_features_upwards(folder):
    part = speech_pages.SpeechRun.open(folder).prepared.test
    pictures = speech_pages.draw_windows(part, torch.tensor([5]))
    window = part.packed.windows(torch.tensor([5])).view(26, DIMS)
    light = pictures[0].long().sum(dim=2)  # the more of a feature, the lighter
    frame = 24  # of the window: not at the edge, where frames are repeated
    order = window[frame].clamp(-2.5, 2.5).flip(0)
    assert torch.equal(light[:DIMS, frame].argmax(), order.argmax())
    assert torch.equal(light[:DIMS, frame].argmin(), order.argmin())
    assert (light[DIMS] > 0).nonzero().flatten().tolist() == [LEFT]


def test_the_report_has_the_frame_accuracies_of_the_result_and_judges_no_pair(folder):
    speech_pages.report(folder, folder / "report.html")
    record = ComparisonRecord.read(folder / "comparison.json")
    baseline, ensemble, distilled, *_ = ExperimentResult.read(folder / "speech.json").rows
    expected = {record.teacher: ensemble, speech_pages.BASELINE: baseline}
    for model in record.models:
        row = expected.get(model.name, distilled)
        assert 100 * model.mean("accuracy") == pytest.approx(row.mean, abs=1e-3)
    assert record.verdicts == ()
    page = (folder / "report.html").read_text("utf-8")
    for told in ("test WER, %", "How far they follow the teacher", "data:image/png"):
        assert told in page, told


def test_a_run_that_is_not_finished_or_damaged_is_told(folder):
    (folder / "students.safetensors").unlink()
    with pytest.raises(FolderError, match=r"students\.safetensors"):
        speech_pages.explore(folder)
    (folder / "speech.json").unlink()
    with pytest.raises(FolderError, match=r"speech\.json"):
        speech_pages.explore(folder)
