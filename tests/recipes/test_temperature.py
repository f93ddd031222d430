import json
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from scipy.stats import ttest_rel

from attar.data import Mnist, load_mnist
from attar.errors import AttarError, FolderError
from attar.losses import distillation_loss
from attar.recipes import mnist, stages, temperature
from attar.recipes.temperature_checks import check_best_temperatures, check_high_temperatures
from attar.records import ExperimentResult
from attar.training import TrainingRun

ROOT = Path(__file__).resolve().parents[2]
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


def test_a_finished_run_of_other_teachers_is_refused(finished, tmp_path):
    """As one of a release whose `attar reproduce mnist` trains its teachers otherwise."""
    result = read(finished)
    settings = result.details["made_of"]["teacher settings"]
    assert {"teacher_learning_rate", "teacher_max_norm", "jitter", "initial_scale"} <= set(settings)
    settings["teacher_learning_rate"] = 0.5
    result.write(tmp_path / "temperature.json")
    with pytest.raises(
        FolderError, match=r"teacher_learning_rate 0\.5, now 0\.002; choose another"
    ):
        run(tmp_path)


def test_a_damaged_record_is_named(finished, tmp_path):
    for path in finished.iterdir():
        if path.name != "temperature.json":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "students-5-0.json").write_text("{}")
    with pytest.raises(FolderError, match=r"students-5-0\.json is damaged .* remove the file"):
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


NOISE = [3.0, -2.0, 1.0, 0.0, -1.0]


def errors_at(means, *, noise=1.0):
    """Errors of five seeds by temperature, whose differences vary from seed to seed."""
    return {
        T: [mean + noise * NOISE[(seed + place) % 5] for seed in range(5)]
        for place, (T, mean) in enumerate(means.items())
    }


def published():
    """Units -> temperature -> errors by seed, and the checks of them, as published."""
    result = ExperimentResult.read(ROOT / "results" / "temperature.json")
    errors = {}
    for row in result.rows:
        units, temperature_ = row.name.removeprefix("student 2×").split(", T = ")
        errors.setdefault(int(units), {})[float(temperature_)] = row.values
    return errors, result.details["checks"]


def test_the_published_statements_are_those_of_the_published_values():
    errors, checks = published()
    made = temperature.check_statements(errors)
    assert json.loads(json.dumps([asdict(check) for check in made])) == checks
    assert [check.outcome for check in made] == ["undecided", "undecided", "supported"]


def test_a_pair_is_compared_by_the_paired_t_test_with_holms_correction():
    """Published errors of 30 units: T = 4 is no better than 6 beyond chance; T = 3 than 1 is."""
    pairs = temperature.check_statements(published()[0])[0].pairs
    found = {(pair.temperature, pair.other): pair for pair in pairs}
    assert len(found) == 3 * 8
    assert found[4.0, 6.0].difference == pytest.approx(-0.4)
    assert not found[4.0, 6.0].is_beyond_chance
    values = published()[0][30]
    smallest = ttest_rel(values[3.0], values[1.0]).pvalue
    assert found[3.0, 1.0].p == pytest.approx(24 * smallest)
    assert found[3.0, 1.0].is_beyond_chance


def test_a_range_is_not_better_because_its_mean_is():
    """The mean of T = 1 and 2 is far above that of 2.5 to 4, though 2 alone is not."""
    means = {1.0: 490, 2.0: 250, 3.0: 247, 4.0: 259, 6.0: 259, 30.0: 496}
    check = check_best_temperatures(errors_at(means, noise=8.0), 30)
    assert check.outcome == "undecided"
    assert "T = 4 against 6: +0.0 errors, p = 1" in check.finding


def test_best_temperatures_are_supported_only_if_all_pairs_are():
    means = {1.0: 90, 3.0: 60, 8.0: 80, 20.0: 100}
    check = check_best_temperatures(errors_at(means), 30)
    assert check.outcome == "supported"
    assert "has fewer errors in 3, more in 0, and 0 are undecided" in check.finding
    check = check_best_temperatures(errors_at(means | {8.0: 40}), 30)
    assert check.outcome == "contradicted"
    assert "T = 3 against 8: +20.0 errors, p = " in check.finding


def test_high_temperatures_are_alike_only_if_larger_differences_are_excluded():
    means = {1.0: 150, 10.0: 100, 20.0: 101, 30.0: 100}
    check = check_high_temperatures(errors_at(means, noise=0.5), 800)
    assert check.outcome == "supported"
    assert "less than 10%, 10.0 errors" in check.finding
    # The same means with much noise: no test rejects that they are equal, none shows it either.
    check = check_high_temperatures(errors_at(means, noise=8.0), 800)
    assert check.outcome == "undecided"
    assert not any(pair.is_beyond_chance for pair in check.pairs)
    check = check_high_temperatures(errors_at(means | {30.0: 130}), 800)
    assert check.outcome == "contradicted"
    assert "T = 10 against 30: -30.0 errors, p = " in check.finding


def test_too_little_to_test_is_no_confirmation():
    one_seed = {1.0: [5.0], 3.0: [4.0], 9.0: [6.0], 20.0: [6.0]}
    no_spread = {1.0: [5.0, 6.0], 10.0: [4.0, 5.0], 20.0: [3.0, 4.0]}
    for errors in (one_seed, {1.0: [5.0, 6.0]}, no_spread):
        assert check_high_temperatures(errors, 300).outcome == "not tested"
    for errors in (one_seed, {3.0: [4.0, 5.0]}, {3.0: [4.0, 5.0], 9.0: [4.0, 6.0]}):
        assert check_best_temperatures(errors, 30).outcome == "not tested"


@pytest.mark.long
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
