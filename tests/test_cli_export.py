import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from attar.cli import main
from attar.models import mlp
from attar.objects import make_object
from attar.training import save_weights

EXPORT = importlib.import_module("attar.cli.export")  # attar.cli has its function by this name

NET = """
import torch
from torch import nn
from attar.models import mlp


def make_student():
    return mlp(784, [8], 10, generator=torch.Generator().manual_seed(0))


def make_other():
    return mlp(784, [9], 10, generator=torch.Generator().manual_seed(0))


def make_convolutions():
    torch.manual_seed(0)
    conv = nn.Conv2d(1, 2, 7, stride=7)
    return nn.Sequential(nn.Unflatten(1, (1, 28)), conv, nn.Flatten(), nn.Linear(32, 10))


size = 3
"""


@pytest.fixture
def folder(few_digits, tmp_path, monkeypatch):
    """A user's folder: network, weights, test set, transfer set without hard targets."""
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET, encoding="utf-8")
    student = mlp(784, [8], 10, generator=torch.Generator().manual_seed(1))
    save_weights(Path("student.safetensors"), student)
    test = few_digits.test
    np.savez("test.npz", inputs=test.inputs.numpy(), hard_targets=test.hard_targets.numpy())
    np.savez("train.npz", inputs=few_digits.train.inputs.numpy())
    return tmp_path


@pytest.fixture
def attar_export(capsys, shape_hints_off):
    """Make a function that runs the command; type hints off, which typer's context breaks."""

    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            main(["export", *arguments])
        printed = capsys.readouterr()
        return caught.value.code or 0, printed.out, printed.err

    return run


ARGUMENTS = ("student.safetensors", "--network", "net.py:make_student", "--data", "test.npz")


def needs_extra():
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package, reason=f"the extra `export` needs {package}")


def test_all_forms_are_written_beside_the_weights_and_shown(folder, attar_export):
    needs_extra()
    code, out, err = attar_export(*ARGUMENTS)
    assert (code, err) == (0, "")
    names = [f"student.{suffix}" for suffix in ("export.json", "int8.onnx", "onnx", "safetensors")]
    assert sorted(path.name for path in (folder / "export").iterdir()) == names
    for text in (
        "100 examples",
        "student.int8.onnx (dynamic)",
        "100.00%",
        "points",
        "wrote export",
    ):
        assert text in out
    record = json.loads((folder / "export" / "student.export.json").read_text(encoding="utf-8"))
    assert [file["path"] for file in record["files"]] == [names[3], names[2], names[1]]
    assert record["files"][0]["examples"] == 100
    assert record["machine"]["cores"] >= 1


def test_convolutions_take_their_calibration_from_a_file(folder, attar_export):
    needs_extra()
    network = ("--network", "net.py:make_convolutions")
    save_weights(Path("conv.safetensors"), make_object(network[1], folder, torch.nn.Module))
    arguments = ("conv.safetensors", *network, "--data", "test.npz", "--format", "int8")
    code, _, err = attar_export(*arguments)
    assert code == 2
    assert err.startswith("attar: error: expected calibration examples: int8 needs them")
    assert not list((folder / "export").iterdir())
    code, out, err = attar_export(*arguments, "--calibration", "train.npz", "--out", "served")
    assert (code, err) == (0, "")
    assert "conv.int8.onnx (static)" in out
    assert sorted(path.name for path in (folder / "served").iterdir()) == [
        "conv.export.json",
        "conv.int8.onnx",
    ]


def test_mnist_is_its_test_set(folder, attar_export, few_digits, monkeypatch):
    monkeypatch.setattr(EXPORT, "load_mnist", lambda: few_digits)
    arguments = (*ARGUMENTS[:4], "mnist", "--format", "safetensors")
    code, out, err = attar_export(*arguments)
    assert (code, err) == (0, "")
    assert "measured on 100 examples, 100 of them labeled" in out


def test_examples_without_hard_targets_have_no_errors_to_show(folder, attar_export):
    arguments = (*ARGUMENTS[:4], "train.npz", "--classes", "10", "--format", "safetensors")
    code, out, _ = attar_export(*arguments)
    assert code == 0
    assert "measured on 300 examples, 0 of them labeled" in out
    assert "points" not in out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({0: "gone.safetensors"}, r"cannot read gone.safetensors: No such file"),
        ({2: "net.py:make_other"}, r"student.safetensors do not fit the network"),
        ({2: "net.py:size"}, r"expected net.py:size to be callable"),
        ({2: "net.py:gone"}, r"net.py has no 'gone'"),
        ({2: "net.py:torch.zeros"}, r"net.py:torch.zeros fails: TypeError"),
        ({2: "fractions:Fraction"}, r"expected fractions:Fraction() to return a torch.nn.modules"),
        ({4: "gone.npz"}, r"cannot read gone.npz: No such file"),
        ({4: "net.py"}, r"expected mnist or the path of an .npz file, got 'net.py'"),
        ({4: "train.npz"}, r"expected class_names= or classes=, as train.npz has no hard"),
    ],
)
def test_what_is_wrong_ends_in_one_line(folder, attar_export, changes, message):
    arguments = [changes.get(index, argument) for index, argument in enumerate(ARGUMENTS)]
    code, out, err = attar_export(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("attar: error: ")
    assert message in err
    assert err.count("\n") == 1
    assert not (folder / "export").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--format", "safetensors", "--calibration", "train.npz"),
            "--calibration is only used by --format int8",
        ),
        (("--data", "mnist", "--classes", "10"), "--classes 10 cannot be used with --data mnist"),
    ],
)
def test_an_option_that_is_of_no_use_is_refused(folder, attar_export, options, message):
    code, out, err = attar_export(*ARGUMENTS, *options)
    assert (code, out) == (2, "")
    assert message in err
    assert not (folder / "export").exists()


@pytest.mark.parametrize("option", [("--tolerance", "0"), ("--format", "tflite")])
def test_a_wrong_option_ends_in_one_line(folder, attar_export, option):
    code, _, err = attar_export(*ARGUMENTS, *option)
    assert code == 2
    assert err.startswith("attar: error: expected ")
    assert err.count("\n") == 1


def test_another_number_of_classes_is_refused(folder, attar_export):
    np.savez("four.npz", inputs=np.zeros((4, 28, 28), dtype=np.uint8), hard_targets=range(4))
    code, _, err = attar_export(*ARGUMENTS[:4], "four.npz", "--format", "safetensors")
    assert code == 2
    assert "expected logits [1, 4], one for each class of the examples, got [1, 10]" in err
