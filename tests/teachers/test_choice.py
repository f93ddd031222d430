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
    with pytest.raises(AttarError, match="one class or more, got 0"):
        as_teacher(network, classes=0)


def test_what_is_no_teacher_says_what_would_be():
    with pytest.raises(AttarError, match="got int; wrap it in a function from inputs to logits"):
        as_teacher(7, classes=2)
    with pytest.raises(AttarError, match="got the class Linear; make one of it"):
        as_teacher(nn.Linear, classes=2)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FolderError, match=r"cannot read .*gone\.npy: there is no such file"):
        as_teacher(tmp_path / "gone.npy", classes=2)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("weights.pt", "weights_only=True"),
        ("weights.PTH", "weights_only=True"),
        ("weights.safetensors", "safetensors.torch.load_model"),
        ("forest.joblib", "if you trust the file"),
        ("forest.pkl", "if you trust the file"),
    ],
)
def test_files_that_need_code_are_not_opened(tmp_path, name, advice):
    torch.save({"a": torch.zeros(2)}, tmp_path / name)
    with pytest.raises(DataError, match=rf"runs no code, got .*{name}; load .* {advice}"):
        as_teacher(str(tmp_path / name), classes=2)


def test_files_and_folders_of_another_kind_name_those_that_fit(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    for path in (tmp_path / "notes.txt", tmp_path):
        with pytest.raises(DataError, match=r"\.npy, \.npz, \.parquet, \.onnx or a folder with"):
            as_teacher(path, classes=2)
