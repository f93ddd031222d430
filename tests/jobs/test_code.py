"""What counts as a change of the code behind a name, and what does not."""

import pytest

from attar.errors import ObjectError
from attar.jobs.code import fingerprint_code

CODE = '''
"""Networks."""
import torch
import helpers
from parts.layers import make_layer as layer

SIZE = 3
torch.manual_seed(0)


def make_teacher():
    return layer(SIZE)


def make_student():
    return helpers.make(4)


if __name__ == "__main__":
    print("hello")
'''


@pytest.fixture
def code(tmp_path):
    (tmp_path / "net.py").write_text(CODE, encoding="utf-8")
    (tmp_path / "helpers.py").write_text("def make(n):\n    return n\n", encoding="utf-8")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "__init__.py").write_text("", encoding="utf-8")
    (tmp_path / "parts" / "layers.py").write_text(
        "from .base import f\n\ndef make_layer(n):\n    return f(n)\n\ndef other():\n    pass\n",
        encoding="utf-8",
    )
    (tmp_path / "parts" / "base.py").write_text("def f(n):\n    return n\n", encoding="utf-8")
    return tmp_path


def fingerprints(folder):
    names = ("net.py:make_teacher", "net.py:make_student")
    return tuple(fingerprint_code(name, folder) for name in names)


@pytest.mark.parametrize(
    ("file", "before", "after", "changed"),
    [
        ("net.py", "SIZE = 3", "SIZE = 4", (True, False)),
        ("net.py", "layer(SIZE)", "layer(SIZE + 1)", (True, False)),
        ("net.py", "make(4)", "make(5)", (False, True)),
        ("net.py", "manual_seed(0)", "manual_seed(1)", (True, True)),
        ("net.py", "SIZE = 3", "# why\nSIZE  =  3", (False, False)),
        ("net.py", '"""Networks."""', '"""Some networks."""', (False, False)),
        ("net.py", '"hello"', '"goodbye"', (False, False)),
        ("helpers.py", "return n", "return -n", (False, True)),
        ("parts/layers.py", "return f(n)", "return -f(n)", (True, False)),
        ("parts/layers.py", "pass", "return 1", (False, False)),
        ("parts/base.py", "return n", "return -n", (True, False)),
    ],
)
def test_what_the_name_uses_counts_and_nothing_else(code, file, before, after, changed):
    first = fingerprints(code)
    text = (code / file).read_text(encoding="utf-8")
    assert before in text
    (code / file).write_text(text.replace(before, after), encoding="utf-8")
    assert tuple(a != b for a, b in zip(first, fingerprints(code), strict=True)) == changed


def test_modules_are_found_by_name_and_star_imports_are_followed(code):
    (code / "all.py").write_text("from helpers import *\n", encoding="utf-8")
    first = fingerprint_code("all:make", code), fingerprint_code("parts.layers:make_layer", code)
    (code / "helpers.py").write_text("def make(n):\n    return 2 * n\n", encoding="utf-8")
    (code / "parts" / "base.py").write_text("def f(n):\n    return 3 * n\n", encoding="utf-8")
    second = fingerprint_code("all:make", code), fingerprint_code("parts.layers:make_layer", code)
    assert [a != b for a, b in zip(first, second, strict=True)] == [True, True]


def test_files_that_cannot_be_read_are_named(code):
    with pytest.raises(ObjectError, match=r"cannot read .*gone\.py"):
        fingerprint_code("gone.py:x", code)
    (code / "net.py").write_text("def", encoding="utf-8")
    with pytest.raises(ObjectError, match=r"net\.py is no Python: invalid syntax"):
        fingerprint_code("net.py:x", code)
