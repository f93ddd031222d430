import dataclasses
import json
import logging
import sys

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

import attar
from attar.data import TransferSet
from attar.errors import (
    AttarError,
    DataError,
    ExportError,
    FolderError,
    MissingExtraError,
    ShapeError,
)
from attar.export import Exported, export_student
from attar.models import mlp
from attar.onnx_files import read_notes

for package in ("onnx", "onnxruntime", "onnxscript"):
    pytest.importorskip(package, reason=f"the extra `export` needs {package}")


@pytest.fixture(scope="module")
def student(few_digits):
    network = mlp(784, [32], 10, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    batch = few_digits.train.batch(torch.arange(300))
    for _ in range(30):
        loss = nn.functional.cross_entropy(network(batch.inputs), batch.hard_targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


@pytest.fixture(scope="module")
def exported(student, few_digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "new"
    return folder, export_student(student, folder, few_digits.test)


def linear(forward):
    """Make a small network, flawed as `forward(logits)` says."""

    class Flawed(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(784, 10)

        def forward(self, inputs):
            return forward(self.linear(inputs.flatten(1)))

    return Flawed()


def refused(network, examples, folder, error, match, **options):
    """Check that the export fails and that what was in the folder is as it was."""
    for suffix in (".safetensors", ".onnx", ".int8.onnx"):
        (folder / f"student{suffix}").write_bytes(b"old")
    before = sorted(folder.iterdir())
    with pytest.raises(error, match=match):
        export_student(network, folder, examples, **options)
    assert sorted(folder.iterdir()) == before
    assert {path.read_bytes() for path in before} == {b"old"}


def test_each_form_is_written_and_measured(exported):
    folder, files = exported
    names = ["student.safetensors", "student.onnx", "student.int8.onnx"]
    assert [file.path for file in files] == [str(folder / name) for name in names]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    assert [file.size_bytes for file in files] == [(folder / name).stat().st_size for name in names]
    assert [file.format for file in files] == ["safetensors", "onnx", "int8"]
    assert {(file.examples, file.labeled) for file in files} == {(100, 100)}


def test_floats_give_the_students_logits(exported):
    weights, onnx, _ = exported[1]
    assert weights.largest_difference == 0
    assert onnx.largest_difference < 1e-4
    assert weights.agreement == onnx.agreement == 1
    assert weights.quantization is onnx.quantization is None
    assert weights.errors == onnx.errors == onnx.student_errors


def test_int8_is_a_third_of_the_size_or_less_and_hardly_worse(exported):
    _, onnx, int8 = exported[1]
    assert int8.quantization == "dynamic"
    assert int8.size_bytes < onnx.size_bytes / 3
    assert 0 < int8.largest_difference < 0.2
    assert int8.agreement >= 0.97
    assert abs(int8.accuracy_change) <= 0.03


def test_another_program_gets_logits_without_a_temperature(exported, student, few_digits):
    import onnxruntime

    batch = few_digits.test.batch(torch.arange(7))
    session = onnxruntime.InferenceSession(exported[1][1].path, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"inputs": batch.inputs.numpy()})
    np.testing.assert_allclose(logits, student(batch.inputs).detach().numpy(), atol=1e-4)


def test_the_weights_are_the_students(exported, student):
    weights = safetensors.torch.load_file(exported[1][0].path)
    assert {name: value.shape for name, value in weights.items()} == {
        name: value.shape for name, value in student.state_dict().items()
    }
    assert torch.equal(weights["1.weight"], student[1].weight)


@pytest.mark.parametrize("index", [1, 2])
def test_the_metadata_says_what_a_caller_has_to_know(exported, index):
    content = (exported[0] / ["", "student.onnx", "student.int8.onnx"][index]).read_bytes()
    notes = read_notes(content)
    assert json.loads(notes["class_names"]) == [str(digit) for digit in range(10)]
    assert notes["attar_version"] == attar.__version__
    assert notes["input_scaling"] == "divide by 255"
    assert notes["output"] == "logits, before any temperature or softmax"


def test_the_same_student_gives_the_same_bytes(exported, student, few_digits, tmp_path):
    folder, _ = exported
    export_student(student, tmp_path, few_digits.test)
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (folder / path.name).read_bytes()


def test_the_student_stays_as_it_is(student, few_digits, tmp_path):
    student.train()
    student[1].eval()  # frozen, say
    before = {name: value.clone() for name, value in student.state_dict().items()}
    export_student(student, tmp_path, few_digits.test, formats=["safetensors"])
    assert [module.training for module in student] == [True, False, True, True]
    assert student.training
    for name, value in student.state_dict().items():
        assert torch.equal(value, before[name])
    student.train()


def test_one_unlabeled_example_of_floats_is_enough_for_onnx(tmp_path):
    network = nn.Linear(3, 2)
    examples = TransferSet(torch.tensor([[0.5, -1.0, 2.0]]), class_names=["ä", "b"])
    (file,) = export_student(network, tmp_path, examples, name="tiny", formats=["onnx"])
    assert (file.examples, file.labeled, file.errors, file.accuracy_change) == (1, 0, 0, 0)
    notes = read_notes((tmp_path / "tiny.onnx").read_bytes())
    assert notes["input_scaling"] == "none"
    assert json.loads(notes["class_names"]) == ["ä", "b"]


def test_only_labeled_examples_count_as_errors(student, few_digits, tmp_path):
    targets = few_digits.test.hard_targets.clone()
    targets[10:] = -1
    targets[:10] = (student(few_digits.test.batch(torch.arange(10)).inputs).argmax(-1) + 1) % 10
    examples = TransferSet(few_digits.test.inputs, targets, classes=10)
    (file,) = export_student(student, tmp_path, examples, formats=["safetensors"])
    assert (file.examples, file.labeled, file.errors, file.student_errors) == (100, 10, 10, 10)


def test_the_accuracy_change_by_hand():
    file = Exported("int8", "f", 1, "dynamic", 300, 0.1, 0.9, 200, errors=30, student_errors=26)
    assert file.accuracy_change == pytest.approx(-4 / 200)
    assert dataclasses.replace(file, errors=20).accuracy_change == pytest.approx(6 / 200)


def test_convolutions_are_calibrated(few_digits, tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Unflatten(1, (1, 28)),
        nn.Conv2d(1, 4, 5, stride=4, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * 36, 10),
    )
    network(few_digits.train.batch(torch.arange(300)).inputs)  # statistics of the normalisation
    (int8,) = export_student(
        network, tmp_path, few_digits.test, formats=["int8"], calibration=few_digits.train
    )
    assert int8.quantization == "static"
    assert int8.agreement >= 0.9
    assert int8.size_bytes < 20_000
    refused(network, few_digits.test, tmp_path, DataError, "expected calibration", formats=["int8"])


def test_nothing_is_printed_warned_or_logged(student, few_digits, tmp_path, capfd, caplog):
    handlers, disabled = logging.getLogger().handlers[:], logging.root.manager.disable
    export_student(student, tmp_path, few_digits.test, formats=["onnx", "int8"])
    assert capfd.readouterr() == ("", "")
    own = "torch.__trace"  # torch's, seen by nobody: pytest alone gives it a handler
    assert [record for record in caplog.records if record.name != own] == []
    assert logging.getLogger().handlers == handlers
    assert logging.root.manager.disable == disabled


def test_a_network_that_cannot_be_exported_leaves_the_old_files(few_digits, tmp_path):
    network = linear(lambda logits: logits * 2 if logits.sum() > 0 else logits)
    match = r"torch cannot export .* data-dependent .*test_export\.py, line"
    refused(network, few_digits.test, tmp_path, ExportError, match)


def test_other_logits_leave_the_old_files(few_digits, tmp_path):
    network = linear(lambda logits: logits + 0.01 * torch.compiler.is_compiling())
    match = r"expected ONNX logits within 0\.0.* of torch's, got 0\.01 at example \d+; nothing was"
    refused(network, few_digits.test, tmp_path, ExportError, match)
    files = export_student(network, tmp_path, few_digits.test, formats=["onnx"], tolerance=0.02)
    assert files[0].largest_difference == pytest.approx(0.01, abs=1e-4)


@pytest.mark.parametrize(
    ("forward", "error", "match"),
    [
        (lambda z: z.view(2, 10), ExportError, r"fails on inputs \[1, 28, 28\] float32: Runtime"),
        (lambda z: (z, z), ExportError, r"to return logits, a tensor, got tuple"),
        (lambda z: z[:, :9], ShapeError, r"expected logits \[1, 10\], one .*, got \[1, 9\]"),
        (lambda z: z / 0, ExportError, r"expected finite logits, the student's of example 0"),
    ],
)
def test_a_network_without_proper_logits_is_refused(few_digits, tmp_path, forward, error, match):
    refused(linear(forward), few_digits.test, tmp_path, error, match)


def test_without_the_extra_safetensors_are_still_written(
    student, few_digits, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    match = r"pip install 'attar\[export\]'"
    refused(student, few_digits.test, tmp_path, MissingExtraError, match)
    (file,) = export_student(student, tmp_path, few_digits.test, formats=["safetensors"])
    assert file.size_bytes > 100_000


@pytest.mark.parametrize("form", ["safetensors", "onnx"])
def test_a_full_disk_leaves_the_old_files(student, few_digits, tmp_path, full_disk, form):
    with full_disk(5000):
        refused(student, few_digits.test, tmp_path, FolderError, "cannot write", formats=[form])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"formats": []}, "expected some of the formats"),
        ({"formats": ["onnx", "onnx"]}, "expected some of the formats"),
        ({"formats": ["tflite"]}, r"expected some of the formats .*, got \['tflite'\]"),
        ({"name": "a/b"}, "expected the name of a file, without folders, got 'a/b'"),
        ({"name": ""}, "expected the name of a file"),
        ({"tolerance": 0.0}, "expected tolerance > 0"),
    ],
)
def test_a_wrong_request_is_refused(student, few_digits, tmp_path, options, match, shape_hints_off):
    refused(student, few_digits.test, tmp_path, AttarError, match, **options)


def test_int8_needs_hard_targets_to_be_measured(student, few_digits, tmp_path):
    unlabeled = TransferSet(few_digits.test.inputs, classes=10)
    refused(student, unlabeled, tmp_path, DataError, "expected hard targets, to measure what int8")
