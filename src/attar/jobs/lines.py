"""Find the line of a key in a TOML file, which `tomllib` does not report."""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

Key = tuple[str | int, ...]  # names of tables and keys, positions in arrays

# Brackets, comments and line ends, and the strings in which they have no meaning.
_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}' + r"|'''.*?'{3,5}"
    r'|"(?:\\.|[^"\\\n])*"' + r"|'[^'\n]*'" + r"|\#[^\n]*|[\[\]{}]|\n",
    re.DOTALL,
)


def find_line(text: str, key: Sequence[str | int]) -> int:
    r"""Return the line, from 1, of the statement that sets a key.

    If the key is missing, return the line of its innermost existing table, or else 1.

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
        elif (
            part != 0 or (*found, 0) in lines
        ):  # position 0 of a value that is not an array is the value
            break
    return line


def show_key(key: Sequence[str | int], content: Any) -> str:  # noqa: ANN401 (what TOML can hold)
    """Write a key as text, with the position in an array if it has several items."""
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
    """Return the line that sets each key, table and array item."""
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
    """Yield the statements of a TOML file with their first lines."""
    line, start, depth = 1, 0, 0
    first = 1  # the line of the next statement
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
