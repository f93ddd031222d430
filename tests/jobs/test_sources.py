"""What a job file may name: sets, teachers and students of all kinds; errors have their line."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet
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
from attar import StreamedSet, TransferSet

network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))


def make_set():
    return TransferSet(torch.zeros(6, 4, 4), torch.arange(6) % 3)


def make_streamed():
    half = make_set().subset(torch.arange(3))
    return StreamedSet([3, 3], lambda part: half, class_names=half.class_names)


def make_function():
    return lambda inputs: inputs.flatten(1)[:, :3].double().numpy()


def make_nothing():
    return None
"""


def teacher_of(job):
    transfer_set = load_transfer_set(job)
    return load_teacher(job, transfer_set, lambda position: None), transfer_set


@pytest.fixture
def few_mnist(few_digits, monkeypatch):
    monkeypatch.setattr("attar.jobs.sources.load_mnist", lambda: few_digits)


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


def make_images(folder):
    image = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install 'attar[vision]'")
    for place in ("flat", "tree/a", "tree/b"):
        (folder / place).mkdir(parents=True)
        for index in range(3):
            pixels = np.full((4, 4), 80 * index, np.uint8)
            image.fromarray(pixels).save(folder / place / f"{index}.png")


NAMED = 'class_names = ["a", "b", "c"]\n'


@pytest.mark.parametrize(
    "lines",
    [
        'source = "mnist"\nexamples = 50',
        'source = "train.npz"\nclasses = 3',
        'source = "flat.npy"\nclasses = 3',
        f'source = "train.csv"\nignore = "y"\n{NAMED}',
        f'source = "train.parquet"\nignore = "y"\n{NAMED}',
        f'source = "train.parquet"\nignore = "y"\nstreamed = true\n{NAMED}',
        f'source = "flat"\n{NAMED}',
        f'source = "flat"\nstreamed = true\n{NAMED}',
        f'source = "tree"\n{NAMED}',
        f'source = "tree"\nstreamed = true\n{NAMED}',
        'source = "objects.py:make_set"',
        'source = "objects.py:make_streamed"',
    ],
)
def test_an_unlabeled_set_has_no_hard_targets_whatever_its_source(objects, few_mnist, lines):
    make_images(objects.root)
    np.save(objects.root / "flat.npy", np.zeros((4, 3), np.float32))
    (objects.root / "train.csv").write_text("x,y\n1,0\n2,1\n", encoding="utf-8")
    columns = {"x": [1.0, 2.0], "y": [0, 1]}
    pyarrow.parquet.write_table(pa.table(columns), objects.root / "train.parquet")
    objects.edit('source = "train.npz"', f"{lines}\nunlabeled = true")
    loaded = load_transfer_set(read_job(objects.path))
    assert set(loaded.hard_targets.tolist()) == {-1}
    every = torch.arange(len(loaded))
    assert set(loaded.batch(every).hard_targets.tolist()) == {-1}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('"mnist"\nclass_names = ["a"]', "line 4, transfer_set.class_names: class_names has no ef"),
        (
            '"mnist"\nstreamed = true',
            "line 4, transfer_set.streamed: streamed has no effect for mnist",
        ),
        ('"mnist"\ntarget = "y"', "target has no effect for mnist; remove it"),
        ('"objects.py:make_set"\nclasses = 7', "classes has no effect for objects.py:make_set"),
        (
            '"objects.py:make_set"\nstreamed = true',
            "streamed has no effect for objects.py:make_set",
        ),
        ('"flat.npy"\nclasses = 3\npadding = 0', "padding has no effect for a .npy file"),
        ('"train.npz"\nsize = [2, 2]', "size has no effect for a .npz file"),
        ('"flat.npy"\nclasses = 3\ntarget = "y"', "target has no effect for a .npy file"),
        ('"train.npz"\nfingerprint = "x"', "fingerprint has no effect for a .npz file"),
        ('"train.npz"\nclasses = 4\nclass_names = ["a"]', "expected 4 class_names as classes says"),
        ('"tree"\ntarget = "y"', "target has no effect for a folder of images"),
        ('"tree"\nclasses = 3', "classes has no effect for a folder of images"),
        ('"flat"', "if the images have no class, give unlabeled"),
        ('"tree"\nunlabeled = true', "expected class_names= of the unlabeled images in"),
        (
            '"train.csv"\ntarget = "y"\nunlabeled = true\nclasses = 2',
            "line 5, transfer_set.unlabeled: expected no column 'y' among the inputs of an unlab",
        ),
    ],
)
def test_a_key_that_a_source_has_no_use_for_is_not_ignored(objects, few_mnist, lines, message):
    make_images(objects.root)
    np.save(objects.root / "flat.npy", np.zeros((4, 3), np.float32))
    (objects.root / "train.csv").write_text("x,y\n1,0\n2,1\n", encoding="utf-8")
    objects.edit('"train.npz"', lines)
    with pytest.raises(JobError, match=re.escape(message)):
        load_transfer_set(read_job(objects.path))


