"""docs/job.md has every key, with default, example and what it is for, as the job file takes it."""

import re
from pathlib import Path

import pytest

from attar.jobs.settings import TABLES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "job.md"


def toml(value):
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def rows(path):
    """The rows of a table of the page."""
    for name, field in TABLES[path].model_fields.items():
        if (*path, name) in TABLES:
            continue
        default = "required" if field.is_required() else ""
        if not default and field.default is not None:
            default = f"`{toml(field.default)}`"
        example = f"`{toml(field.examples[0])}`" if field.examples else ""
        yield f"| `{name}` | {default} | {example} | {field.description} |"


def section(path):
    text = PAGE.read_text(encoding="utf-8")
    heading = f"### [{'.'.join(path)}]" if path else "## Keys"
    assert heading in text
    return re.split(r"\n##", text.partition(heading)[2])[0]


@pytest.mark.parametrize("path", TABLES)
def test_every_key_is_on_the_page_and_no_other(path):
    expected = list(rows(path))
    found = [line for line in section(path).splitlines() if line.startswith("| `")]
    assert found == expected


@pytest.mark.parametrize("path", TABLES)
def test_every_key_says_what_it_is_for(path):
    for name, field in TABLES[path].model_fields.items():
        assert field.description or (*path, name) in TABLES, name
