import json
from dataclasses import asdict, replace
from functools import partial
from itertools import islice

import pytest
import torch
from safetensors.torch import load_file

from attar.data import Mnist, load_mnist
from attar.errors import AttarError, FolderError
from attar.losses import distillation_loss
from attar.recipes import mnist, stages, temperature
from attar.recipes.temperature_checks import check_best_temperatures, check_high_temperatures
from attar.records import ExperimentResult
from attar.training import TrainingRun

TINY = temperature.Config(
    seeds=2,
    teacher_units=12,
    teacher_epochs=2,
    student_units="5,7",
    temperatures="1,4,10",
    distilled_epochs="2",
    batch_size=100,
)
STEPS = 2 * 1 + 2 * 2 * 2 * 3  # teacher; sizes, seeds, epochs, batches


@pytest.fixture(autouse=True)
def small_and_often_saved(monkeypatch, few_digits):
    monkeypatch.setattr(temperature, "load_mnist", lambda: few_digits)
    monkeypatch.setattr(stages, "TrainingRun", partial(TrainingRun, checkpoint_seconds=0.0))


def run(folder, config=TINY, *, steps=None):
    return list(islice(temperature.run(config, folder, command="attar ..."), steps))


def read(folder):
    return ExperimentResult.read(folder / "temperature.json")


def values(folder):
    return [row.values for row in read(folder).rows]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, few_digits):
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(temperature, "load_mnist", lambda: few_digits)
        run(folder)
    return folder


def test_there_is_a_row_for_each_size_and_temperature(finished):
    result = read(finished)
    names = [f"student 2×{units}, T = {T}" for units in (5, 7) for T in (1, 4, 10)]
    assert [row.name for row in result.rows] == names
    assert {row.seeds for row in result.rows} == {2}
    assert result.config == asdict(TINY)
    record = json.loads((finished / "students-7-1.json").read_text(encoding="utf-8"))
    assert [row.values[1] for row in result.rows[3:]] == [
        each["errors"] for each in record["evaluations"]
    ]


def test_both_statements_are_checked_and_both_figures_drawn(finished):
    checks = read(finished).details["checks"]
    assert all(
        str(check["units"]) in note
        for check, note in zip(checks, read(finished).details["notes"], strict=True)
    )
    assert [check["units"] for check in checks] == [5, 7]
    assert {check["statement"] for check in checks} == {temperature.PAPER["b"]}
    assert (finished / "temperature.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (finished / "temperature.svg").read_text(encoding="utf-8")


def test_a_student_is_the_one_trained_alone(finished, few_digits):
    settings = temperature.student_stage(TINY, 7, 1).settings
    student = mnist.make_student(mnist.Config(student_units=7), 1)
    v = load_file(finished / "teacher-0.logits.safetensors")["logits"]

    def loss_fn(logits, batch):
        return distillation_loss(
            logits, v[batch.indices], batch.hard_targets,
            temperature=4.0, soft_weight=1.0, hard_weight=TINY.hard_weight,
        ).mean()  # fmt: skip

    for _ in TrainingRun(student, few_digits.train, loss_fn, settings):
        pass
    errors = stages.evaluate(student, few_digits.test).errors
    assert abs(read(finished).rows[4].values[1] - errors) <= 1


@pytest.mark.parametrize("stop", [1, 5, STEPS - 1])
def test_an_abandoned_run_goes_on_and_ends_alike(finished, tmp_path, stop):
    assert len(run(tmp_path, steps=stop)) == stop
    assert len(run(tmp_path)) == STEPS - stop
    assert [row.values for row in read(tmp_path).rows] == [
        row.values for row in read(finished).rows
    ]
    for suffix in ("png", "svg"):
        name = f"temperature.{suffix}"
        assert (tmp_path / name).read_bytes() == (finished / name).read_bytes()


def test_a_finished_run_does_nothing_and_more_seeds_extend_it(finished, tmp_path):
    assert run(finished) == []
    run(tmp_path, replace(TINY, seeds=1))
    assert len(run(tmp_path)) == 2 * 2 * 3
    assert [row.values for row in read(tmp_path).rows] == [
        row.values for row in read(finished).rows
    ]


def test_the_teacher_of_an_earlier_run_is_used(tmp_path, monkeypatch, few_digits):
    monkeypatch.setattr(mnist, "load_mnist", lambda: few_digits)
    tiny = mnist.Config(seeds=1, teacher_units=12, teacher_epochs=1, student_epochs=1,
                        student_units=5, distilled_epochs=1)  # fmt: skip
    list(mnist.run(tiny, tmp_path / "mnist", command=""))
    config = replace(TINY, teachers=str(tmp_path / "mnist"))
    assert len(run(tmp_path / "run", config)) == STEPS - 2
    logits = "teacher-0.logits.safetensors"
    assert (tmp_path / "run" / logits).read_bytes() == (tmp_path / "mnist" / logits).read_bytes()


def test_a_damaged_record_is_named(finished, tmp_path):
    for path in finished.iterdir():
        if path.name != "temperature.json":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "students-5-0.json").write_text("{}")
    with pytest.raises(FolderError, match=r"students-5-0\.json is damaged .* to train again"):
        run(tmp_path)


