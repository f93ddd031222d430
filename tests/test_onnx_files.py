import sys

import pytest
import torch
from torch import nn

from attar.errors import DataError, ExportError, MissingExtraError
from attar.onnx_files import check_extra, quantize, read_notes, reason, run_onnx, to_onnx

for package in ("onnx", "onnxruntime", "onnxscript"):
    pytest.importorskip(package, reason=f"the extra `export` needs {package}")

INPUTS = torch.linspace(-1, 1, 24).view(4, 6)


@pytest.fixture(scope="module")
def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).eval()


@pytest.fixture(scope="module")
def content(linear):
    return to_onnx(linear, INPUTS[:2], {"class_names": '["ä", "b", "c"]'})


def test_a_file_gives_the_networks_logits_for_batches_of_any_size(linear, content):
    batches = [INPUTS[:1], INPUTS[1:], INPUTS]
    expected = linear(torch.cat(batches)).detach()
    torch.testing.assert_close(run_onnx(content, batches), expected)


def test_notes_are_read_back_with_the_version(content):
    notes = read_notes(content)
    assert notes["class_names"] == '["ä", "b", "c"]'
    assert set(notes) == {"attar_version", "class_names"}


def test_no_path_of_this_machine_is_in_the_file(content):
    assert b"site-packages" not in content
    assert b".py" not in content


def test_products_are_quantized_dynamically(linear, content):
    small, how = quantize(content, None)
    assert how == "dynamic"
    largest = float((run_onnx(small, [INPUTS]) - linear(INPUTS).detach()).abs().max())
    assert 0 < largest < 0.05


def test_convolutions_are_quantized_with_calibration_batches_alone():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv1d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)).eval()
    inputs = INPUTS.view(4, 1, 6)
    content = to_onnx(network, inputs, {})
    with pytest.raises(DataError, match=r"expected calibration examples: int8 needs them for conv"):
        quantize(content, None)
    small, how = quantize(content, [inputs[:2], inputs[2:]])
    assert how == "static"
    assert float((run_onnx(small, [inputs]) - network(inputs).detach()).abs().max()) < 0.05
    with pytest.raises(ExportError, match=r"onnxruntime cannot quantize the network: .*[Gg]ot: 2"):
        quantize(content, [inputs[:, 0]])


def test_a_network_whose_code_depends_on_numbers_is_refused_with_its_line():
    class Branch(nn.Linear):
        def forward(self, inputs):
            logits = super().forward(inputs)
            return logits * 2 if logits.sum() > 0 else logits

    with pytest.raises(ExportError) as caught:
        to_onnx(Branch(6, 3).eval(), INPUTS, {})
    text = str(caught.value)
    assert text.startswith("torch cannot export the network to ONNX: ")
    assert "data-dependent" in text
    assert "test_onnx_files.py, line " in text
    assert "\n" not in text


def test_an_operation_that_onnx_lacks_is_named():
    class Decomposed(nn.Linear):
        def forward(self, inputs):
            return torch.linalg.qr(super().forward(inputs))[0] * 1.0

    with pytest.raises(ExportError, match=r"No ONNX function found for .*linalg_qr"):
        to_onnx(Decomposed(6, 3).eval(), INPUTS, {})


def test_more_weights_than_a_file_holds_are_refused():
    with torch.device("meta"):
        network = nn.Linear(30_000, 20_000)
    with pytest.raises(ExportError, match=r"has 2\.2 GiB of weights, and an ONNX file holds less"):
        to_onnx(network, torch.zeros(2, 30_000), {})


def test_what_is_no_onnx_file_is_refused():
    with pytest.raises(ExportError, match="onnxruntime cannot run the network: "):
        run_onnx(b"no model", [INPUTS])


def test_inputs_of_another_shape_are_refused(content, capfd):
    with pytest.raises(ExportError, match=r"cannot run the network: .*Got: 5 Expected: 6"):
        run_onnx(content, [INPUTS[:, :5]])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_package_names_the_extra(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        MissingExtraError, match=rf"package {package} .*pip install 'attar\[export\]'"
    ):
        check_extra()


def test_the_reason_is_the_first_paragraph_of_the_first_cause():
    error = RuntimeError("many\nlines")
    error.__cause__ = ValueError("the cause\nand what it is\n\nand details")
    assert reason(error) == "ValueError: the cause and what it is"
    assert len(reason(ValueError("word " * 1000))) < 320
    assert reason(KeyError()) == "KeyError"
