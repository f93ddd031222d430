"""What identifies a step is what decides its outputs: code that it uses, no addresses or places."""

import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from job_folder import JobFolder
from torch import nn

from attar.comparison import Comparison
from attar.errors import JobError
from attar.jobs import read_job
from attar.jobs.exploring import explore_job
from attar.objects import make_object
from attar.teachers.fingerprints import hash_network

STEPS = ["train teacher-0", "label", "distill seed-0", "baseline seed-0", "compare"]
SKIPPED = [f"{step}: nothing has changed, skipped" for step in STEPS]

DATA = """
import numpy as np
import attar
import view_helpers


def shifted(inputs, example_ids, view):
    return view_helpers.move(inputs, view)


def make_set():
    with np.load("train.npz") as arrays:
        return attar.TransferSet(arrays["inputs"], arrays["hard_targets"], views=shifted)
"""
HELPERS = """
def move(inputs, view):
    return inputs.roll(view, dims=-1)
"""
CLASSES = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, units):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(16, units), nn.ReLU(), nn.Linear(units, 3)
        )

    def forward(self, inputs):
        return self.layers(inputs)


def make_teacher():
    return Net(12)


def make_student():
    return Net(4)
"""


@pytest.fixture(autouse=True)
def fresh_imports():
    """Let a file beside the job's be imported anew, as in another process."""
    yield
    sys.modules.pop("view_helpers", None)


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Jobs that are done: one with views, one with networks that are classes of its folder."""
    here, roots = Path.cwd(), {}
    for kind in ("views", "classes"):
        roots[kind] = tmp_path_factory.mktemp(kind)
        folder = JobFolder(roots[kind])
        if kind == "views":
            (folder.root / "data.py").write_text(DATA, encoding="utf-8")
            (folder.root / "view_helpers.py").write_text(HELPERS, encoding="utf-8")
            folder.edit('source = "train.npz"', 'source = "data.py:make_set"')
            folder.edit("[student]", "[soft_targets]\nviews = [0, 1]\n\n[student]")
        else:
            (folder.root / "networks.py").write_text(CLASSES, encoding="utf-8")
        os.chdir(folder.root)
        folder.run()
    os.chdir(here)
    return roots


@pytest.fixture
def copy(originals, tmp_path, monkeypatch):
    """Copy one of them to another folder."""

    def make(kind):
        root = tmp_path / "moved" / kind
        shutil.copytree(originals[kind], root)
        monkeypatch.chdir(root)
        return JobFolder(root, new=False)

    return make


@pytest.fixture
def with_views(copy):
    """A job whose views are a function in its folder, of which a part is in another file."""
    return copy("views")


@pytest.fixture
def with_classes(copy):
    """A job whose networks are classes of its folder."""
    return copy("classes")


def test_a_job_whose_views_are_a_function_is_skipped_as_a_whole_also_elsewhere(with_views):
    assert with_views.run()[: len(STEPS)] == SKIPPED
    with_views.edit("def shifted", "# why\ndef shifted", "data.py")
    assert with_views.run()[: len(STEPS)] == SKIPPED


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("data.py", "view_helpers.move(inputs, view)", "view_helpers.move(inputs, -view)"),
        ("view_helpers.py", "roll(view", "roll(2 * view"),
    ],
)
def test_views_whose_code_changed_are_labeled_and_learned_again(with_views, file, before, after):
    with_views.edit(before, after, file)
    told = "\n".join(with_views.run("train", "label", "distill"))
    for step in STEPS[:4]:
        assert re.search(f"{step} again: .*the views' code changed", told)


def test_a_new_student_beside_a_class_leaves_the_teacher_alone(with_classes):
    with_classes.edit(
        "def make_student", "def make_other():\n    pass\n\n\ndef make_student", "networks.py"
    )
    assert with_classes.run()[: len(STEPS)] == SKIPPED
    with_classes.edit("Net(4)", "Net(5)", "networks.py")
    told = with_classes.run()
    assert told[:2] == SKIPPED[:2]
    assert told[2].startswith("distill seed-0 again: the student's code changed")


def test_files_of_one_name_are_kept_apart(tmp_path):
    made = []
    for place, units in (("one", 3), ("two", 4)):
        (tmp_path / place).mkdir()
        code = CLASSES.replace("Net(4)", f"Net({units})")
        (tmp_path / place / "net.py").write_text(code, encoding="utf-8")
        made.append(make_object("net.py:make_student", tmp_path / place, nn.Module))
    assert [network.layers[1].out_features for network in made] == [3, 4]
    assert type(made[0]) is not type(made[1])
    assert hash_network(made[0]) != hash_network(made[1])


def test_a_student_that_only_answers_differently_is_compared_again(with_classes):
    with_classes.edit(
        "return self.layers(inputs)",
        "return self.layers(inputs) if self.training else -self.layers(inputs)",
        "networks.py",
    )
    told = with_classes.run()
    assert "compare again: " in "\n".join(told)


def test_the_compared_teacher_is_the_one_that_taught(with_classes):
    with_classes.edit("return self.layers(inputs)", "return -self.layers(inputs)", "networks.py")
    with_classes.run("train")
    with pytest.raises(JobError, match=r"step label have changed: the teacher's code"):
        with_classes.run("compare")


def test_the_compared_ensemble_has_the_weights_with_which_it_taught(done):
    text = done.path.read_text("utf-8")
    begin, end = text.index("[teacher]"), text.index("[student]")
    first = text[begin:end].replace("[teacher]", "[[teacher]]")
    second = first.replace("epochs = 2", "epochs = 1\nseed = 5")
    expected = errors_of_teacher(done)
    both = text[:begin] + second + first + text[end:]
    done.path.write_text(both, encoding="utf-8")
    done.run()
    assert errors_of_teacher(done) != expected
    both = both.replace("temperature = 4.0", "temperature = 4.0\nmember_weights = [0, 1]")
    done.path.write_text(both, encoding="utf-8")
    done.run()
    assert errors_of_teacher(done) == expected
    shown = explore_job(read_job(done.path)).sets[0]
    wrong = shown.logits["teacher"].argmax(1) != shown.examples.hard_targets
    assert int(wrong.sum()) == expected
    assert "member_weights" in (done.root / "job/compare/report.html").read_text("utf-8")


def errors_of_teacher(folder):
    found = Comparison.read(folder.root / "job/compare/comparison.json")
    return found.model("teacher").networks[0].errors


def test_a_teacher_of_scores_with_weights_is_not_compared(folder):
    scores = np.arange(240, dtype=np.float32).reshape(2, 40, 3)
    for place in (0, 1):
        np.save(folder.root / f"scores-{place}.npy", scores[place])
    text = folder.path.read_text("utf-8")
    begin, end = text.index("[teacher]"), text.index("[student]")
    tables = "".join(f'[[teacher]]\nsource = "scores-{place}.npy"\n' for place in (0, 1))
    text = text[:begin] + tables + text[end:]
    folder.path.write_text(
        text.replace("temperature = 4.0", "temperature = 4.0\nmember_weights = [3, 1]"), "utf-8"
    )
    told = folder.run()
    assert "the teacher is not compared: its stored scores cover only the transfer set" in told


def test_weights_that_are_all_zero_are_refused_before_anything_is_done(folder):
    folder.edit("temperature = 4.0", "temperature = 4.0\nmember_weights = [0]")
    with pytest.raises(JobError, match=r"member_weights: expected weights that are not all 0"):
        read_job(folder.path)
