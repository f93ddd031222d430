"""A plan measures a few batches, adds up right, and writes nothing."""

import pytest

from attar.errors import JobError
from attar.jobs import planning, read_job
from attar.jobs.planning import plan_job


def test_bytes_and_updates_add_up(folder):
    folder.edit("[baseline]", "seeds = [0, 1]\n[baseline]\nepochs = 5\n[soft_targets]\nviews = [0]")
    plan = plan_job(read_job(folder.path))
    assert (plan.examples, plan.classes, plan.views, plan.members) == (40, 3, 1, 1)
    assert [(each.name, each.total_bytes, each.is_chosen) for each in plan.encodings] == [
        ("dense", 40 * 3 * 2, True)
    ]
    updates = {each.name: each.detail.partition(" ")[0] for each in plan.durations}
    assert updates["train teacher-0"] == "6"  # 2 epochs of 3 batches
    assert updates["distill"] == "12"  # and two seeds
    assert updates["baseline"] == "30"
    assert all(each.seconds > 0 for each in plan.durations)
    assert plan.measured_examples == 0
    assert "not trained yet" in plan.note


def test_a_temperature_to_be_chosen_is_trained_for(folder):
    folder.edit("4.0", '"auto"')
    plan = plan_job(read_job(folder.path))
    updates = {each.name: each.detail.partition(" ")[0] for each in plan.durations}
    assert updates["the temperature"] == "6"  # 4 are held out: 2 epochs of 3 batches
    assert plan.temperatures == planning.TEMPERATURES


def test_nothing_is_written(folder):
    before = sorted(path.name for path in folder.root.rglob("*"))
    plan_job(read_job(folder.path))
    assert sorted(path.name for path in folder.root.rglob("*")) == before


def test_what_sparse_soft_targets_lose_is_told_once_there_is_a_teacher(done):
    done.edit("[baseline]", "[soft_targets]\nencoding = 'sparse'\nk = 1")
    plan = plan_job(read_job(done.path))
    dense, sparse = plan.encodings
    assert plan.durations[0].detail == "done already"
    assert (sparse.name, sparse.is_chosen, plan.measured_examples) == ("k = 1", True, 40)
    assert plan.temperatures == (1.0, 2.0, 4.0, 10.0, 20.0)
    assert all(lost < 1e-4 for lost in dense.lost_nats)
    assert all(more > less for more, less in zip(sparse.lost_nats, dense.lost_nats, strict=True))
    assert sparse.lost_nats[-1] == pytest.approx(0, abs=0.01)  # nearly uniform at T = 20


def test_a_trained_teacher_is_measured_on_the_sample(done):
    plan = plan_job(read_job(done.path))
    assert (plan.teacher.labeled, plan.teacher.classes, plan.doubt) == (40, 3, None)
    assert 0 <= plan.teacher.accuracy <= 1


def test_a_teacher_that_is_not_trained_yet_is_not_measured(folder):
    plan = plan_job(read_job(folder.path))
    assert (plan.teacher, plan.doubt) == (None, None)


def test_a_wrong_teacher_is_told_before_anything_is_spent(folder):
    folder.spoil_teacher()
    plan = plan_job(read_job(folder.path))
    assert plan.teacher.accuracy == pytest.approx(1 / 3)
    assert plan.doubt.startswith("the teacher is right on 33.3 % of 120 labeled examples, not sig")


def test_a_teacher_that_fails_on_every_example_is_told_in_one_line(folder):
    folder.spoil_teacher()
    folder.edit("torch.tensor", "torch.ones(3) @ torch.tensor", "wrong.py")
    folder.edit("[2.0, 0.0, 0.0]", "[2.0, 0.0]", "wrong.py")
    with pytest.raises(JobError, match=r"soft_targets: the teacher fails on every example \(first"):
        plan_job(read_job(folder.path))


def test_what_torch_loads_at_the_first_update_is_not_taken_for_its_time(folder, monkeypatch):
    clock, run = [0.0], planning.TrainingRun

    def updates(*given):
        for step in run(*given):
            clock[0] += 60.0 if step.index == 1 else 0.25
            yield step

    monkeypatch.setattr(planning, "TrainingRun", updates)
    monkeypatch.setattr(planning.time, "monotonic", lambda: clock[0])
    plan = plan_job(read_job(folder.path))
    assert [each.seconds for each in plan.durations if "updates" in each.detail] == [1.5] * 3