def test_a_test_set_with_its_columns_in_another_order_is_refused(objects):
    (objects.root / "train.csv").write_text("a,b,kind\n1,2,x\n3,4,y\n", encoding="utf-8")
    (objects.root / "test.csv").write_text("kind,b,a\nx,2,1\ny,4,3\n", encoding="utf-8")
    objects.edit('"train.npz"', '"train.csv"\ntarget = "kind"')
    objects.edit('"test.npz"', '"test.csv"\ntarget = "kind"')
    job = read_job(objects.path)
    with pytest.raises(
        JobError, match=r"columns of the transfer set in its order, \['a', 'b'\], g"
    ):
        load_test_set(job, load_transfer_set(job))
    objects.edit(
        'target = "kind"\n\n[teacher]', 'target = "kind"\ninputs = ["a", "b"]\n\n[teacher]'
    )
    job = read_job(objects.path)
    assert load_test_set(job, load_transfer_set(job)).inputs.tolist() == [[1, 2], [3, 4]]


def test_columns_of_a_table_are_ignored(objects):
    table = {"input_ids": [[1, 2], [3, 4]], "token_type_ids": [[0, 1], [0, 1]], "y": [0, 1]}
    pyarrow.parquet.write_table(pa.table(table), objects.root / "train.parquet")
    lines = 'source = "train.parquet"\ninputs = "input_ids"\ntarget = "y"'
    objects.edit('source = "train.npz"', lines)
    with pytest.raises(JobError, match="got also 'token_type_ids', which models of transformers"):
        load_transfer_set(read_job(objects.path))
    objects.edit(lines, f'{lines}\nignore = "token_type_ids"')
    assert load_transfer_set(read_job(objects.path)).inputs.tolist() == [[1, 2], [3, 4]]


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


def test_a_job_says_what_becomes_of_the_rest_of_probabilities(objects):
    np.savez(objects.root / "scores.npz", probabilities=np.full((40, 3), 0.25))
    objects.edit("networks.py:make_teacher", "scores.npz")
    objects.edit('scores.npz"', 'scores.npz"\nrest = "class:2"')
    teacher, transfer_set = teacher_of(read_job("job.toml"))
    p = teacher.logits(transfer_set.batch(torch.tensor([3]))).exp()
    torch.testing.assert_close(p, torch.tensor([[0.25, 0.25, 0.5]]).double())


def test_a_job_says_how_the_images_of_a_model_of_transformers_are_prepared(objects):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("PIL", reason="Pillow is not installed")
    config = transformers.ViTConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        image_size=4,
        patch_size=2,
        num_channels=1,
        num_labels=3,
    )
    model = transformers.ViTForImageClassification(config).eval()
    model.save_pretrained(objects.root / "model")
    images = np.random.default_rng(0).random((12, 1, 4, 4), dtype=np.float32)
    np.savez(objects.root / "train.npz", inputs=images, hard_targets=np.arange(12) % 3)
    objects.edit("networks.py:make_teacher", "model")
    with pytest.raises(JobError, match=r"line 9, teacher\.source: cannot load the image processor"):
        teacher_of(read_job("job.toml"))
    for processor, inputs in (("none", images), ("prepared", (images - 0.5) / 0.25)):
        settings = {"size": 4, "image_mean": [0.5], "image_std": [0.25]}
        transformers.ViTImageProcessor(**settings).save_pretrained(objects.root / "prepared")
        objects.edit('"model"', f'"model"\nprocessor = "{processor}"')
        teacher, transfer_set = teacher_of(read_job("job.toml"))
        with torch.no_grad():
            expected = model(torch.from_numpy(inputs)).logits
        torch.testing.assert_close(teacher.logits(transfer_set.batch(torch.arange(12))), expected)
        objects.edit(f'\nprocessor = "{processor}"', "")


@pytest.mark.parametrize("name", ["plain.pth", "best.pth.tar"])
def test_a_teacher_has_the_weights_of_a_torch_checkpoint(objects, name):  # "header too large"
    weights = {"1.weight": torch.ones(12, 16), "1.bias": torch.zeros(12)}
    weights |= {"3.weight": torch.ones(3, 12), "3.bias": torch.arange(3.0)}
    content = weights
    if name.endswith(".tar"):
        content = {"epoch": 3, "state_dict": {f"module.{key}": weights[key] for key in weights}}
    torch.save(content, objects.root / name)
    objects.edit('make_teacher"', f'make_teacher"\nweights = "{name}"')
    teacher, transfer_set = teacher_of(read_job("job.toml"))
    logits = teacher.logits(transfer_set.batch(torch.arange(2)))
    torch.testing.assert_close(logits - logits[:, :1], torch.arange(3.0).expand(2, 3))
    torch.save({"3.weight": torch.ones(3, 12), "bias": torch.ones(3)}, objects.root / name)
    told = r"line 10, teacher\.weights: .*\(3 missing: 1\.weight, .*; 1 unexpected: bias\)"
    with pytest.raises(JobError, match=told):
        teacher_of(read_job("job.toml"))


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
        ('[test_set]\nsource = "test.npz"', "", "test_set: comparing needs a table [test_set]"),
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
            "weights cannot be used with the fil",
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
