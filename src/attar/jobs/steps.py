"""Steps of a job. A step runs once for its inputs; results are never overwritten.

Each step has a folder with `step.json`, which contains its inputs: settings as values, all else as
fingerprints. If the inputs have changed, the step starts in an empty folder; the earlier folder
moves to `earlier/`, and moves back if the inputs change back.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from attar.errors import FolderError, JobError, file_error
from attar.files import make_folder, sha256
from attar.progress import ProgressRecord
from attar.records import read_json, this_machine, write_json
from attar.training import Step as Update

RECORD, EARLIER = "step.json", "earlier"
_MOST_CHANGES = 4  # shown in one line
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class JobProgress:
    """Progress of a step."""

    title: str  # of the step
    fraction: float  # of the step
    detail: str
    seconds_left: float | None  # of the step; None if unknown
    update: Update | None = None  # of the weights, if the step is a training

    def __str__(self) -> str:
        """Return one line of progress."""
        return f"{self.title} · {self.detail}"


Tell = Callable[[ProgressRecord | str], None]  # called with progress, or a message


@dataclass(frozen=True)
class Step:
    """A step of a job."""

    folder: Path  # of the job
    name: str  # its folder within that, such as "distill/seed-0"
    inputs: dict[str, Any]  # everything that affects the outputs; JSON values

    def __post_init__(self) -> None:
        """Convert the inputs to the values that are read back from JSON."""
        object.__setattr__(self, "inputs", json.loads(json.dumps(self.inputs)))

    @property
    def place(self) -> Path:
        """The folder of the step."""
        return self.folder / self.name

    @property
    def title(self) -> str:
        """The name in messages."""
        return self.name.replace("/", " ")

    def begin(self, tell: Tell) -> bool:
        """Announce the step and prepare its folder.

        Returns:
            Whether the step is already done.

        Raises:
            FolderError: If the folder cannot be read or written, or its record is damaged.
        """
        found, why = self._read(), ""
        if found is not None and found["inputs"] == self.inputs:
            changed = _changed(self.place, found)
            if found["done"] and not changed:
                tell(f"{self.title}: nothing has changed, skipped")
                return True
            if not changed:
                tell(f"{self.title}: resumes")
                return False
            why = f"{changed[0]} is damaged or was changed"
        elif found is not None:
            why = describe_changes(found["inputs"], self.inputs)
        aside = self._put_aside(found)
        found = self._take_back()
        if found is None:
            make_folder(self.place)
            self._write(done=False, outputs={})
            if why:
                tell(f"{self.title} again: {why}{aside}")
            return False
        tell(f"{self.title}: {why or 'missing'}; earlier result restored from {EARLIER}/")
        return bool(found["done"])

    def is_done(self) -> bool:
        """Return whether the step is done with these inputs."""
        found = self._read()
        return found is not None and found["done"] and found["inputs"] == self.inputs

    def machine(self) -> dict[str, Any]:
        """Return the machine on which the step was done."""
        found = self._read()
        return {} if found is None else dict(found["machine"])

    def finish(self, *outputs: str, **more: Any) -> None:  # noqa: ANN401 (what JSON can hold)
        """Record that the step is done; `outputs` are its files, `more` is for information."""
        self._write(done=True, outputs={name: _hash(self.place / name) for name in outputs}, **more)

    def check_done(self, command: str) -> None:
        """Raise `JobError` unless the step is done and its inputs include these."""
        found = self._read()
        try_it = f"run `{command}`, or `attar run` for all steps"
        if found is None or not found["done"]:
            state = "not started" if found is None else "not finished"
            raise JobError(f"the step {self.title} is {state}; {try_it}")
        why = describe_changes(found["inputs"], found["inputs"] | self.inputs)
        if why:
            raise JobError(f"the inputs of the step {self.title} have changed: {why}; {try_it}")
        changed = _changed(self.place, found)
        if changed:
            raise JobError(f"{self.place / changed[0]} is damaged or was changed; {try_it}")

    def _read(self) -> dict[str, Any] | None:
        return _read_record(self.place / RECORD)

    def _write(self, **content: Any) -> None:  # noqa: ANN401
        inputs = {"step": self.name, "inputs": self.inputs}
        write_json(self.place / RECORD, inputs | content | {"machine": asdict(this_machine())})

    def _put_aside(self, found: dict[str, Any] | None) -> str:
        """Move the existing folder to `earlier`; return a message, empty if there was none."""
        if not self.place.exists() or not any(self.place.iterdir()):
            return ""
        digest = "unknown" if found is None else _digest(found["inputs"])
        if found is not None and found["inputs"] == self.inputs:
            digest += "-changed"  # not restored later
        target = self.folder / EARLIER / f"{self.name}-{digest}"
        number = 1
        while target.exists():
            number += 1
            target = target.with_name(f"{Path(self.name).name}-{digest}-{number}")
        _move(self.place, target)
        return f" (the earlier result is now {target})"

    def _take_back(self) -> dict[str, Any] | None:
        source = self.folder / EARLIER / f"{self.name}-{_digest(self.inputs)}"
        found = _read_record(source / RECORD)
        if found is None or found["inputs"] != self.inputs or _changed(source, found):
            return None
        if self.place.exists():
            self.place.rmdir()  # empty
        _move(source, self.place)
        return found


def _changed(folder: Path, record: Mapping[str, Any]) -> list[str]:
    """Return the outputs of a step that are missing or changed."""
    return [
        name
        for name, checksum in record["outputs"].items()
        if not (folder / name).is_file() or _hash(folder / name) != checksum
    ]


def _hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise file_error("read", path, error) from error


def describe_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Describe the inputs that have changed, with old and new value if readable.

    Example:
        >>> describe_changes({"temperature": 4.0, "k": 8}, {"temperature": 2.0, "k": 8})
        'temperature 4.0 -> 2.0'
    """
    names = [name for name in {**now, **before} if before.get(name) != now.get(name)]
    told = [_describe(name, before.get(name), now.get(name)) for name in names[:_MOST_CHANGES]]
    more = [f"{len(names) - len(told)} more"] * (len(names) > len(told))
    return ", ".join(told + more)


def _describe(name: str, before: object, now: object) -> str:
    if any(_FINGERPRINT.search(str(value)) for value in (before, now)):
        return f"{name} changed" if before and now else f"{name} {'added' if now else 'removed'}"
    return f"{name} {_show(before)} -> {_show(now)}"


def _show(value: object) -> str:
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value)


def _digest(inputs: Mapping[str, Any]) -> str:
    return sha256(json.dumps(inputs, sort_keys=True).encode())[:8]


def _read_record(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    found = read_json(path)
    parts = {"inputs": dict, "outputs": dict, "done": bool, "machine": dict}
    wrong = [name for name, kind in parts.items() if not isinstance(found.get(name), kind)]
    if wrong:
        raise FolderError(
            f"{path} is damaged: expected a valid entry {wrong[0]!r}; move {path.parent} away to "
            "repeat the step"
        )
    return found


def _move(source: Path, target: Path) -> None:
    make_folder(target.parent)
    try:
        source.rename(target)
    except OSError as error:
        raise file_error("move", source, error) from error
