import json
import math
import re
from dataclasses import asdict, fields, replace
from functools import partial
from itertools import islice

import pytest
import torch

from attar.data import Mnist, load_mnist
from attar.errors import AttarError, DivergedError, FolderError
from attar.evaluation import compute_logits, evaluate
from attar.recipes import mnist, stages
from attar.records import ExperimentResult
from attar.training import TrainingRun, load_weights

TINY = mnist.Config(
    seeds=1,
    teacher_units=12,
    teacher_epochs=2,
    student_units=6,
    student_epochs=1,
    distilled_epochs=2,
    teacher_batch_size=50,
    student_batch_size=50,
)
STEPS = 6 * (2 + 1 + 2 + 2)  # of a seed: 300 examples
ROWS = ("teacher", "hard", "soft", "both")


@pytest.fixture(autouse=True)
def small_and_often_saved(monkeypatch, few_digits):
    monkeypatch.setattr(mnist, "load_mnist", lambda: few_digits)
    monkeypatch.setattr(stages, "TrainingRun", partial(TrainingRun, checkpoint_seconds=0.0))


def run(folder, config=TINY, *, steps=None):
    return list(islice(mnist.run(config, folder, command="attar reproduce mnist"), steps))


def read(folder):
    return ExperimentResult.read(folder / "mnist.json")


def without_durations(content):
    """Drop from JSON what may differ between two runs of one experiment."""
    if isinstance(content, dict):
        return {
            key: without_durations(value)
            for key, value in content.items()
            if not key.endswith("_seconds") and key != "checksum"
        }
    return [without_durations(value) for value in content] if isinstance(content, list) else content


