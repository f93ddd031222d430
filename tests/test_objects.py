import sys
import textwrap

import pytest

from attar.errors import ObjectError
from attar.objects import load_callable, load_object, make_object


@pytest.fixture
def write(tmp_path):
    def write(code, name="net.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(code), encoding="utf-8")
        return tmp_path

    return write


@pytest.fixture(autouse=True)
def same_modules_afterwards():
    modules, paths = set(sys.modules), sys.path[:]
    yield
    assert sys.path == paths
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def test_a_name_in_a_file_is_loaded(write):
    folder = write("def make():\n    return 7\n")
    assert load_object("net.py:make", folder)() == 7


def test_the_file_may_lie_in_a_folder_and_the_name_may_be_dotted(write):
    folder = write("class Net:\n    size = 3\n", "below/net.py")
    assert load_object("below/net.py:Net.size", folder) == 3


def test_an_absolute_path_is_taken_as_it_is(write, tmp_path):
    folder = write("size = 3\n")
    assert load_object(f"{folder / 'net.py'}:size", tmp_path / "elsewhere") == 3


def test_a_file_finds_what_lies_beside_it(write):
    write("size = 5\n", "below/sizes_beside.py")
    folder = write("from sizes_beside import size\n", "below/net.py")
    assert load_object("below/net.py:size", folder) == 5


def test_what_is_imported_while_the_function_runs_is_found_too(write):
    write("size = 6\n", "sizes_late.py")
    folder = write("def make():\n    from sizes_late import size\n    return size\n")
    assert make_object("net.py:make", folder, int) == 6


def test_a_module_of_the_folder_is_loaded(write):
    write("", "own_package/__init__.py")
    folder = write("size = 4\n", "own_package/nets.py")
    assert load_object("own_package.nets:size", folder) == 4


def test_an_installed_module_is_loaded(tmp_path):
    assert load_object("fractions:Fraction.from_float", tmp_path)(0.5) == 0.5


def test_a_file_runs_once_until_it_changes(write):
    folder = write("made = object()\n")
    first = load_object("net.py:made", folder)
    assert load_object("net.py:made", folder) is first
    write("made = object()  # changed\n")
    assert load_object("net.py:made", folder) is not first


def test_a_file_may_define_dataclasses(write):
    code = """
        from __future__ import annotations
        from dataclasses import dataclass, field

        @dataclass
        class Net:
            sizes: list[int] = field(default_factory=list)
    """
    assert load_object("net.py:Net", write(code))().sizes == []


def test_no_compiled_file_is_left(write):
    folder = write("made = 1\n")
    load_object("net.py:made", folder)
    assert [path.name for path in folder.iterdir()] == ["net.py"]


@pytest.mark.parametrize("spec", ["net.py", "make", ":make", "net.py:", "net.py:make()", ""])
def test_another_form_shows_the_right_one(tmp_path, spec):
    with pytest.raises(ObjectError, match=r"expected file\.py:name or package\.module:name, got"):
        load_object(spec, tmp_path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ObjectError, match=r"cannot read .*gone\.py: No such file"):
        load_object("gone.py:make", tmp_path)


def test_a_missing_name_shows_those_that_are_there(write):
    folder = write("import math\nsmall = 1\nlarge = 2\n")
    with pytest.raises(ObjectError, match=r"net\.py has no 'medium'; it has large, math, small"):
        load_object("net.py:medium", folder)


@pytest.mark.parametrize("place", ["gone_module", "gone_package.module", "json.gone"])
def test_a_missing_module_is_named(tmp_path, place):
    with pytest.raises(ObjectError, match=r"there is no module '.*gone.*' .*file\.py:name"):
        load_object(f"{place}:make", tmp_path)


def test_a_module_that_needs_a_missing_one_says_so(write):
    folder = write("import gone_dependency\n", "own_needy.py")
    with pytest.raises(
        ObjectError, match=r"own_needy fails: ModuleNotFoundError: .*gone_dependency.*line 1"
    ):
        load_object("own_needy:make", folder)


def test_an_error_in_the_file_comes_with_its_line(write):
    folder = write("def half():\n    return 1 / 0\n\n\nsize = half()\n")
    with pytest.raises(ObjectError) as caught:
        load_object("net.py:size", folder)
    assert str(caught.value) == (
        f"{folder / 'net.py'} fails: ZeroDivisionError: division by zero "
        f"({(folder / 'net.py').resolve()}, line 2)"
    )


def test_a_file_that_failed_is_run_again(write):
    folder = write("1 / 0\n")
    for _ in range(2):
        with pytest.raises(ObjectError, match="division by zero"):
            load_object("net.py:size", folder)


def test_the_line_is_the_users_even_if_a_library_raises(write):
    folder = write("import json\n\njson.loads('nothing')\n")
    with pytest.raises(ObjectError, match=r"JSONDecodeError: .*net\.py, line 3\)"):
        load_object("net.py:size", folder)


def test_a_syntax_error_comes_with_its_line(write):
    with pytest.raises(ObjectError, match=r"SyntaxError: .*\(net\.py, line 2\)$"):
        load_object("net.py:size", write("size = 1\nsize = = 2\n"))


def test_a_file_that_exits_does_not_end_the_program(write):
    with pytest.raises(ObjectError, match=r"SystemExit: 3 .*line 1"):
        load_object("net.py:size", write("raise SystemExit(3)\n"))


def test_bytes_that_are_no_source_are_refused(tmp_path):
    (tmp_path / "net.py").write_bytes(b"\0\xff\0")
    with pytest.raises(ObjectError, match=r"net\.py fails: "):
        load_object("net.py:size", tmp_path)


def test_what_cannot_be_called_is_named(write):
    with pytest.raises(
        ObjectError, match=r"expected net\.py:size to be callable, .*, got an object of type int"
    ):
        load_callable("net.py:size", write("size = 1\n"))


def test_a_call_that_fails_comes_with_its_line(write):
    folder = write("def make():\n    raise KeyError('size')\n")
    with pytest.raises(ObjectError, match=r"net\.py:make fails: KeyError: 'size' .*line 2\)"):
        make_object("net.py:make", folder, int)


def test_a_callable_that_needs_arguments_is_refused(write):
    with pytest.raises(ObjectError, match=r"net\.py:make fails: TypeError: .*'size'"):
        make_object("net.py:make", write("def make(size):\n    return size\n"), int)


def test_what_is_made_has_to_be_of_the_kind(write):
    with pytest.raises(ObjectError, match=r"expected .*make\(\) to return a builtins\.int, got No"):
        make_object("net.py:make", write("def make():\n    pass\n"), int)
