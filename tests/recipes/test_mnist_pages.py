"""What a finished run gives to the explorer and the report."""

import json

import pytest

from attar.comparison_records import ComparisonRecord
from attar.errors import FolderError
from attar.recipes import mnist, mnist_pages
from attar.records import ExperimentResult, write_sealed_json

CONFIG = mnist.Config(
    seeds=2,
    teacher_units=12,
    teacher_epochs=2,
    student_units=6,
    student_epochs=1,
    distilled_epochs=2,
    temperature=3.0,
)


@pytest.fixture(autouse=True)
def small(monkeypatch, few_digits):
    monkeypatch.setattr(mnist, "load_mnist", lambda: few_digits)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, few_digits):
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mnist, "load_mnist", lambda: few_digits)
        list(mnist.run(CONFIG, folder, command="attar reproduce mnist"))
    return folder


def test_the_comparison_finds_the_errors_of_the_result(folder, tmp_path):
    mnist_pages.report(folder, tmp_path / "report.html")
    record = ComparisonRecord.read(folder / "comparison.json")
    result = ExperimentResult.read(folder / "mnist.json")
    assert {model.name: model.values("errors") for model in record.models} == {
        row.name: row.values for row in result.rows
    }
    assert [model.role for model in record.models] == ["teacher", "baseline", "student", "student"]
    assert record.command == "attar reproduce mnist"
    page = (tmp_path / "report.html").read_text("utf-8")
    assert page.count("<svg") == 4  # training curves among them
    assert "distilled_epochs" in page


def test_the_explorer_has_the_networks_of_the_first_seed(folder, few_digits):
    exploration = mnist_pages.explore(folder)
    assert exploration.temperature == 3.0
    assert [shown.name for shown in exploration.sets] == ["test", "transfer"]
    record = json.loads((folder / "teacher-0.json").read_text())
    logits = exploration.sets[0].logits[exploration.teacher.name]
    wrong = (logits.argmax(dim=1) != few_digits.test.hard_targets).sum()
    assert int(wrong) == record["evaluation"]["errors"]


def test_settings_of_another_release_are_told(folder, tmp_path):
    content = json.loads((folder / "mnist.json").read_text(encoding="utf-8"))
    del content["config"]["jitter"], content["checksum"]
    write_sealed_json(tmp_path / "mnist.json", content)
    with pytest.raises(FolderError, match=r"settings of another release \('jitter'\); run the"):
        mnist_pages.explore(tmp_path)
