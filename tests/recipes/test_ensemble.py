import shutil
from dataclasses import asdict, replace
from functools import partial
from itertools import islice

import pytest
import torch
from safetensors.torch import load_file

from attar.cohorts import Cohort
from attar.comparison import compare
from attar.comparison_records import ComparisonRecord
from attar.data import Jitter, Mnist, load_mnist
from attar.errors import AttarError, FolderError
from attar.evaluation import Evaluation, compute_logits, evaluate, measure_logits
from attar.losses import softmax_with_temperature
from attar.recipes import ensemble, ensemble_pages, mnist, stages
from attar.records import ExperimentResult
from attar.training import TrainingRun, load_weights

TINY = ensemble.Config(
    seeds=2, members=3, teacher_units=12, teacher_epochs=2, student_units=6,
    distilled_epochs=3, batch_size=100, views=1,
)  # fmt: skip
STEPS = 2 * 1 + 2 * 3 * 3  # teachers; seeds, epochs, batches


@pytest.fixture(autouse=True)
def small_and_often_saved(monkeypatch, few_digits):
    monkeypatch.setattr(ensemble, "load_mnist", lambda: few_digits)
    monkeypatch.setattr(mnist, "load_mnist", lambda: few_digits)
    monkeypatch.setattr(stages, "TrainingRun", partial(TrainingRun, checkpoint_seconds=0.0))


def run(folder, config=TINY, *, steps=None):
    return list(islice(ensemble.run(config, folder, command="attar ..."), steps))


def read(folder):
    return ExperimentResult.read(folder / "ensemble.json")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, few_digits):
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ensemble, "load_mnist", lambda: few_digits)
        run(folder)
    return folder


def test_members_means_and_students_have_their_rows(finished):
    result = read(finished)
    assert [(row.name, row.seeds) for row in result.rows] == [
        ("a teacher 2×12, of 3", 3),
        ("arithmetic mean of 3 teachers", 1),
        ("geometric mean of 3 teachers", 1),
        ("student 2×6 of arithmetic mean of 3 teachers", 2),
        ("student 2×6 of geometric mean of 3 teachers", 2),
        ("student 2×6 of single teachers", 2),
    ]
    assert [row.paper for row in result.rows] == [None] * 6
    assert result.config == asdict(TINY)
    first, second = result.details["notes"]
    assert first.startswith("students of the arithmetic mean make ")
    assert second.startswith("students of the geometric mean make ")


def test_the_numbers_are_those_of_the_networks_that_are_left(finished, few_digits):
    cohort = ensemble.teachers_stage(TINY).make_network()
    load_weights(finished / "teachers.safetensors", cohort)
    rows, members = read(finished).rows, cohort.members()
    assert list(rows[0].values) == [evaluate(each, few_digits.test).errors for each in members]
    p = torch.stack([compute_logits(each, few_digits.test).softmax(1) for each in members])
    targets = few_digits.test.hard_targets
    for row, mean in ((rows[1], p.mean(0)), (rows[2], p.log().mean(0))):
        assert row.values[0] == measure_logits(mean, targets).errors


def test_soft_targets_are_those_of_each_view_and_kind(finished, few_digits):
    cohort = ensemble.teachers_stage(TINY).make_network()
    load_weights(finished / "teachers.safetensors", cohort)
    jittered = few_digits.train.with_views(Jitter(pixels=2, seed=0))
    some = torch.tensor([7, 200, 3])
    for view in (0, 1):
        inputs = jittered.batch(some, view).inputs
        with torch.no_grad():
            v = torch.stack([each.eval()(inputs) for each in cohort.members()])
        p = softmax_with_temperature(v, temperature=20.0)
        kept = load_file(finished / f"logits-{view}.safetensors")["logits"]
        for seed, single in ((0, 0), (1, 1), (5, 2)):  # of three teachers
            targets = ensemble.targets_of_kinds(TINY, kept, seed)[:, some]
            found = softmax_with_temperature(targets, temperature=20.0)
            torch.testing.assert_close(found[0], p.mean(0))
            torch.testing.assert_close(found[1], p.log().mean(0).softmax(1))
            torch.testing.assert_close(found[2], p[single])


def test_the_report_has_the_errors_of_the_result_and_every_verdict(
    finished, tmp_path, monkeypatch, few_digits
):
    monkeypatch.setattr(ensemble_pages, "load_mnist", lambda: few_digits)
    monkeypatch.setattr(ensemble_pages, "compare", partial(compare, latency=False))
    folder = shutil.copytree(finished, tmp_path / "run")
    ensemble_pages.report(folder, folder / "report.html")
    record = ComparisonRecord.read(folder / "comparison.json")
    rows = read(finished).rows
    assert {model.name: model.values("errors") for model in record.models} == {
        row.name: row.values for row in rows
    }
    names = [row.name for row in rows]
    assert record.teacher == names[1]
    assert all(record.verdict(kind, names[1]) for kind in names[3:])
    page = (folder / "report.html").read_text("utf-8")
    assert "Verdicts" in page
    assert "Students of the arithmetic mean make " in page


