"""Steps of a job: done once for the inputs they have, said to be skipped or done again, never lost.

Each step has a folder with `step.json`, which holds its inputs: settings as they are, all else as
fingerprints. A step whose inputs have changed starts in an empty folder; the one that was there
moves to `earlier/`, unharmed, and moves back if the inputs become what they were.
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
_MOST_CHANGES = 4  # told in one line
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a step is."""

    title: str  # of the step
    fraction: float  # of the step
    detail: str
    seconds_left: float | None  # of the step; None before anything is known
    update: Update | None = None  # of weights, where the step is a training

    def __str__(self) -> str:
        """Say it for people."""
        return f"{self.title} · {self.detail}"


Tell = Callable[[ProgressRecord | str], None]  # takes how far it is, or a line to be shown


@dataclass(frozen=True)
class Step:
    """A step of a job."""

    folder: Path  # of the job
    name: str  # its folder within that, such as "distill/seed-0"
    inputs: dict[str, Any]  # what decides its outputs; what JSON can hold

    def __post_init__(self) -> None:
        """Make the inputs what is read back from a record."""
        object.__setattr__(self, "inputs", json.loads(json.dumps(self.inputs)))

    @property
    def place(self) -> Path:
        """Its folder."""
        return self.folder / self.name

    @property
    def title(self) -> str:
        """Its name for people."""
        return self.name.replace("/", " ")

    def begin(self, tell: Tell) -> bool:
        """Say what is to be done, and prepare the folder for it.

        Returns:
            Whether the step is done already.

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
                tell(f"{self.title}: goes on where it stopped")
                return False
            why = f"{changed[0]} is not as it was written"
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
        tell(f"{self.title}: {why or 'it is gone'}; so it was once before, taken from {EARLIER}/")
        return bool(found["done"])

    def is_done(self) -> bool:
        """Tell whether it is done, with these inputs."""
        found = self._read()
        return found is not None and found["done"] and found["inputs"] == self.inputs

    def machine(self) -> dict[str, Any]:
        """Say where it was done."""
        found = self._read()
        return {} if found is None else dict(found["machine"])

    def finish(self, *outputs: str, **more: Any) -> None:  # noqa: ANN401 (what JSON can hold)
        """Write that the step is done; `outputs` are its files, by name, `more` is for people."""
        self._write(done=True, outputs={name: _hash(self.place / name) for name in outputs}, **more)

    def check_done(self, command: str) -> None:
        """Raise `JobError` unless the step is done, with these inputs among its own."""
        found = self._read()
        try_it = f"try `{command}`, or `attar run` for all"
        if found is None or not found["done"]:
            state = "not begun" if found is None else "not finished"
            raise JobError(f"expected the step {self.title} to be done, it is {state}; {try_it}")
        why = describe_changes(found["inputs"], found["inputs"] | self.inputs)
        if why:
            raise JobError(f"expected the step {self.title} as it was done, got {why}; {try_it}")
        changed = _changed(self.place, found)
        if changed:
            raise JobError(f"{self.place / changed[0]} is not as it was written; {try_it}")

    def _read(self) -> dict[str, Any] | None:
        return _read_record(self.place / RECORD)

    def _write(self, **content: Any) -> None:  # noqa: ANN401
        inputs = {"step": self.name, "inputs": self.inputs}
        write_json(self.place / RECORD, inputs | content | {"machine": asdict(this_machine())})

    def _put_aside(self, found: dict[str, Any] | None) -> str:
        """Move what is there to `earlier`; say where it is now, nothing if there was none."""
        if not self.place.exists() or not any(self.place.iterdir()):
            return ""
        digest = "unknown" if found is None else _digest(found["inputs"])
        if found is not None and found["inputs"] == self.inputs:
            digest += "-changed"  # not to be taken back
        target = self.folder / EARLIER / f"{self.name}-{digest}"
        number = 1
        while target.exists():
            number += 1
            target = target.with_name(f"{Path(self.name).name}-{digest}-{number}")
        _move(self.place, target)
        return f" (what was there is now {target})"

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
    """Return which outputs of a step are not those that were written."""
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
    """Say which inputs have changed, and from what to what where people can read that.

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
        return f"{name} changed" if before and now else f"{name} {'new' if now else 'gone'}"
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
            f"{path} is damaged: expected a valid entry {wrong[0]!r}; move {path.parent} away, so "
            "that the step is done again"
        )
    return found


def _move(source: Path, target: Path) -> None:
    make_folder(target.parent)
    try:
        source.rename(target)
    except OSError as error:
        raise file_error("move", source, error) from error