def test_each_size_has_its_number_of_passes():
    config = replace(TINY, distilled_epochs="4,2")
    stages_made = [temperature.student_stage(config, units, seed=0) for units in (5, 7)]
    assert [stage.settings.epochs for stage in stages_made] == [4, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperatures": "1,x"}, "expected temperatures as numbers"),
        ({"temperatures": "4,1"}, "expected temperatures in ascending order, got 4,1"),
        ({"temperatures": "0,1"}, "expected temperatures > 0"),
        ({"student_units": ""}, "expected student_units as numbers"),
        ({"student_units": "2.5"}, "expected whole numbers of student_units"),
        ({"distilled_epochs": "1,2,3"}, "expected one number of distilled_epochs or 2"),
        ({"distilled_epochs": "0.5"}, "expected whole numbers of distilled_epochs"),
        ({"seeds": 0}, "seeds > 0"),
    ],
)
def test_wrong_options_are_told_at_once(options, message):
    with pytest.raises(AttarError, match=message):
        replace(TINY, **options)


SEEDS = [0.0, 1.0, 2.0, 3.0, 4.0]


def test_high_temperatures_that_are_alike_and_such_that_are_not():
    flat = {1.0: [90.0] * 5} | {
        T: [70 + (3 * seed + place) % 4 for seed in SEEDS] for place, T in enumerate((10, 20, 30))
    }
    check = check_high_temperatures(flat, 800)
    assert check.holds
    assert check.p > 0.05
    assert "differ by" in check.finding
    steep = {T: [10 * T + seed for seed in SEEDS] for T in (1.0, 10.0, 20.0, 30.0)}
    assert not check_high_temperatures(steep, 800).holds
    assert check_high_temperatures(steep, 800).p < 0.01


def test_best_temperatures_need_both_sides_to_be_worse():
    noise = dict(enumerate([3.0, -2.0, 1.0, 0.0, -1.0]))
    errors = {
        T: [base + (T * seed) % 3 + noise[int(seed)] for seed in SEEDS]
        for T, base in ((1.0, 90), (3.0, 60), (8.0, 80), (20.0, 100))
    }
    check = check_best_temperatures(errors, 30)
    assert check.holds
    assert check.p < 0.01
    worse = errors | {8.0: errors[3.0], 20.0: errors[3.0]}
    assert not check_best_temperatures(worse, 30).holds


def test_too_little_to_test_is_no_confirmation():
    assert not check_high_temperatures({1.0: [5.0], 20.0: [4.0]}, 300).holds
    assert check_high_temperatures({1.0: [5.0]}, 300).finding == "none above 8"
    one_seed = {1.0: [5.0], 3.0: [4.0], 9.0: [6.0]}
    assert check_best_temperatures(one_seed, 30).p is None
    assert not check_best_temperatures(one_seed, 30).holds
    assert not check_best_temperatures({3.0: [4.0, 5.0]}, 30).holds


@pytest.mark.slow
@pytest.mark.paper
def test_a_small_student_prefers_a_low_temperature(tmp_path, monkeypatch):
    """On 2,000 real digits: 10 units a layer follow the teacher better at T = 3 than at 30."""
    real = load_mnist()
    some = Mnist(real.train.subset(torch.arange(2000)), real.test.subset(torch.arange(1000)))
    monkeypatch.setattr(temperature, "load_mnist", lambda: some)
    monkeypatch.setattr(stages, "TrainingRun", TrainingRun)
    config = temperature.Config(
        seeds=2, teacher_units=100, teacher_epochs=10, student_units="10", temperatures="3,30",
        distilled_epochs="15", batch_size=50,
    )  # fmt: skip
    run(tmp_path, config)
    low, high = (row.mean for row in read(tmp_path).rows)
    assert low < high