@pytest.mark.parametrize("stop", [1, 3, STEPS - 1])
def test_an_abandoned_run_goes_on_and_ends_alike(finished, tmp_path, stop):
    assert len(run(tmp_path, steps=stop)) == stop
    assert len(run(tmp_path)) == STEPS - stop
    found, expected = ([row.values for row in read(each).rows] for each in (tmp_path, finished))
    assert found == expected
    assert run(tmp_path) == []


def test_teachers_of_an_earlier_run_make_the_ensemble(tmp_path):
    tiny = mnist.Config(seeds=2, teacher_units=12, teacher_epochs=1, student_epochs=1,
                        student_units=5, distilled_epochs=1)  # fmt: skip
    list(mnist.run(tiny, tmp_path / "mnist", command=""))
    config = replace(TINY, teachers=str(tmp_path / "mnist"), seeds=1, views=0)
    assert len(run(tmp_path / "run", config)) == 9
    rows = read(tmp_path / "run").rows
    earlier = ExperimentResult.read(tmp_path / "mnist" / "mnist.json").rows[0]
    assert rows[0].values == earlier.values
    assert not (tmp_path / "run" / "teachers.safetensors").exists()


def test_one_kind_of_student_learns_what_it_does_among_three(finished, tmp_path):
    run(tmp_path, replace(TINY, kinds="geometric"))
    rows = {row.name: row.values for row in read(tmp_path).rows}
    expected = {row.name: row.values for row in read(finished).rows}
    assert rows == {name: expected[name] for name in rows}
    assert [name for name in rows if name.startswith("student")] == [
        "student 2×6 of geometric mean of 3 teachers"
    ]


def test_a_damaged_file_is_named(finished, tmp_path):
    for path in finished.iterdir():
        if path.name != "ensemble.json":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "logits-1.safetensors").write_bytes(b"")
    with pytest.raises(FolderError, match=r"logits-1\.safetensors is damaged"):
        run(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"members": 0}, "members > 0"),
        ({"temperature": 0.0}, "temperature > 0"),
        ({"soft_weight": 0.0}, "expected soft_weight > 0 or hard_weight > 0"),
        ({"kinds": "geometric,median"}, "expected kinds among arithmetic, geometric, single"),
        ({"kinds": "single,single"}, "expected kinds among"),
        ({"views": -1}, "views >= 0"),
    ],
)
def test_wrong_options_are_told_at_once(options, message):
    with pytest.raises(AttarError, match=message):
        replace(TINY, **options)


def test_the_paired_test_by_hand():
    def evaluations(*errors):
        return [Evaluation(examples=100, errors=n, accuracy=1 - n / 100, nll=1.0) for n in errors]

    # Differences -2, -4, -3: mean -3, sd 1, t = -3·√3 = -5.196 with 2 degrees of freedom.
    p = ensemble.paired_p(evaluations(10, 11, 12), evaluations(12, 15, 15))
    assert p == pytest.approx(0.0351, abs=1e-4)
    assert ensemble.paired_p(evaluations(10), evaluations(12)) is None
    assert ensemble.paired_p(evaluations(10, 11), evaluations(12, 13)) is None


@pytest.mark.paper
def test_an_ensemble_beats_its_members_and_so_does_its_student(tmp_path, monkeypatch):
    """On 2,000 real digits, without jitter for the students; four teachers."""
    real = load_mnist()
    some = Mnist(real.train.subset(torch.arange(2000)), real.test.subset(torch.arange(2000)))
    monkeypatch.setattr(ensemble, "load_mnist", lambda: some)
    monkeypatch.setattr(stages, "TrainingRun", TrainingRun)
    config = ensemble.Config(
        seeds=1, members=4, teacher_units=60, teacher_epochs=8, student_units=60,
        distilled_epochs=10, batch_size=50,
    )  # fmt: skip
    run(tmp_path, config)
    member, arithmetic, geometric, *_ = (row.mean for row in read(tmp_path).rows)
    assert arithmetic < member
    assert geometric < member


def test_teachers_differ_by_weights(finished):
    cohort = ensemble.teachers_stage(TINY).make_network()
    assert isinstance(cohort, Cohort)
    load_weights(finished / "teachers.safetensors", cohort)
    first, second, _ = cohort.members()
    assert not torch.equal(next(first.parameters()), next(second.parameters()))
