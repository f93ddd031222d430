"""A finished job as an exploration: the networks, the sets, and what is told when they are gone."""

import json
import re

import numpy as np
import pytest
import torch

from attar import cli
from attar.errors import JobError
from attar.jobs import read_job
from attar.jobs.exploring import explore_job
from attar.targets import SoftTargets


def test_teacher_and_students_are_those_of_the_job(done):
    shown = explore_job(read_job(done.path))
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


@pytest.fixture
def command(capsys, shape_hints_off):
    """Run a command line; return its exit code, output and errors."""

    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            cli.main(list(arguments))
        return caught.value.code or 0, *capsys.readouterr()

    return run


def test_the_command_takes_the_job_file(done, command):
    code, out, err = command("explore", "job.toml")
    assert (code, err) == (0, "")
    assert out.startswith("job/explorer.html: ")
    assert "attar run job.toml" in (done.root / "job/explorer.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        ("job.toml", r"runs the Python code that it names; if you trust it, run: .*/job\.toml$"),
        ("gone.toml", r"attar explore gone\.toml \(no folder above job has gone\.toml\)$"),
        ("job/sub/evil.toml", r"job\.json is damaged: expected the name of a job file"),
        ("../job.toml", r"job\.json is damaged"),
        ("..", r"job\.json is damaged"),
        ("/etc/hostname", r"job\.json is damaged"),
        ("https://example.com/job.toml", r"job\.json is damaged"),
        ("job\x1b[2J.toml", r"job\.json is damaged"),
        (5, r"job\.json is damaged"),
    ],
)
def test_a_received_folder_never_runs_code(done, command, job, expected):
    evil = "from pathlib import Path\nPath('PWNED').touch()\n"
    (done.root / "networks.py").write_text(evil, encoding="utf-8")
    (done.root / "job" / "sub").mkdir()
    (done.root / "job/sub/evil.py").write_text(evil, encoding="utf-8")
    text = done.path.read_text("utf-8").replace("networks.py", "evil.py")
    (done.root / "job/sub/evil.toml").write_text(f'folder = ".."\n{text}', encoding="utf-8")
    (done.root / "job/job.json").write_text(json.dumps({"job": job}), encoding="utf-8")
    code, out, err = command("explore", "job")
    assert (code, out) == (2, "")
    assert re.search(expected, err.strip()), err
    assert command("compare", "job")[0] == 2
    assert command("compare", "job", "--on", "train.npz")[0] == 2
    for name in ("inspect", "verify"):
        assert command("targets", name, "job/label/targets")[0] == 0
    assert not list(done.root.rglob("PWNED"))


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
    with pytest.raises(JobError, match=r"distill seed-0 have changed: temperature 4.0 -> 3"):
        explore_job(read_job(done.path))


def test_the_explored_teacher_is_the_one_that_taught(done):
    done.edit("nn.Linear(16, 12), nn.ReLU()", "nn.Linear(16, 12), nn.Tanh()", "networks.py")
    done.run("train")
    with pytest.raises(JobError, match=r"step label have changed: the teacher's code"):
        explore_job(read_job(done.path))
