"""The report of an experiment: what it says, and how it behaves in a browser."""

import base64
import re
from dataclasses import replace

import pytest

from attar.errors import FolderError
from attar.records import ExperimentResult, ResultRow, this_machine
from attar.report import make_experiment_report, save_experiment_report
from attar.training import Epoch
from report.comparisons import make_record
from report.test_report import HOSTILE, words

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
HISTORY = [Epoch(index, 1.0, 0.1, 1.0, {"errors": 100.0 / index}) for index in range(1, 6)]


def make_result(*, names=("teacher", "student"), notes=("the student keeps half",)):
    rows = [
        ResultRow.over_seeds(names[0], [67.0, 70.0, 73.0], metric="test errors", paper=67),
        ResultRow.over_seeds(names[1], [90.0, 91.5, 93.0], metric="test errors", paper=None),
        ResultRow.over_seeds(names[1], [0.990756], metric="accuracy on other fonts", paper=None),
    ]
    return ExperimentResult(
        experiment="temperature",
        command="attar reproduce temperature --seeds 3",
        rows=tuple(rows),
        config={"seeds": 3, "hard_weight": 0.5},
        machine=this_machine(),
        wall_seconds=754.0,
        details={"notes": list(notes)},
    )


def test_the_finding_comes_first_then_every_number_beside_the_papers():
    result = make_result(notes=("the student keeps half", "of 3 seeds"))
    histories = {"teacher": [HISTORY, HISTORY], "brief": [HISTORY[:1]]}
    page = make_experiment_report(result, histories=histories)
    text = words(page)
    assert text.startswith("attar report · temperature The student keeps half ")
    for expected in (
        "What else came of it of 3 seeds",
        "test errors 3 seeds each",
        "teacher 67 70.0 ± 3.0",
        "student – 91.5 ± 1.5",
        "accuracy on other fonts 1 seed",
        "student 0.9908",
        "attar reproduce temperature --seeds 3",
        "hard_weight 0.5",
        "training took 12 min 34 s",
    ):
        assert expected in text, expected
    assert page.count("<svg") == 3  # two metrics, training
    assert "brief" not in text  # which makes no line
    assert "<script" not in page
    assert make_experiment_report(result, histories=histories) == page


def test_of_one_epoch_there_is_no_curve_and_without_notes_the_first_number_is_told():
    page = make_experiment_report(make_result(notes=()), histories={"a": [HISTORY[:1]]})
    assert page.count("<svg") == 2
    assert "temperature Teacher: 70.0 ± 3.0, test errors " in words(page)


def test_pictures_are_inside_and_a_comparison_follows(tmp_path):
    (tmp_path / "curves.png").write_bytes(PNG)
    path = tmp_path / "report.html"
    record = make_record()
    save_experiment_report(
        make_result(), path, pictures=[tmp_path / "curves.png"], comparison=record
    )
    page = path.read_text("utf-8")
    assert f'src="data:image/png;base64,{base64.b64encode(PNG).decode()}"' in page
    text = words(page)
    for expected in ("How far they follow the teacher", "UNDECIDED", record.data):
        assert expected in text, expected
    identities = re.findall(r'\bid="([^"]+)"', page)
    assert len(set(identities)) == len(identities)


def test_a_teacher_that_is_no_better_comes_before_the_first_note():
    record = replace(make_record(), teacher="hard targets", baseline="teacher")
    text = words(make_experiment_report(make_result(), comparison=record))
    lead = "The teacher is no better than the student without it; distillation cannot help."
    assert f"report · temperature {lead}" in text


def test_a_report_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(FolderError, match="cannot write"):
        save_experiment_report(make_result(), tmp_path / "no" / "report.html")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_hostile_names_are_text_and_nothing_keeps_people_out(browser, tmp_path, scheme, width):
    from pages.browser import opened, serious_violations

    path, picture = tmp_path / "'\"<b>&#.html", tmp_path / "<img src=x onerror=harm()>.png"
    picture.write_bytes(PNG)
    result = make_result(names=(HOSTILE[1], HOSTILE[2]), notes=HOSTILE)
    save_experiment_report(result, path, histories={HOSTILE[0]: [HISTORY]}, pictures=[picture])
    with opened(browser, path, scheme=scheme, width=width) as page:
        state = "() => [window.harmed, document.scripts.length, document.images.length]"
        assert page.evaluate(state) == [None, 0, 1]
        assert page.locator("h1").inner_text() == HOSTILE[0]
        assert serious_violations(page) == []
        assert page.evaluate("() => document.documentElement.scrollWidth") == width
