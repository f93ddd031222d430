"""The inputs of a file of a run: stored in the file, and compared before it is reused."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attar.errors import FolderError
from attar.precision import VARIABLE

MadeOf = Mapping[str, Any]  # everything that affects the content, by name; JSON values
ADVICE = "choose another folder with --out, or remove the file to make it again"
_SHOWN = 3  # differences shown in an error


def check_made_of(path: Path, now: MadeOf, then: object) -> None:
    """Raise an error if a file was made with other inputs than those of this run.

    Args:
        path: The file.
        now: The inputs of this run.
        then: The inputs recorded in the file.

    Raises:
        FolderError: If they differ; the message names the differences.
    """
    if not isinstance(then, dict):
        raise FolderError(f"{path} has no record of its inputs; {ADVICE}")
    before, after = _flatten(then), _flatten(json.loads(json.dumps(now)))
    changes = [
        f"{name} {_show(before, name)}, now {_show(after, name)}"
        for name in sorted({*before, *after})
        if name not in before or name not in after or before[name] != after[name]
    ]
    if changes:
        more = f" and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
        keep = before.get("precision")
        hint = "" if keep == after.get("precision") else f", or set {VARIABLE}={keep} to use it"
        raise FolderError(
            f"{path} was made with other values than those of this run: "
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
