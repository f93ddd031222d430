"""What a file of a run was made of: written into the file, compared before it is used again."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attar.errors import FolderError
from attar.precision import VARIABLE

MadeOf = Mapping[str, Any]  # what JSON can hold; whatever decides the content, by its name
ADVICE = "give another folder with --out, or remove the file to make it again"
_SHOWN = 3  # differences that an error names


def check_made_of(path: Path, now: MadeOf, then: object) -> None:
    """Refuse a file that was made of anything else than what this run has.

    Args:
        path: The file.
        now: What this run would make it of.
        then: What the file says that it was made of.

    Raises:
        FolderError: If they differ; it names what does.
    """
    if not isinstance(then, dict):
        raise FolderError(f"{path} does not say what it was made of; {ADVICE}")
    before, after = _flatten(then), _flatten(json.loads(json.dumps(now)))
    changes = [
        f"{name} {_show(before, name)}, now {_show(after, name)}"
        for name in sorted({*before, *after})
        if name not in before or name not in after or before[name] != after[name]
    ]
    if changes:
        more = f" and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
        keep = before.get("precision")
        hint = "" if keep == after.get("precision") else f", or set {VARIABLE}={keep} to keep that"
        raise FolderError(
            f"{path} was made with other values than this run has: "
            f"{'; '.join(changes[:_SHOWN])}{more}; {ADVICE}{hint}"
        )


def _flatten(value: object, name: str = "") -> dict[str, object]:
    if isinstance(value, dict):
        parts = [(str(key), part) for key, part in value.items()]
    elif isinstance(value, list):
        parts = [(str(place), part) for place, part in enumerate(value)]
    else:
        return {name: value}
    flat: dict[str, object] = {}
    for key, part in parts:
        flat |= _flatten(part, f"{name}.{key}" if name else key)
    return flat


def _show(values: dict[str, object], name: str) -> str:
    if name not in values:
        return "absent"
    value = values[name]
    is_checksum = isinstance(value, str) and len(value) == 64
    return str(value)[:8] if is_checksum else json.dumps(value, ensure_ascii=False)
