# ruff: noqa: E402 (what may be absent is imported last)
import json
import pickle
import sys

import numpy as np
import pytest
import torch

from attar.errors import AttarError, DataError, FolderError, ShapeError
from attar.teachers import as_teacher

from .batches import INPUTS, make_batch

onnx = pytest.importorskip("onnx", reason="onnx is not installed: extra export")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: extra export")

from onnx import TensorProto, helper, numpy_helper

WEIGHT = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
IDS = torch.tensor([[5, 6, 0], [7, 0, 0]])


def save(path, nodes, inputs, outputs, weights=(), notes=None):
    """Write a model; inputs and outputs are (name, type, shape)."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(*each) for each in inputs],
        [helper.make_tensor_value_info(*each) for each in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, notes or {})
    onnx.save(model, path)
    return path


def save_linear(
    path, *, weight=WEIGHT, batch="batch", kind=TensorProto.FLOAT, softmax=False, names=None
):
    nodes = [helper.make_node("Cast", ["x"], ["float"], to=TensorProto.FLOAT)]
    nodes += [helper.make_node("MatMul", ["float", "w"], ["scores" if softmax else "logits"])]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["scores"], ["logits"], axis=1))
    return save(
        path,
        nodes,
        [("x", kind, [batch, 3])],
        [("logits", TensorProto.FLOAT, [batch, weight.shape[1]])],
        [("w", weight)],
        {"class_names": json.dumps(names)} if names else None,
    )


def save_image_model(path, name="pixel_values"):
    """One logit for each channel: its sum."""
    nodes = [helper.make_node("ReduceSum", [name, "axes"], ["logits"], keepdims=0)]
    inputs = [(name, TensorProto.FLOAT, ["batch", 3, "height", "width"])]
    outputs = [("logits", TensorProto.FLOAT, ["batch", 3])]
    return save(path, nodes, inputs, outputs, [("axes", np.array([2, 3]))])


def save_text_model(path, names=("input_ids", "attention_mask", "token_type_ids")):
    """Two logits: the sum of the unmasked ids, and the sum of the types."""
    axes = np.array([1])
    nodes = [
        helper.make_node("Mul", [names[0], names[1]], ["seen"]),
        helper.make_node("ReduceSum", ["seen", "axes"], ["first"]),
        helper.make_node("ReduceSum", [names[2], "axes"], ["second"]),
        helper.make_node("Concat", ["first", "second"], ["both"], axis=1),
        helper.make_node("Cast", ["both"], ["logits"], to=TensorProto.FLOAT),
    ]
    inputs = [(name, TensorProto.INT64, ["batch", "length"]) for name in names]
    outputs = [("logits", TensorProto.FLOAT, ["batch", 2])]
    return save(path, nodes, inputs, outputs, [("axes", axes)])


def test_a_file_is_run(tmp_path):
    teacher = as_teacher(save_linear(tmp_path / "a.onnx"), classes=4)
    assert (teacher.classes, teacher.members, teacher.reads_inputs) == (4, None, True)
    logits = teacher.logits(make_batch())
    torch.testing.assert_close(logits, INPUTS @ torch.from_numpy(WEIGHT))


@pytest.mark.parametrize("kind", [TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.INT32])
def test_inputs_are_cast_to_what_the_file_states(tmp_path, kind):
    teacher = as_teacher(save_linear(tmp_path / "a.onnx", kind=kind), classes=4)
    inputs = INPUTS.round()
    logits = teacher.logits(make_batch(inputs.double()))
    torch.testing.assert_close(logits, inputs @ torch.from_numpy(WEIGHT))


def test_probabilities_become_logits_and_are_not_taken_for_them(tmp_path):
    path = save_linear(tmp_path / "a.onnx", softmax=True)
    logits = as_teacher(path, classes=4, answers="probabilities").logits(make_batch())
    expected = (INPUTS @ torch.from_numpy(WEIGHT)).log_softmax(dim=1)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(DataError, match=r'pass as_teacher\(\.\.\., answers="probabilities"'):
        as_teacher(path, classes=4).logits(make_batch())


def test_token_ids_get_mask_and_types(tmp_path):
    path = save_text_model(tmp_path / "a.onnx")
    teacher = as_teacher(path, classes=2, padding=7)
    logits = teacher.logits(make_batch(IDS))
    assert logits.tolist() == [[11.0, 0.0], [0.0, 0.0]]
    with pytest.raises(
        AttarError,
        match=r"padding token of the file a\.onnx is unknown; pass as_teacher\(\.\.\., padding=",
    ):
        as_teacher(path, classes=2)


def test_classes_that_the_file_names_are_found_by_name(tmp_path):  # label took them by position
    path = save_linear(tmp_path / "a.onnx", names=["ant", "bee", "cat", "dog"])
    plain = as_teacher(path, classes=4)
    moved = as_teacher(path, class_names=["dog", "ant", "cat", "bee"])
    assert torch.equal(moved.logits(make_batch()), plain.logits(make_batch())[:, [3, 0, 2, 1]])
    assert moved.class_names == ("dog", "ant", "cat", "bee")
    assert moved.fingerprint() != plain.fingerprint()
    again = pickle.loads(pickle.dumps(moved))
    assert again.fingerprint() == moved.fingerprint()
    assert torch.equal(again.logits(make_batch()), moved.logits(make_batch()))
    numbered = as_teacher(path, class_names=["0", "1", "2", "3"])
    assert torch.equal(numbered.logits(make_batch()), plain.logits(make_batch()))
    with pytest.raises(DataError, match=r"lacks \['elk'\] and has \['dog'\]; export it with the"):
        as_teacher(path, class_names=["ant", "bee", "cat", "elk"])


def test_pairs_of_texts_are_told_from_single_ones(tmp_path):  # token types are zeros
    pairs = torch.tensor([[2, 5, 3, 7, 3], [2, 3, 6, 3, 0], [2, 5, 3, 7, 3], [2, 6, 3, 7, 3]])
    teacher = as_teacher(save_text_model(tmp_path / "a.onnx"), classes=2, padding=0)
    with pytest.warns(UserWarning, match=r"pairs of texts, separated by the token 3, but the file"):
        teacher.logits(make_batch(pairs))
    teacher.logits(make_batch(torch.cat([pairs, torch.tensor([[2, 5, 6, 7, 3]])])))


def test_images_of_transformers_are_normalized_by_a_processor(tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("PIL", reason="Pillow is not installed")
    path, images = save_image_model(tmp_path / "a.onnx"), torch.rand(2, 3, 4, 4)
    with pytest.raises(
        AttarError, match=r"file a\.onnx needs its image processor, .* put its preproc"
    ):
        as_teacher(path, classes=3)
    plain = as_teacher(path, classes=3, processor="none")
    torch.testing.assert_close(plain.logits(make_batch(images)), images.sum(dim=(2, 3)))
    processor = transformers.ViTImageProcessor(size=4, image_mean=[0.5, 0.25, 0.0])
    given = as_teacher(path, classes=3, processor=processor)
    expected = ((images - torch.tensor([0.5, 0.25, 0.0]).view(3, 1, 1)) / 0.5).sum(dim=(2, 3))
    torch.testing.assert_close(given.logits(make_batch(images)), expected)
    assert len({plain.fingerprint(), given.fingerprint()}) == 2
    processor.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    assert as_teacher(path, classes=3).fingerprint() == given.fingerprint()
    assert pickle.loads(pickle.dumps(given)).fingerprint() == given.fingerprint()
    with pytest.raises(ShapeError, match=r"images of 4 x 4 pixels"):
        given.logits(make_batch(torch.rand(2, 3, 5, 5)))


def test_the_fingerprint_is_of_the_bytes_even_of_weights_beside_the_file(tmp_path):
    paths = [save_linear(tmp_path / f"{name}.onnx") for name in "ab"]
    paths.append(save_linear(tmp_path / "c.onnx", weight=WEIGHT + 1))
    one, same, other = (as_teacher(path, classes=4).fingerprint() for path in paths)
    assert one == same != other
    model = onnx.load(paths[0])
    outside = tmp_path / "outside.onnx"
    onnx.save(model, outside, save_as_external_data=True, location="w.data", size_threshold=0)
    before = as_teacher(outside, classes=4)
    torch.testing.assert_close(
        before.logits(make_batch()), as_teacher(paths[0], classes=4).logits(make_batch())
    )
    weights = bytearray((tmp_path / "w.data").read_bytes())
    weights[0] ^= 1
    (tmp_path / "w.data").write_bytes(weights)
    assert as_teacher(outside, classes=4).fingerprint() != before.fingerprint()
    (tmp_path / "w.data").unlink()
    with pytest.raises(
        FolderError, match=r"w\.data: No such file .*; outside\.onnx stores weights"
    ):
        as_teacher(outside, classes=4)


def test_sizes_that_do_not_fit_are_errors(tmp_path):
    path = save_linear(tmp_path / "a.onnx")
    with pytest.raises(ShapeError, match=r"10 classes, got one of 4: the file a\.onnx"):
        as_teacher(path, classes=10)
    with pytest.raises(DataError, match=r"takes \['batch', 3\] and cannot run on inputs \[2, 7\]"):
        as_teacher(path, classes=4).logits(make_batch(torch.zeros(2, 7)))
    fixed = save_linear(tmp_path / "fixed.onnx", batch=1)
    with pytest.raises(DataError, match=r"any size, got x .* export it with a dynamic first axis"):
        as_teacher(fixed, classes=4)


def test_inputs_and_outputs_that_do_not_fit_are_listed(tmp_path):
    with pytest.raises(DataError, match=r'expected inputs of .*, got \["x tensor\(bool\)'):
        as_teacher(save_linear(tmp_path / "a.onnx", kind=TensorProto.BOOL), classes=4)
    path = save_text_model(tmp_path / "a.onnx", ("left", "right", "third"))
    with pytest.raises(DataError, match=r'expected one input, .* got \["left tensor\(int64\)'):
        as_teacher(path, classes=2, padding=0)
    nodes = [helper.make_node("Identity", ["x"], [name]) for name in ("one", "two")]
    outputs = [(name, TensorProto.FLOAT, ["batch", 3]) for name in ("one", "two")]
    save(tmp_path / "b.onnx", nodes, [("x", TensorProto.FLOAT, ["batch", 3])], outputs)
    with pytest.raises(DataError, match=r'one output of floats \[batch, classes\], got \["one'):
        as_teacher(tmp_path / "b.onnx", classes=3)


@pytest.mark.parametrize("content", [b"nothing of the kind", b""])
def test_damaged_files_are_named(tmp_path, content):
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.onnx is not an ONNX file"):
        as_teacher(tmp_path / "a.onnx", classes=3)


def test_a_missing_package_names_the_extra(tmp_path, monkeypatch):
    path = save_linear(tmp_path / "a.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(AttarError, match=r"onnxruntime is not installed, .*'attar\[export\]'"):
        as_teacher(path, classes=4)
