"""Steps are done once for their inputs, said to be skipped or done again, and never lost."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from attar.comparison import Comparison
from attar.errors import FolderError, JobError
from attar.files import hold_folder
from attar.jobs import read_job, run_job
from attar.precision import auto_precision

STEPS = ["train teacher-0", "label", "distill seed-0", "baseline seed-0", "compare"]
SKIPPED = [f"{step}: nothing has changed, skipped" for step in STEPS]


def test_a_job_leaves_weights_soft_targets_and_a_comparison(done):
    assert set(done.contents("**/*.*")) - {"job.json"} >= {
        "train/teacher-0/teacher.safetensors",
        "label/targets/manifest.json",
        "label/targets/shard-00000.arrow",
        "distill/seed-0/student.safetensors",
        "baseline/seed-0/student.safetensors",
        "compare/comparison.json",
        "compare/report.html",
    }
    found = Comparison.read(done.root / "job/compare/comparison.json")
    assert [(each.name, each.role) for each in found.models] == [
        ("teacher", "teacher"),
        ("hard targets", "baseline"),
        ("distilled", "student"),
    ]
    assert not done.contents("**/*checkpoint*")
    page = (done.root / "job/compare/report.html").read_text("utf-8")
    for told in (
        "mean loss",
        "distill.temperature",
        "teacher.0.train.epochs",
        "attar run ",
    ):
        assert told in page, told


def test_a_margin_reaches_the_comparison_and_the_headline_comes_first(done):
    done.edit("latency = false", "latency = false\nmargin = 0.25")
    told = done.run()
    found = Comparison.read(done.root / "job/compare/comparison.json")
    assert found.margin == 0.25
    assert all(each.equivalence_p_value is not None for each in found.verdicts)
    (text,) = (line for line in told if "verdicts at level" in line)
    assert " ".join(text.split()).startswith(found.headline)


def test_each_training_records_its_precision(done):
    for name in ("train/teacher-0", "distill/seed-0", "baseline/seed-0"):
        record = json.loads((done.root / "job" / name / "step.json").read_text("utf-8"))
        assert record["precision"] == auto_precision(torch.device("cpu"))


def test_a_second_run_skips_every_step(done):
    before = done.contents("**/*.*")
    assert done.run()[: len(STEPS)] == SKIPPED
    assert done.contents("**/*.*") == before


def test_labeling_tells_how_often_the_teacher_is_right(folder):
    told = folder.run("train", "label")
    (line,) = [line for line in told if line.startswith("teacher: ")]
    assert re.fullmatch(
        r"teacher: right on [\d.]+ % of 40 labeled examples \(most frequent class 35.0 %\), NLL .*",
        line,
    )
    assert not any("warning" in line for line in told)


@pytest.mark.parametrize("expected", ["", "[soft_targets]\nexpected_accuracy = 0.9\n"])
def test_a_wrong_teacher_is_told_by_label_and_told_again_when_it_is_skipped(folder, expected):
    folder.spoil_teacher()
    folder.edit("[student]", f"{expected}[student]")
    told = folder.run("label")
    begin = "warning: the teacher is right on 33.3 % of 120 labeled examples, not significantly mor"
    assert [line[: len(begin)] for line in told].count(begin) == 1
    assert "teacher: right on 33.3 % of 120 labeled examples (most frequent class 33.3 %)" in (
        line.partition(", NLL")[0] for line in told
    )
    again, warning = folder.run("label")
    assert again == "label: nothing has changed, skipped"
    assert warning.startswith(begin)


def test_an_expected_accuracy_does_not_label_again(done):
    done.edit("[baseline]", "[soft_targets]\nexpected_accuracy = 0.9\n[baseline]")
    told = done.run("label")
    assert told[0] == "label: nothing has changed, skipped"
    assert (
        "warning: checking expected_accuracy needs at least 50 examples with a hard target, go"
        in (told[1][:85])
    )


def test_the_same_job_gives_the_same_bytes_elsewhere(done, folder):
    os.chdir(folder.root)
    folder.run()
    assert folder.contents() == done.contents()


@pytest.mark.parametrize(
    ("before", "after", "again"),
    [
        ("temperature = 4.0", "temperature = 2.0", {"distill": "temperature 4.0 -> 2.0"}),
        ("learning_rate = 0.01", "learning_rate = 0.02", {"train": "learning_rate 0.01 -> 0.02"}),
        (
            "[baseline]",
            "[soft_targets]\nencoding = 'sparse'\nk = 2",
            {"label": "encoding dense ->"},
        ),
        ("[baseline]", "[baseline]\nepochs = 3", {"baseline": "epochs 2 -> 3"}),
    ],
)
def test_what_has_changed_is_said_and_only_that_is_done_again(done, before, after, again):
    done.edit(before, after)
    told = "\n".join(done.run())
    for step in STEPS[:4]:
        name = step.partition(" ")[0]
        if name in again:
            assert f"{step} again: {again[name]}" in told
        elif name == "train":
            assert f"{step}: nothing has changed, skipped" in told


def test_an_earlier_result_is_kept_and_comes_back(done):
    before = done.contents("distill/**/*.safetensors")
    done.edit("temperature = 4.0", "temperature = 2.0")
    done.run()
    kept = done.contents("earlier/distill/**/*.safetensors")
    assert list(kept.values()) == list(before.values())
    done.edit("temperature = 2.0", "temperature = 4.0")
    told = done.run()
    line = "distill seed-0: temperature 2.0 -> 4.0; earlier result restored from earlier/"
    assert line in told
    assert done.contents("distill/**/*.safetensors") == before


def test_code_data_and_weights_that_changed_are_noticed(done):
    done.edit("nn.Linear(16, 4), nn.ReLU()", "nn.Linear(16, 4), nn.Tanh()", "networks.py")
    told = done.run()
    assert told[:2] == SKIPPED[:2]
    assert told[2].startswith("distill seed-0 again: the student's code changed")
    with np.load("train.npz") as arrays:
        np.savez("train.npz", **dict(arrays) | {"inputs": arrays["inputs"][::-1]})
    told = "\n".join(done.run())
    for step in STEPS[:4]:
        assert f"{step} again: the " in told


def test_a_new_seed_leaves_the_others_alone(done):
    done.edit("temperature = 4.0", "temperature = 4.0\nseeds = [0, 1]")
    told = done.run()
    assert told[:4] == SKIPPED[:4]
    assert "distill/seed-1/student.safetensors" in done.contents()
    weights = done.contents("distill/**/*.safetensors")
    assert len(set(weights.values())) == 2


def test_a_file_that_is_not_as_it_was_written_is_kept_and_made_again(done):
    path = done.root / "job/distill/seed-0/student.safetensors"
    whole = path.read_bytes()
    path.write_bytes(b"something else")
    with pytest.raises(JobError, match=r"student\.safetensors is damaged or was changed; run"):
        done.run("compare")
    assert "distill seed-0 again: student.safetensors is damaged or was changed" in done.run()
    assert path.read_bytes() == whole
    assert b"something else" in done.contents("earlier/**/*.safetensors").values()


@pytest.mark.parametrize("lost", [True, False])
def test_a_lost_or_damaged_shard_is_labeled_again_and_no_student_learns_from_it(done, lost):
    # The step said that nothing had changed; students were trained from the damaged shard.
    path, before = done.root / "job/label/targets/shard-00000.arrow", done.contents()
    if lost:
        path.unlink()
    else:
        flip(path)
    shutil.rmtree(done.root / "job/distill")
    fault = "is missing" if lost else "is damaged: expected SHA-256"
    with pytest.raises(FolderError, match=rf"shard-00000\.arrow {fault}.*label again"):
        done.run("distill")
    assert not done.contents("distill/**/*.safetensors")
    told = done.run()
    at = told.index("label: 1 of 1 shards are missing or damaged; only these are labeled again")
    assert re.search(
        rf"^warning: .*shard-00000\.arrow {fault}.* will be written again", told[at + 1]
    )
    assert done.contents() == before


@pytest.mark.parametrize(
    ("harm", "parts", "is_seen"),
    [("cut", (), True), ("flip", (), False), ("flip", ("label",), True)],
)
def test_shards_are_read_as_a_whole_only_where_that_matters(done, harm, parts, is_seen):
    path = done.root / "job/label/targets/shard-00000.arrow"
    whole = path.read_bytes()
    if harm == "flip":
        flip(path)
    else:
        path.write_bytes(whole[:-8])
    told = done.run(*parts)
    assert any("shards are missing or damaged" in line for line in told) == is_seen
    assert (path.read_bytes() == whole) == is_seen
    assert SKIPPED[2] in told or parts


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_single_steps_ask_for_what_they_need(folder):
    for part, missing, command in (
        ("label", "train teacher-0", "train"),
        ("distill", "label", "label"),
        ("compare", "train teacher-0", "train"),
    ):
        expected = rf"step {missing} is not started; run `attar {command} .*job\.toml`"
        with pytest.raises(JobError, match=expected):
            folder.run(part)
    for part in ("train", "label", "distill", "compare"):
        folder.run(part)
    assert folder.run()[: len(STEPS)] == SKIPPED


def test_students_need_no_teacher(done):
    done.edit("def make_teacher", "def make_nothing", "networks.py")
    done.edit("temperature = 4.0", "temperature = 3.0")
    assert done.run("distill")[0] == "distill seed-0 again: temperature 4.0 -> 3.0"
    with pytest.raises(JobError, match=r"line 9, teacher\.source: .*networks\.py has no"):
        done.run()


def test_other_soft_targets_are_not_taken_for_those_asked_for(done):
    done.edit("[baseline]", "[soft_targets]\nencoding = 'sparse'\nk = 2")
    with pytest.raises(JobError, match=r"step label have changed: encoding dense -> sparse"):
        done.run("distill")


def test_a_folder_of_something_else_is_left_alone(folder):
    (folder.root / "job").mkdir()
    (folder.root / "job" / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(FolderError, match=r'contains other files \(thesis\.txt, .*"runs/job"'):
        folder.run()
    assert [path.name for path in (folder.root / "job").iterdir() if path.name[0] != "."] == [
        "thesis.txt"
    ]


def test_a_folder_of_another_job_is_left_alone(done):
    other = done.root / "other.toml"
    other.write_text('folder = "job"\n' + done.path.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(FolderError, match=r"contains the results of job\.toml, not other\.toml"):
        run_job(read_job(other), ("train",), lambda now: None)


def test_a_folder_in_use_is_left_alone(done):
    with hold_folder(done.root / "job"), pytest.raises(FolderError, match="in use by another run"):
        done.run()


def test_a_loss_that_is_not_finite_blames_the_table(folder):
    folder.edit("learning_rate = 0.01", "learning_rate = 1e15\noptimizer = 'sgd'")
    with pytest.raises(JobError, match=r"line 10, teacher\.train: step \d+: the .* try a lower"):
        folder.run()


KILLED = """
import sys
from functools import partial
from pathlib import Path
from attar import distillation
from attar.jobs import PARTS, read_job, run_job, students
from attar.training import TrainingRun

for module in (distillation, students):
    module.TrainingRun = partial(TrainingRun, checkpoint_seconds=0.0)
run_job(read_job(Path("job.toml")), PARTS, lambda now: print(now, flush=True))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs SIGKILL")
def test_killed_and_started_again_the_bytes_are_the_same(done, folder):
    at = "distill seed-0"
    os.chdir(folder.root)
    folder.edit("epochs = 2", "epochs = 40")
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True, cwd=folder.root
    )
    for line in process.stdout:
        if line.startswith(f"{at} · epoch 2/"):
            break
    else:
        pytest.fail("it ended before it was killed")
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    told = folder.run()
    assert f"{at}: resumes" in told
    os.chdir(done.root)
    done.edit("epochs = 2", "epochs = 40")
    done.run()
    earlier = {name for name in done.contents() if name.startswith("earlier/")}
    whole = {name: content for name, content in done.contents().items() if name not in earlier}
    assert folder.contents() == whole
