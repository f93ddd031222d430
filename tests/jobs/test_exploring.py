"""A finished job as an exploration: the networks, the sets, and what is told when they are gone."""

import numpy as np
import pytest
import torch

from attar import cli
from attar.errors import FolderError, JobError
from attar.jobs import read_job
from attar.jobs.exploring import explore_job, find_job
from attar.targets import SoftTargets


def test_teacher_and_students_are_those_of_the_job(done):
    shown = explore_job(find_job(done.root / "job"))
    assert [each.name for each in shown.models] == ["teacher", "distilled", "hard targets"]
    assert [(each.name, len(each.examples)) for each in shown.sets] == [
        ("test", 30),
        ("transfer", 40),
    ]
    v = shown.sets[1].logits["teacher"]
    stored = SoftTargets.open(done.root / "job/label/targets").batch(torch.arange(40)).logits
    torch.testing.assert_close(v - v.amax(1, keepdim=True), stored, atol=0.01, rtol=0.01)
    assert (shown.temperature, shown.title) == (4.0, "job")
    assert shown.facts["Student"] == "networks.py:make_student, of the first of 1 seed(s)"


@pytest.mark.parametrize("argument", ["job", "job.toml"])
def test_the_command_takes_the_folder_or_the_job_file(done, argument, capsys, shape_hints_off):
    with pytest.raises(SystemExit) as caught:
        cli.main(["explore", argument])
    assert not caught.value.code
    assert capsys.readouterr().out.startswith("job/explorer.html: ")
    assert "attar run job.toml" in (done.root / "job/explorer.html").read_text("utf-8")


def test_scores_made_elsewhere_are_shown_on_the_transfer_set_alone(done):
    scores = np.arange(120, dtype=np.float32).reshape(40, 3)
    np.save(done.root / "scores.npy", scores)
    done.edit("networks.py:make_teacher", "scores.npy")
    done.edit("[teacher.train]\nepochs = 2\nbatch_size = 16\nlearning_rate = 0.01\n", "")
    done.run("label", "distill")
    shown = explore_job(read_job(done.path))
    assert [each.name for each in shown.sets] == ["transfer"]
    torch.testing.assert_close(shown.sets[0].logits["teacher"], torch.from_numpy(scores))


def test_an_ensemble_is_shown_as_its_mean_and_a_chosen_temperature_as_chosen(folder):
    teacher = '[teacher]\nsource = "networks.py:make_teacher"\n'
    folder.edit("[teacher.train]\nepochs = 2\nbatch_size = 16\nlearning_rate = 0.01\n", "")
    folder.edit(teacher, 2 * teacher.replace("[teacher]", "[[teacher]]"))
    folder.edit("4.0", '"auto"\nmember_weights = [1, 3]')
    folder.run("label", "distill")
    shown = explore_job(read_job(folder.path))
    p = shown.sets[0].logits["teacher"].softmax(1)
    torch.testing.assert_close(p.sum(1), torch.ones(len(p)))
    assert shown.teacher.network is None  # no single one could answer a drawing
    assert 1 <= shown.temperature <= 20


def test_what_is_gone_or_not_done_is_told(done):
    done.edit("4.0", "3.0")
    with pytest.raises(JobError, match=r"distill seed-0 as it was done, got temperature 4.0 -> 3"):
        explore_job(read_job(done.path))
    done.path.rename(done.root / "other.toml")
    with pytest.raises(FolderError, match=r"expected job.toml, whose results .*job holds"):
        find_job(done.root / "job")
