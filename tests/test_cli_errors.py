"""Errors of the user's code are one line with their file and line; --debug shows the traceback."""

import re
from pathlib import Path

import pytest
from job_folder import JobFolder

from attar.cli import main

NETWORKS = """\
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, units):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(16, units), nn.ReLU(), nn.Linear(units, 3)
        )

    def forward(self, inputs):
        logits = self.layers(inputs)
        check(self, inputs)
        return logits


def check(network, inputs):
    if FAILS:
        {}["a key"]


def make_teacher():
    return Net(12)


def make_student():
    return Net(4)
"""
LINE = 20  # where it fails
DATA = """\
import numpy as np
import attar


def move(inputs, example_ids, view):
    return inputs[:, :, :, 0]


def make_set():
    with np.load("train.npz") as arrays:
        return attar.TransferSet(arrays["inputs"], arrays["hard_targets"], views=move)


def make_wrong():
    return attar.TransferSet(np.zeros((4, 2)), np.arange(3))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ATTAR_DEBUG", raising=False)
    return JobFolder(tmp_path)


@pytest.fixture
def attar(capsys, shape_hints_off):
    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            main(list(arguments))
        return caught.value.code or 0, *capsys.readouterr()

    return run


def write_networks(fails):
    Path("networks.py").write_text(NETWORKS.replace("FAILS", fails), encoding="utf-8")


@pytest.mark.parametrize(
    ("fails", "commands", "place"),
    [
        ("True", ["run"], "line 19, student.source: networks.py:make_student fails on inputs"),
        ("True", ["plan"], "line 19, student.source: "),
        ("network.training", ["run"], "line 10, teacher.train: "),
        ("network.training", ["plan"], ""),
        ("len(network.layers[1].bias) == 4 and network.training", ["run"], "line 21, distill: "),
        ("len(network.layers[1].bias) == 12 and len(inputs) == 7", ["run"], "soft_targets: "),
        ("len(inputs) == 30", ["run"], "model 'teacher' fails on inputs"),
        ("len(inputs) == 30", ["train", "label", "distill", "compare"], "model 'teacher' fails"),
        ("len(inputs) == 30", ["train", "label", "distill", "explore"], ""),
    ],
)
def test_an_error_in_a_forward_has_the_users_line(folder, attar, fails, commands, place):
    write_networks(fails)
    folder.edit("[student]", "[soft_targets]\nbatch_size = 33\n\n[student]")  # 40: 33 and 7
    for command in commands[:-1]:
        assert attar(command, "job.toml")[0] == 0
    code, _, err = attar(commands[-1], "job.toml")
    assert code == 2
    where = re.escape(f"({folder.root / 'networks.py'}, line {LINE})")
    assert re.fullmatch(rf"attar: error: .*{re.escape(place)}.*KeyError: 'a key'.*{where}\n", err)
    assert err.count("networks.py, line") == 1


@pytest.mark.parametrize(
    ("source", "views", "expected"),
    [
        ("make_wrong", "[0]", r"line 3, transfer_set\.source: .*ShapeError.*data\.py, line 15\)"),
        ("make_set", "[1]", r"IndexError: .*data\.py, line 6\)"),
    ],
)
def test_an_error_in_data_has_the_users_line(folder, attar, source, views, expected):
    (folder.root / "data.py").write_text(DATA, encoding="utf-8")
    folder.edit('source = "train.npz"', f'source = "data.py:{source}"')
    folder.edit("[student]", f"[soft_targets]\nviews = {views}\n\n[student]")
    folder.edit("[teacher.train]\nepochs = 2\nbatch_size = 16\nlearning_rate = 0.01\n", "")
    code, _, err = attar("run", "job.toml")
    assert code == 2
    assert re.fullmatch(rf"attar: error: job\.toml, .*{expected}.*\n", err), err


def test_an_error_of_an_exported_network_has_the_users_line(folder, attar):
    write_networks("False")
    assert attar("train", "job.toml")[0] == 0
    write_networks("True")
    options = ("--network", "networks.py:make_teacher", "--data", "test.npz")
    weights = "job/train/teacher-0/teacher.safetensors"
    code, out, err = attar("export", weights, *options, "--format", "safetensors")
    assert (code, out) == (2, "")
    assert re.fullmatch(rf"attar: error: .*KeyError.*networks\.py, line {LINE}\).*\n", err)


@pytest.mark.parametrize("how", ["first", "last", "environment"])
def test_debug_shows_the_traceback_before_the_line(folder, attar, monkeypatch, how):
    write_networks("True")
    arguments = {"first": ("--debug", "run", "job.toml"), "last": ("run", "job.toml", "--debug")}
    if how == "environment":
        monkeypatch.setenv("ATTAR_DEBUG", "1")
    code, _, err = attar(*arguments.get(how, ("run", "job.toml")))
    assert code == 2
    assert err.startswith("Traceback (most recent call last):\n")
    assert f'networks.py", line {LINE}, in check' in err
    last = err.splitlines()[-1]
    assert re.fullmatch(rf"attar: error: .*networks\.py, line {LINE}\)", last)


def test_debug_changes_no_other_error(folder, attar, monkeypatch):
    monkeypatch.setenv("ATTAR_DEBUG", "0")
    code, out, err = attar("run", "gone.toml")
    assert (code, out) == (2, "")
    assert err.startswith("attar: error: cannot read gone.toml")
    assert "JobError" in attar("--debug", "run", "gone.toml")[2]


def test_ctrl_c_in_the_users_code_is_an_interruption(folder, attar):
    text = NETWORKS.replace('{}["a key"]', "raise KeyboardInterrupt")
    Path("networks.py").write_text(text.replace("FAILS", "True"), encoding="utf-8")
    code, _, err = attar("run", "job.toml")
    assert code == 130
    assert err == "attar: interrupted; run the same command again to resume\n"


def test_memory_that_is_not_there_is_told(folder, attar):
    text = NETWORKS.replace('{}["a key"]', "raise MemoryError('9 TB')")
    Path("networks.py").write_text(text.replace("FAILS", "network.training"), encoding="utf-8")
    code, _, err = attar("run", "job.toml")
    assert code == 2
    assert re.fullmatch(r"attar: error: .*MemoryError: 9 TB \(.*networks\.py, line 20\)\n", err)