def contents(folder):
    """The visible files, name -> content; JSON without durations."""
    return {
        path.name: without_durations(json.loads(path.read_text(encoding="utf-8")))
        if path.suffix == ".json"
        else path.read_bytes()
        for path in folder.iterdir()
        if not path.name.startswith(".")
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory, few_digits):
    """The folder of a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mnist, "load_mnist", lambda: few_digits)
        run(folder)
    return folder


def test_the_result_has_its_rows_beside_the_papers_numbers(finished):
    result = read(finished)
    assert (result.experiment, result.command) == ("mnist", "attar reproduce mnist")
    assert [row.paper for row in result.rows] == [67, 146, None, 74]
    assert {row.metric for row in result.rows} == {"test errors"}
    assert [row.name.split(":")[0] for row in result.rows] == ["teacher 2×12"] + ["student 2×6"] * 3
    assert [(row.seeds, row.sd, len(row.values)) for row in result.rows] == [(1, None, 1)] * 4
    sizes = [784 * units + units**2 + 10 * units + 2 * units + 10 for units in (12, 6, 6, 6)]
    assert [row.parameters for row in result.rows] == sizes
    assert result.config == asdict(TINY)
    assert result.machine.attar
    assert result.wall_seconds > 0


def test_the_result_file_has_the_keys_that_results_need(finished):
    content = json.loads((finished / "mnist.json").read_text(encoding="utf-8"))
    assert {"experiment", "command", "rows", "config", "machine", "details"} <= content.keys()
    for row in content["rows"]:
        assert {"name", "metric", "paper", "mean", "sd", "seeds", "values"} <= row.keys()


def test_the_numbers_are_those_of_the_networks_that_are_left(finished, few_digits):
    result = read(finished)
    for name, row in zip(ROWS, result.rows, strict=True):
        network = mnist.make_stages(TINY, 0)[name].make_network()
        load_weights(finished / f"{name}-0.safetensors", network)
        found = evaluate(network, few_digits.test)
        assert row.values == (found.errors,)
        assert result.details[name] == [asdict(found)]
    (one,) = result.details["trained by"]
    assert one == {"machine": asdict(result.machine), "stages": [f"{name}-0" for name in ROWS]}


def test_all_epochs_of_a_network_are_recorded(finished):
    for name, epochs in zip(ROWS, (2, 1, 2, 2), strict=True):
        record = json.loads((finished / f"{name}-0.json").read_text(encoding="utf-8"))
        assert record["made_of"]["settings"]["epochs"] == epochs
        assert [epoch["index"] for epoch in record["history"]] == list(range(1, epochs + 1))


def test_no_checkpoint_and_no_temporary_file_is_left(finished):
    names = {path.name for path in finished.iterdir()}
    kept = {f"{name}-0.{kind}" for name in ROWS for kind in ("json", "safetensors")}
    others = {"mnist.json", "run.json", "teacher-0.logits.safetensors"}
    assert names - {".lock"} == kept | others


def test_the_students_start_from_the_same_weights():
    made = mnist.make_stages(TINY, 0)
    starts = [dict(made[name].make_network().state_dict()) for name in ("hard", "soft", "both")]
    for other in starts[1:]:
        assert all(torch.equal(starts[0][name], other[name]) for name in other)
    another = mnist.make_stages(TINY, 1)["hard"].make_network().state_dict()
    assert not torch.equal(starts[0]["1.weight"], another["1.weight"])


def test_the_teacher_alone_is_regularized():
    made = mnist.make_stages(TINY, 0)
    kinds = {name: {type(module).__name__ for module in made[name].make_network()} for name in ROWS}
    assert {"Dropout", "MaxNormLinear"} <= kinds["teacher"]
    for name in ("hard", "soft", "both"):
        assert kinds[name] == {"Flatten", "Linear", "ReLU"}


def test_progress_grows_to_one_and_names_the_networks_in_order(tmp_path):
    seen = run(tmp_path)
    fractions = [now.fraction for now in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1)
    assert max(fractions) <= 1 + 1e-9
    assert len(seen) == STEPS
    assert list(dict.fromkeys(now.title for now in seen)) == [
        "teacher, seed 1 of 1",
        "student on hard targets, seed 1 of 1",
        "student on soft targets, seed 1 of 1",
        "student on both, seed 1 of 1",
    ]
    assert [now.epoch for now in seen[:12]] == [1] * 6 + [2] * 6
    assert all(now.examples_per_second > 0 for now in seen)
    assert all(now.seconds_left is None or now.seconds_left >= -1e-6 for now in seen)
    assert seen[0].errors is None
    assert seen[5].errors is not None  # counted at the end of an epoch


def test_the_time_left_is_estimated_from_the_work_done_here(monkeypatch):
    now = 100.0
    monkeypatch.setattr(stages.time, "monotonic", lambda: now)
    meter = stages.WorkMeter(1000.0)
    meter.add(600.0, by_earlier_run=True)
    now = 110.0
    assert meter.seconds_left is None  # nothing is known of this machine's speed
    meter.add(100.0)
    assert meter.seconds_left == pytest.approx(30)  # 300 left, 10 a second
    meter.add(300.0)
    assert meter.seconds_left == 0


def test_a_finished_run_returns_at_once_and_changes_no_file(finished, folder_bytes, monkeypatch):
    def fail(*arguments, **options):
        raise AssertionError("trained")

    monkeypatch.setattr(stages, "TrainingRun", fail)
    monkeypatch.setattr(mnist, "load_mnist", fail)
    before = folder_bytes(finished)
    assert run(finished) == []
    assert folder_bytes(finished) == before


@pytest.mark.parametrize("stop", [1, 12, 18, 31, STEPS - 1])
def test_an_abandoned_run_goes_on_and_ends_alike(finished, tmp_path, stop):
    assert len(run(tmp_path, steps=stop)) == stop
    assert not (tmp_path / "mnist.json").exists()
    assert len(run(tmp_path)) == STEPS - stop
    assert contents(tmp_path) == contents(finished)


def test_a_run_abandoned_at_every_step_ends_alike(finished, tmp_path):
    for _ in range(STEPS):
        run(tmp_path, steps=1)
    assert run(tmp_path) == []
    assert contents(tmp_path) == contents(finished)


def test_a_run_that_was_stopped_knows_how_far_it_is(tmp_path):
    before = run(tmp_path, steps=20)[-1]
    after = run(tmp_path, steps=1)[0]
    assert after.fraction == pytest.approx(before.fraction + 1 / 40, abs=1 / 40)
    assert after.fraction > before.fraction


def test_more_seeds_extend_what_is_there(finished, tmp_path):
    run(tmp_path)
    kept = {path.name: path.read_bytes() for path in tmp_path.glob("*-0.*")}
    assert len(run(tmp_path, replace(TINY, seeds=2))) == STEPS
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*-0.*")} == kept
    rows = read(tmp_path).rows
    assert [row.values[0] for row in rows] == [row.values[0] for row in read(finished).rows]
    for row in rows:
        assert row.seeds == len(row.values) == 2
        assert row.mean == sum(row.values) / 2
        assert row.sd == pytest.approx(abs(row.values[0] - row.values[1]) / math.sqrt(2))


def test_fewer_seeds_are_refused(tmp_path):
    run(tmp_path, replace(TINY, seeds=2), steps=1)
    with pytest.raises(
        FolderError, match=r"contains a run with --seeds 2, not 1; choose another folder"
    ):
        run(tmp_path)


CHANGES = {
    "temperature": 5.0,
    "teacher_units": 13,
    "hard_weight": 0.7,
    "teacher_batch_size": 51,
    "held_out": 10,
}


@pytest.mark.parametrize(("name", "value"), CHANGES.items())
def test_another_option_is_refused_by_its_name(finished, folder_bytes, name, value):
    before = folder_bytes(finished)
    found = f"--{name.replace('_', '-')} {getattr(TINY, name)}, not {value}"
    with pytest.raises(
        FolderError, match=f"contains a run with {re.escape(found)}; choose another"
    ):
        run(finished, replace(TINY, **{name: value}))
    assert folder_bytes(finished) == before


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("Years of work")
    with pytest.raises(
        FolderError, match=r"contains other files \(thesis\.txt, \.\.\.\); choose another"
    ):
        run(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == ["thesis.txt"]


def test_the_folder_of_another_experiment_is_refused(tmp_path):
    (tmp_path / "run.json").write_text('{"experiment": "speech", "config": {}}')
    with pytest.raises(FolderError, match="contains a run of speech, not of mnist"):
        run(tmp_path)


def test_a_folder_in_use_is_refused_and_free_afterwards(tmp_path):
    first = mnist.run(TINY, tmp_path, command="")
    next(first)
    with pytest.raises(FolderError, match="is in use by another run; wait for it to end"):
        run(tmp_path, steps=1)
    first.close()
    assert len(run(tmp_path, steps=1)) == 1


WRONG = {
    "seeds": 0,
    "teacher_units": 0,
    "teacher_epochs": 0,
    "teacher_learning_rate": math.nan,
    "teacher_input_dropout": 1.0,
    "teacher_hidden_dropout": -0.5,
    "teacher_max_norm": 0.0,
    "jitter": 28,
    "student_units": -1,
    "student_epochs": 0,
    "student_learning_rate": 0.0,
    "distilled_epochs": 0,
    "distilled_learning_rate": math.inf,
    "distilled_momentum": 1.0,
    "temperature": 0.0,
    "soft_weight": -1.0,
    "hard_weight": -1.0,
    "initial_scale": 0.0,
    "student_batch_size": 0,
    "held_out": 300,
}


@pytest.mark.parametrize(("name", "value"), WRONG.items())
def test_a_wrong_option_is_told_before_anything_is_trained_or_written(tmp_path, name, value):
    folder = tmp_path / "run"
    with pytest.raises(AttarError):
        run(folder, replace(TINY, **{name: value}), steps=1)
    assert not folder.exists()


def test_training_without_any_soft_or_hard_weight_is_refused_at_once(tmp_path):
    with pytest.raises(AttarError, match="soft_weight"):
        run(tmp_path / "run", replace(TINY, soft_weight=0.0), steps=1)
    assert not (tmp_path / "run").exists()


def test_held_out_examples_are_measured_on_and_not_trained_on(tmp_path, few_digits, monkeypatch):
    config = replace(TINY, held_out=100)
    seen = []

    def watch(network, transfer_set, *arguments, **options):
        seen.append(transfer_set.example_ids.tolist())
        return TrainingRun(network, transfer_set, *arguments, **options)

    monkeypatch.setattr(stages, "TrainingRun", watch)
    run(tmp_path, config)
    assert seen == [list(range(200))] * 4
    result = read(tmp_path)
    assert {row.paper for row in result.rows} == {None}
    assert {row.metric for row in result.rows} == {"held-out training errors"}
    last = few_digits.train.subset(torch.arange(200, 300))
    for name, row in zip(ROWS, result.rows, strict=True):
        network = mnist.make_stages(config, 0)[name].make_network()
        load_weights(tmp_path / f"{name}-0.safetensors", network)
        assert row.values == (evaluate(network, last).errors,)


def test_settings_are_not_chosen_by_networks_that_a_final_run_has_too():
    """A choice with the first weights and batches of a final seed favors that seed."""
    final = [mnist.make_stages(TINY, seed)["both"] for seed in range(20)]
    config = replace(TINY, held_out=100, seeds=2)
    for seed in range(2):
        choosing = mnist.make_stages(config, seed)["both"]
        assert choosing.name == f"both-{seed}"
        first = choosing.make_network().state_dict()["1.weight"]
        for each in final:
            assert choosing.settings.seed != each.settings.seed
            assert not torch.equal(first, each.make_network().state_dict()["1.weight"])


def test_teacher_logits_are_computed_once(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(
        stages,
        "compute_logits",
        lambda *sets, **options: (calls.append(1), compute_logits(*sets, **options))[1],
    )
    run(tmp_path, steps=18)  # teacher and hard targets are done
    assert calls == []
    for steps in (1, 7, None):
        run(tmp_path, steps=steps)
    assert calls == [1]


def test_teacher_logits_are_those_of_the_plain_training_set(finished, few_digits):
    teacher = mnist.make_stages(TINY, 0)["teacher"].make_network()
    load_weights(finished / "teacher-0.safetensors", teacher)
    path = finished / "teacher-0.logits.safetensors"
    kept = stages.kept_logits(path, teacher, few_digits.train)
    assert torch.equal(kept.values, compute_logits(teacher, few_digits.train))
    with pytest.raises(FolderError, match=r"made with other values .* data [0-9a-f]{8}, now "):
        stages.kept_logits(path, teacher, few_digits.test)


DAMAGED = {
    "run.json": '{"experiment"',
    "mnist.json": '{"experiment": "mnist"}',
    "teacher-0.json": "{}",
    "hard-0.json": '{"evaluation": 3, "wall_seconds": 1}',
    "soft-0.json": "",
    "both-0.safetensors": "\0" * 1000,
    "teacher-0.logits.safetensors": "",
}


@pytest.mark.parametrize(("name", "content"), DAMAGED.items())
def test_a_damaged_file_is_named(finished, tmp_path, name, content):
    for path in finished.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    if name != "mnist.json":  # a finished run needs no other file
        (tmp_path / "mnist.json").unlink()
    (tmp_path / name).write_text(content)
    with pytest.raises(FolderError, match=re.escape(name)):
        run(tmp_path)


@pytest.mark.parametrize("config", ["[]", "null", '{"seeds": "x"}', '{"seeds": null}'])
def test_a_damaged_configuration_is_named(tmp_path, config):
    (tmp_path / "run.json").write_text(f'{{"experiment": "mnist", "config": {config}}}')
    with pytest.raises(FolderError, match=re.escape(str(tmp_path))):
        run(tmp_path)


def test_a_missing_weights_file_is_named(tmp_path):
    run(tmp_path, steps=13)
    (tmp_path / "teacher-0.safetensors").unlink()
    with pytest.raises(FolderError, match=r"cannot read .*teacher-0\.safetensors"):
        run(tmp_path)


def test_a_teacher_that_diverges_is_told(tmp_path):
    config = replace(TINY, student_learning_rate=1e30)
    with pytest.raises(DivergedError, match=r"learning rate .*; try a lower learning rate"):
        run(tmp_path, config)


def test_weights_that_burst_in_the_last_step_are_told(tmp_path):
    config = replace(TINY, student_learning_rate=1e30, student_batch_size=300)  # its only step
    with pytest.raises(DivergedError):
        run(tmp_path, config)


def test_a_full_disk_is_told_and_the_run_goes_on_afterwards(finished, tmp_path, full_disk):
    with full_disk(20_000), pytest.raises(FolderError, match=r"cannot write .*teacher-0"):
        run(tmp_path)
    run(tmp_path)
    assert contents(tmp_path) == contents(finished)


def test_every_option_has_a_help_text_and_the_quick_run_is_the_full_one_in_small():
    assert all(field.metadata["help"].endswith(".") for field in fields(mnist.Config))
    changed = {
        name
        for name, value in asdict(mnist.QUICK).items()
        if value != getattr(mnist.Config(), name)
    }
    epochs = {"teacher_epochs", "student_epochs", "distilled_epochs"}
    assert changed <= {"seeds", *epochs, "teacher_hidden_dropout"}


def test_the_papers_settings_are_the_defaults():
    config = mnist.Config()
    assert (config.teacher_units, config.student_units) == (1200, 800)
    assert (config.temperature, config.jitter) == (20, 2)
    assert mnist.PAPER == {"teacher": 67, "hard": 146, "soft": None, "both": 74}


@pytest.mark.paper
@pytest.mark.long
def test_soft_targets_hand_down_what_the_teacher_learned_from_jitter(tmp_path, monkeypatch):
    """Section 3 in small: 2000 training digits, none of them jittered for the students.

    Over four seeds, of 10,000 test digits: teacher 801 ± 18 errors, hard targets 994 ± 15, soft
    targets 967 ± 12 (0.94 to 1.0 of those), soft and hard targets 799 ± 22 (0.78 to 0.84).
    """
    digits = load_mnist()
    few = Mnist(train=digits.train.subset(torch.arange(2000)), test=digits.test)
    monkeypatch.setattr(mnist, "load_mnist", lambda: few)
    monkeypatch.setattr(stages, "TrainingRun", TrainingRun)
    config = mnist.Config(
        seeds=1,
        teacher_units=200,
        teacher_epochs=20,
        teacher_hidden_dropout=0.4,
        student_units=100,
        student_epochs=15,
        distilled_epochs=60,
        distilled_momentum=0.9,  # more does damage in a warm-up of 20 steps
        teacher_batch_size=100,
        student_batch_size=100,
    )
    run(tmp_path, config)
    teacher, hard, soft, both = (row.mean for row in read(tmp_path).rows)
    assert teacher < both < soft < hard
    assert both < 0.85 * hard
