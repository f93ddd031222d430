"""Where a key stands in a TOML file, which `tomllib` does not tell."""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

Key = tuple[str | int, ...]  # names of tables and keys, positions in arrays

# What may open or close a bracket, begin a comment, or end a line, and strings, which do not.
_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}' + r"|'''.*?'{3,5}"
    r'|"(?:\\.|[^"\\\n])*"' + r"|'[^'\n]*'" + r"|\#[^\n]*|[\[\]{}]|\n",
    re.DOTALL,
)


def find_line(text: str, key: Sequence[str | int]) -> int:
    r"""Return the line, from 1, where the statement that gives the key a value begins.

    A key that is not there is sought as the innermost of its tables that is; the first line, if
    none is.

    Example:
        >>> find_line('[a]\nb = [\n  1,\n  2,\n]\nc = 3\n', ("a", "b", 1))
        2
    """
    lines, line = _find_lines(text), 1
    found: Key = ()
    for part in key:
        if (*found, part) in lines:
            found = (*found, part)
            line = lines[found]
        elif part != 0 or (*found, 0) in lines:  # position 0 of what is no array is the thing
            break
    return line


def show_key(key: Sequence[str | int], content: Any) -> str:  # noqa: ANN401 (what TOML can hold)
    """Write a key as people say it; the position in an array is told where there are several."""
    shown = ""
    for part in key:
        if isinstance(part, str):
            shown += f".{part}" if shown else part
        elif isinstance(content, list) and len(content) > 1:
            shown += f"[{part}]"
        if isinstance(part, str):
            content = content.get(part) if isinstance(content, dict) else None
        elif isinstance(content, list):
            content = content[part] if part < len(content) else None
    return shown


@lru_cache(maxsize=4)
def _find_lines(text: str) -> Mapping[Key, int]:
    """Return the line of every key, table and position in an array: where it gets its value."""
    lines: dict[Key, int] = {}
    sizes: dict[Key, int] = {}  # of the arrays of tables so far
    table: Key = ()

    def note(value: object, key: Key, line: int) -> None:
        if key:
            lines.setdefault(key, line)
        parts: Any = value.items() if isinstance(value, dict) else ()
        for part, inner in enumerate(value) if isinstance(value, list) else parts:
            note(inner, (*key, part), line)

    for line, statement in _split(text):
        content = tomllib.loads(statement)
        if not statement.startswith("["):
            note(content, table, line)
            continue
        table, inner = (), content
        while inner:  # the header's names, from the outermost
            ((name, inner),) = inner.items()
            table = (*table, name)
            if isinstance(inner, list):
                sizes[table] = sizes.get(table, 0) + 1
                lines.setdefault(table, line)
                inner = inner[0]
            if table in sizes:
                table = (*table, sizes[table] - 1)
            lines.setdefault(table, line)
    return lines


def _split(text: str) -> Iterator[tuple[int, str]]:
    """Yield the statements of a TOML file, each with the line where it begins."""
    line, start, depth = 1, 0, 0
    first = 1  # the line of what comes next
    for token in _TOKEN.finditer(text + "\n"):
        found = token[0]
        line += found.count("\n")
        depth += (found in "[{") - (found in "]}")
        if found != "\n" or depth:
            continue
        statement = text[start : token.end()]
        start = token.end()
        if (stripped := statement.strip()) and not stripped.startswith("#"):
            yield first, stripped
        first = line
