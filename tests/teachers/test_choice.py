import warnings

import pytest
import torch
from torch import nn

from attar.errors import AttarError, DataError, FolderError, ShapeError
from attar.teachers import as_teacher


def test_a_teacher_is_answered_as_it_is_if_its_classes_fit():
    teacher = as_teacher(nn.Linear(3, 2), class_names=["cat", "dog"])
    assert as_teacher(teacher, classes=2) is teacher
    with pytest.raises(ShapeError, match="transfer set's 5 classes, got one of 2: NetworkTeacher"):
        as_teacher(teacher, classes=5)


def test_classes_must_be_known_and_agree(shape_hints_off):
    network = nn.Linear(3, 2)
    with pytest.raises(AttarError, match=r"expected class_names= or classes= .* got neither"):
        as_teacher(network)
    with pytest.raises(AttarError, match="expected 3 class_names, got 2"):
        as_teacher(network, class_names=["cat", "dog"], classes=3)
    with pytest.raises(AttarError, match="as a list of names, got 'catdog'"):
        as_teacher(network, class_names="catdog")
    for classes in (0, 1):
        with pytest.raises(AttarError, match=rf"at least two classes, got {classes}; .* regressor"):
            as_teacher(network, classes=classes)


def test_what_is_no_teacher_says_what_would_be():
    with pytest.raises(AttarError, match="got int; wrap it in a function from inputs to logits"):
        as_teacher(7, classes=2)
    with pytest.raises(AttarError, match="got the class Linear; pass an instance"):
        as_teacher(nn.Linear, classes=2)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FolderError, match=r"cannot read .*gone\.npy: there is no such file"):
        as_teacher(tmp_path / "gone.npy", classes=2)


@pytest.mark.parametrize(
    "name", ["w.pt", "w.PTH", "best.pth.tar", "last.ckpt", "pytorch_model.bin", "w.safetensors"]
)
def test_weights_are_no_teacher_and_say_how_they_become_one(tmp_path, name):
    torch.save({"a": torch.zeros(2)}, tmp_path / name)
    with pytest.raises(DataError, match=rf"got .*{name}, .*load_weights\(path, network\)"):
        as_teacher(str(tmp_path / name), classes=2)


@pytest.mark.parametrize("name", ["forest.joblib", "forest.pkl", "forest.pickle"])
def test_pickles_are_not_opened(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=rf"runs no code, got the pickle .*{name}; if you trust it"):
        as_teacher(str(tmp_path / name), classes=2)


def test_options_of_a_teacher_that_is_made_already_are_not_ignored():
    teacher = as_teacher(nn.Linear(3, 2), classes=2)
    with pytest.raises(AttarError, match=r"answers= cannot be changed for an existing teacher"):
        as_teacher(teacher, classes=2, answers="probabilities")
    with pytest.raises(AttarError, match=r"padding=, version= cannot be changed .* NetworkTeacher"):
        as_teacher(teacher, classes=2, padding=0, version="1")


def test_a_network_of_two_inputs_is_refused_before_it_is_asked():  # it failed on "example 0"
    class Pair(nn.Module):
        def forward(self, image, text):
            return image + text

    told = r"the network Pair to take one tensor .* got \(image, text\) .* or pass its logits"
    with pytest.raises(AttarError, match=told):
        as_teacher(Pair(), classes=2)
    with pytest.raises(AttarError, match=r"<lambda> to take one tensor .* got \(a, b\)"):
        as_teacher(lambda a, b: a, classes=2, version="1")
    as_teacher(lambda a, b=None: a, classes=2, version="1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        as_teacher(torch.jit.script(nn.Linear(3, 2)), classes=2)


def test_a_processor_that_would_not_be_used_is_refused():
    for source in (nn.Linear(3, 2), torch.zeros(2, 2)):
        with pytest.raises(AttarError, match=r"processor= is only for image models .* got it"):
            as_teacher(source, classes=2, processor="none")


def test_files_and_folders_of_another_kind_name_those_that_fit(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    for path in (tmp_path / "notes.txt", tmp_path):
        with pytest.raises(DataError, match=r"\.npy, \.npz, \.parquet, \.onnx or a folder with"):
            as_teacher(path, classes=2)
