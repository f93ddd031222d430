import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.jobs.lines import find_line, show_key

TEXT = '''\
# a comment
top = 1

[a]
text = """
[b]
x = 1
"""
list = [
    1,
    "two",
]

[[b]]
x = 2
[[b]]
# why
x = { y = 3 }
[b.c.d]
z = 4
'''


@pytest.mark.parametrize(
    ("key", "line"),
    [
        (("top",), 2),
        (("a",), 4),
        (("a", "text"), 5),
        (("a", "list"), 9),
        (("a", "list", 1), 9),
        (("b", 0, "x"), 15),
        (("b", 1), 16),
        (("b", 1, "x"), 18),
        (("b", 1, "x", "y"), 18),
        (("b", 1, "c", "d", "z"), 20),
        (("a", "gone"), 4),  # its table
        (("gone", "x"), 1),
    ],
)
def test_a_key_stands_where_its_statement_begins(key, line):
    assert find_line(TEXT, key) == line


def test_a_table_that_stands_for_an_array_of_one_is_found():
    assert find_line("[a]\nb = 1\n", ("a", 0, "b")) == 2


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.data())
def test_every_statement_is_found_whatever_stands_between(gaps, data):
    lines, expected = [], {}
    for number, gap in enumerate(gaps):
        lines += data.draw(st.lists(st.sampled_from(["", "# x = 1", "  "]), max_size=gap))
        expected[f"k{number}"] = len(lines) + 1
        lines.append(f"k{number} = {data.draw(st.sampled_from(['1', '[', '[ # ]']))}")
        if lines[-1].endswith("1"):
            continue
        lines.append("]")
    text = "\n".join(lines)
    assert set(tomllib.loads(text)) == set(expected)
    assert {name: find_line(text, (name,)) for name in expected} == expected


def test_positions_are_shown_where_there_are_several():
    content = {"teacher": [{"x": 1}, {"x": 2}], "one": {"x": 1}}
    assert show_key(("teacher", 1, "x"), content) == "teacher[1].x"
    assert show_key(("one", 0, "x"), content) == "one.x"


@pytest.mark.parametrize(
    "value",
    [
        '"a # ["',
        "'a]'",
        '"\\"["',
        '"""\n[b]\n" ["""',
        "'''\n'[a'''",
        '"""a"""""',
        "{ a = [1] } # ]",
    ],
)
def test_brackets_and_marks_in_strings_and_comments_end_nothing(value):
    text = f"[a]\nb = {value}\nc = 3"
    assert find_line(text, ("a", "c")) == 3 + value.count("\n")
    assert find_line(text, ("a", "b")) == 2
