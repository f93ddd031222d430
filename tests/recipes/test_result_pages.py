"""Every experiment ends with a report, made from what its run has left."""

from dataclasses import asdict

import pytest
from report.comparisons import make_record

from attar import cli
from attar.recipes import (
    generalist,
    losses,
    regularizer,
    result_pages,
    specialists,
    speech_regularizer,
    temperature,
)
from attar.recipes.teachers import describe_teachers
from attar.records import ExperimentResult, ResultRow, this_machine, write_json, write_sealed_json

EPOCH = {"index": 1, "mean_loss": 1.0, "learning_rate": 0.1, "train_seconds": 1.0}


def leave_run(recipe, folder):
    """What a finished quick run of a recipe leaves, but for its networks."""
    folder.mkdir()
    row = ResultRow.over_seeds("a student", [90.0, 93.0], metric="test errors", paper=74)
    config = asdict(recipe.QUICK)
    details = {"notes": ["students are alike"]}
    if recipe in (losses, temperature):
        units, epochs = recipe.QUICK.teacher_units, recipe.QUICK.teacher_epochs
        details["made_of"] = describe_teachers([], units, epochs)
    result = ExperimentResult(
        recipe.EXPERIMENT, "attar reproduce", (row,), config, this_machine(), 1.0, details
    )
    write_json(folder / f"{recipe.EXPERIMENT}.json", result)


@pytest.mark.parametrize(
    "recipe",
    [generalist, losses, regularizer, specialists, speech_regularizer, temperature],
)
def test_a_finished_run_of_any_recipe_gets_its_report(recipe, tmp_path, capsys, shape_hints_off):
    folder = tmp_path / "run"
    leave_run(recipe, folder)
    with pytest.raises(SystemExit) as caught:
        cli.main(["reproduce", recipe.EXPERIMENT, "--quick", "--out", str(folder)])
    assert not caught.value.code
    path = folder / "report.html"
    assert f"report: {path}\n" in capsys.readouterr().out
    page = path.read_text("utf-8")
    assert "Students are alike" in page
    assert "91.5\xa0±\xa02.1" in page


def test_trainings_of_one_kind_are_together_and_pictures_that_scale_come_first(tmp_path):
    leave_run(temperature, tmp_path / "run")
    folder = tmp_path / "run"
    for name in ("students-30-0", "students-30-1", "students-300-0", "teacher"):
        write_sealed_json(folder / f"{name}.json", {"history": [EPOCH]})
    write_sealed_json(folder / "students-300-1.json", {"history": [{"of": "later"}]})
    assert {kind: len(each) for kind, each in result_pages.read_histories(folder).items()} == {
        "students 30": 2,
        "students 300": 1,
        "teacher": 1,
    }
    for name in ("curves.png", "curves.svg", "utterance.png"):
        (folder / name).touch()
    (folder / "screenshot.png").write_bytes(bytes(result_pages.LARGEST_PICTURE + 1))
    found = [path.name for path in result_pages.find_pictures(folder)]
    assert found == ["curves.svg", "utterance.png"]


def test_a_comparison_that_the_run_left_is_in_the_report(tmp_path):
    folder = tmp_path / "run"
    leave_run(losses, folder)
    make_record().save(folder / "comparison.json")
    result_pages.report("losses", folder, folder / "report.html")
    assert "How far they follow the teacher" in (folder / "report.html").read_text("utf-8")
