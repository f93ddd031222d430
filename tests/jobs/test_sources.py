"""What a job file may name: sets, teachers and students of all kinds; errors have their line."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from attar.errors import JobError
from attar.jobs import read_job
from attar.jobs.sources import (
    load_teacher,
    load_test_set,
    load_transfer_set,
    make_network,
)

OBJECTS = """
import numpy as np
import torch
from torch import nn
from attar import TransferSet

network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))


def make_set():
    return TransferSet(torch.zeros(6, 4, 4), torch.arange(6) % 3)


def make_function():
    return lambda inputs: inputs.flatten(1)[:, :3].double().numpy()


def make_nothing():
    return None
"""


def teacher_of(job):
    transfer_set = load_transfer_set(job)
    return load_teacher(job, transfer_set, lambda position: None), transfer_set


@pytest.fixture
def objects(folder):
    (folder.root / "objects.py").write_text(OBJECTS, encoding="utf-8")
    folder.edit("[teacher.train]\nepochs = 2\nbatch_size = 16\nlearning_rate = 0.01\n", "")
    return folder


def test_sets_come_from_files_tables_and_objects(objects):
    given = load_transfer_set(read_job(objects.path))
    table = "a,b,kind\n1,2,x\n3,4,y\n"
    (objects.root / "train.csv").write_text(table, encoding="utf-8")
    objects.edit('"train.npz"', '"train.csv"\ntarget = "kind"\nexamples = 1')
    one = load_transfer_set(read_job(objects.path))
    assert (len(given), len(one), one.class_names) == (40, 1, ("x", "y"))
    objects.edit('"train.csv"\ntarget = "kind"\nexamples = 1', '"objects.py:make_set"\njitter = 1')
    jittered = load_transfer_set(read_job(objects.path))
    assert (len(jittered), str(jittered.views)) == (6, "Jitter(pixels=1, seed=0)")


def test_the_first_weights_hang_on_the_seed_alone(folder):
    job = read_job(folder.path)
    first, again, other = (
        torch.cat([each.flatten() for each in make_network(job, "student", seed=seed).parameters()])
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_network_of_a_file_is_not_shared(objects):
    objects.edit("networks.py:make_student", "objects.py:network")
    job = read_job(objects.path)
    nn.init.zeros_(make_network(job, "student", seed=0)[1].weight)
    assert make_network(job, "student", seed=0)[1].weight.abs().sum() > 0


def test_teachers_are_networks_with_weights_functions_scores_and_ensembles(objects):
    weights = {"1.weight": torch.ones(12, 16), "1.bias": torch.zeros(12)}
    weights |= {"3.weight": torch.ones(3, 12), "3.bias": torch.arange(3.0)}
    save_file(weights, objects.root / "teacher.safetensors")
    np.save("scores.npy", np.zeros((40, 3), np.float32))
    objects.edit(
        '[teacher]\nsource = "networks.py:make_teacher"',
        '[[teacher]]\nsource = "networks.py:make_teacher"\nweights = "teacher.safetensors"\n'
        '[[teacher]]\nsource = "objects.py:make_function"\n[[teacher]]\nsource = "scores.npy"',
    )
    teacher, transfer_set = teacher_of(read_job(objects.path))
    logits = teacher.logits(transfer_set.batch(torch.tensor([3])))
    assert logits.shape == (3, 1, 3)
    assert (logits[0, 0].diff() == 1).all()
    assert (logits[2] == 0).all()


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('"train.npz"', '"gone.npz"', "line 3, transfer_set.source: cannot read gone.npz: No such"),
        ('"train.npz"', '"train.xls"', "line 3, transfer_set.source: expected mnist, a .npz"),
        ('"train.npz"', '"objects.py:gone"', "transfer_set.source: objects.py has no 'gone'"),
        ('"train.npz"', '"objects.py:network"', "expected an attar.TransferSet from objects.py:ne"),
        (
            '"train.npz"',
            '"train.npz"\nexamples = 50',
            "line 4, transfer_set.examples: expected at m",
        ),
        (
            '"train.npz"',
            '"train.npz"\ninputs = ["a", "b"]',
            "line 4, transfer_set.inputs: expected",
        ),
        (
            '"train.npz"',
            '"flat.npy"\nclasses = 3\njitter = 1',
            "line 5, transfer_set.jitter: expected",
        ),
        (
            '"test.npz"',
            '"test.npz"\nclass_names = ["a", "b", "c"]',
            "test_set: expected the classes",
        ),
        ('"test.npz"', '"test.npz"\nunlabeled = true', "line 5, test_set: expected a hard target"),
        ('[test_set]\nsource = "test.npz"', "", "test_set: expected a table [test_set] to compare"),
        ("networks.py:make_teacher", "gone.onnx", "line 9, teacher.source: cannot read gone.onnx"),
        ("networks.py:make_teacher", "objects.py:make_nothing", "teacher.source: expected a model"),
        (
            'make_teacher"',
            'make_teacher"\nweights = "gone"',
            "line 10, teacher.weights: cannot read",
        ),
        (
            "networks.py:make_teacher",
            'test.npz"\nweights = "w',
            "expected no weights beside the fil",
        ),
        (
            "networks.py:make_student",
            "objects.py:make_set",
            "line 12, student.source: expected a to",
        ),
    ],
)
def test_what_cannot_be_loaded_is_told_with_its_line(
    objects, shape_hints_off, before, after, message
):
    np.save("flat.npy", np.zeros((4, 3), np.float32))
    objects.edit(before, after)
    job = read_job("job.toml")
    with pytest.raises(JobError) as caught:
        _, transfer_set = teacher_of(job)
        load_test_set(job, transfer_set)
        make_network(job, "student", seed=0)
    assert str(caught.value).startswith("job.toml, line ")
    assert message in str(caught.value)
