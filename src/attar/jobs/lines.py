"""Where a key stands in a TOML file, which `tomllib` does not tell."""

import tomllib
from collections.abc import Sequence
from typing import Any

Key = tuple[str | int, ...]  # names of tables and keys, positions in arrays


def find_line(text: str, key: Sequence[str | int]) -> int:
    r"""Return the line, from 1, where the statement that gives the key a value begins.

    That is the statement after which the file so far has the key: an unfinished one is no TOML, so
    what is TOML ends with a whole statement. A key that is not there is sought as the innermost of
    its tables that is; the first line, if none is.

    Example:
        >>> find_line('[a]\nb = [\n  1,\n  2,\n]\nc = 3\n', ("a", "b", 1))
        2
    """
    sizes: dict[int, int] = dict.fromkeys(range(1, len(key) + 1), 0)  # part of the key -> line
    lines, start = text.split("\n"), 0
    for end in range(1, len(lines) + 1):
        try:
            content = tomllib.loads("\n".join(lines[:end]) + "\n")
        except tomllib.TOMLDecodeError:
            continue
        for size, line in sizes.items():
            if not line and has_key(content, key[:size]):
                sizes[size] = _first_with_text(lines, start)
        start = end
    return next((sizes[size] for size in sorted(sizes, reverse=True) if sizes[size]), 1)


def has_key(content: object, key: Sequence[str | int]) -> bool:
    """Tell whether a value stands under the key; position 0 of what is no array is the thing."""
    for part in key:
        if isinstance(part, int):
            if isinstance(content, list) and part < len(content):
                content = content[part]
            elif isinstance(content, list) or part:
                return False
        elif isinstance(content, dict) and part in content:
            content = content[part]
        else:
            return False
    return True


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


def _first_with_text(lines: list[str], start: int) -> int:
    for number, line in enumerate(lines[start:], start=start + 1):
        if line.strip() and not line.lstrip().startswith("#"):
            return number
    return start + 1
