"""Read a job file, with errors that name line, key, expected and actual value."""

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from attar.errors import AttarError, JobError, file_error
from attar.jobs.lines import Key, find_line, show_key
from attar.jobs.settings import TABLES, JobSettings, validate
from attar.jobs.table import Table
from attar.jobs.values import AUTO
from attar.objects import add_users_line, describe_error, users_line

Details = Mapping[str, Any]  # of a pydantic error: type, loc, msg, input


@dataclass(frozen=True)
class Job:
    """A job file, validated as far as possible without its data."""

    path: Path
    text: str
    settings: JobSettings

    @property
    def root(self) -> Path:
        """The folder to which paths of the job file are relative."""
        return self.path.parent

    @property
    def folder(self) -> Path:
        """The folder of the results."""
        return self.root / (self.settings.folder or self.path.stem)

    @cached_property
    def content(self) -> dict[str, Any]:
        """The content of the file, without defaults."""
        return tomllib.loads(self.text)

    def place(self, *key: str | int) -> str:
        """Return file, line and name of a key, the start of an error."""
        line = find_line(self.text, key)
        return f"{self.path}, line {line}, {show_key(key, self.content)}"

    def error(self, message: str, *key: str | int) -> JobError:
        """Make an error about the value of a key."""
        return JobError(f"{self.place(*key)}: {message}")

    @contextmanager
    def blaming(self, *key: str | int, but: type[AttarError] = JobError) -> Iterator[None]:
        """Prefix errors of the body, except those of type `but`, with the place of a key.

        An error from the user's code ends with its file and line there.
        """
        try:
            yield
        except (JobError, but):
            raise
        except AttarError as error:
            raise self.error(add_users_line(str(error), error), *key) from error
        except Exception as error:
            if users_line(error) is None:  # a bug in attar
                raise
            raise self.error(describe_error(error), *key) from error


def read_job(path: Path | str) -> Job:
    """Read a job file.

    Raises:
        JobError: If it cannot be read, is not TOML, or has an unexpected key or value.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise JobError(f"{file_error('read', path, error)}; `attar init` writes one") from error
    except UnicodeDecodeError as error:
        raise JobError(f"expected a job file in UTF-8, got {path}: {error}") from error
    text = text.replace("\r\n", "\n")
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise JobError(_not_toml(path, text, error)) from error
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, deep nesting
        raise JobError(f"expected a job file, got {path}: {error}") from error
    try:
        job = Job(path, text, validate(content))
    except ValidationError as error:
        raise JobError(_explain(path, text, content, error)) from error
    _check_together(job)
    if "\0" in str(job.folder):
        raise job.error("expected a path, got one with a null character", "folder")
    if job.folder.resolve() in (job.root.resolve(), path.resolve()):
        hint = f'try folder = "runs/{path.stem}"'
        raise job.error(f"expected a folder for this job alone, got {job.folder}; {hint}", "folder")
    return job


def _check_together(job: Job) -> None:
    """Raise `JobError` if tables contradict each other."""
    settings = job.settings
    soft_targets, distill, teachers = settings.soft_targets, settings.distill, settings.teacher
    if soft_targets.encoding == "sparse":
        if distill.temperature != AUTO and distill.temperature < 1:
            found = f"expected at least 1 with sparse soft targets, got {distill.temperature}"
            raise job.error(f'{found}; or use encoding = "dense"', "distill", "temperature")
        if distill.mean == "geometric" and len(teachers) > 1:
            found = "expected arithmetic with the sparse soft targets of an ensemble, got geometric"
            raise job.error(f'{found}; or use encoding = "dense"', "distill", "mean")
    if distill.temperature == AUTO and settings.transfer_set.unlabeled:
        found = 'expected a number, because the transfer set is unlabeled, got "auto"'
        raise job.error(f"{found}; try temperature = 4.0", "distill", "temperature")
    if distill.temperature == AUTO and settings.cluster.together:
        found = 'expected a number with [cluster] together = true, got "auto"'
        raise job.error(f"{found}; try temperature = 4.0", "distill", "temperature")
    weights = distill.member_weights
    if weights is not None and len(weights) != len(teachers):
        found = f"expected one weight for each of {len(teachers)} teachers, got {list(weights)}"
        raise job.error(f"{found}; or leave it out", "distill", "member_weights")
    if weights is not None and sum(weights) == 0:
        found = f"expected weights that are not all 0, got {list(weights)}"
        raise job.error(f"{found}; or leave it out", "distill", "member_weights")
    seen = settings.transfer_set
    if any(soft_targets.views) and not seen.jitter and ":" not in seen.source:
        found = (
            f"expected [0], because the transfer set has no views, got {list(soft_targets.views)}"
        )
        raise job.error(f"{found}; set jitter = 2 in [transfer_set]", "soft_targets", "views")


def _not_toml(path: Path, text: str, error: tomllib.TOMLDecodeError) -> str:
    message = str(error)
    found = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", message)
    line = int(found[1]) if found and found[1] else len(text.splitlines())
    reason = message[: found.start()] if found else message
    reason = reason[:1].lower() + reason[1:]
    return f"{path}, line {line}: invalid TOML ({reason}); write lines such as epochs = 10"


def _explain(path: Path, text: str, content: dict[str, Any], error: ValidationError) -> str:
    """Describe one of the errors in a line: a misspelled key if there is one, else the first."""
    errors = error.errors(include_url=False)
    # An array with an invalid item is also reported as too short.
    outer = {each["loc"][:size] for each in errors for size in range(len(each["loc"]))}
    inner = [each for each in errors if each["loc"] not in outer]
    details = min(
        inner, key=lambda each: (each["type"] != "extra_forbidden", find_line(text, each["loc"]))
    )
    key = details["loc"]
    more = f" (and {len(inner) - 1} more)" if len(inner) > 1 else ""
    place = f"{path}, line {find_line(text, key)}, {show_key(key, content)}"
    return f"{place}: {_tell(key, details)}{more}"


def _tell(key: Key, details: Details) -> str:
    """Describe the expected and actual value, and what to try."""
    kind, value = details["type"], details["input"]
    names = [part for part in key if isinstance(part, str)]
    name = names[-1] if names else ""
    if kind == "value_error":
        return str(details["msg"]).removeprefix("Value error, ")
    table = TABLES.get(tuple(names[:-1]), Table)
    if kind == "extra_forbidden":
        return _unknown(name, table)
    is_table = tuple(names) in TABLES
    if kind == "missing" and is_table:
        return f"expected a table [{name}], got none; `attar init` writes an example"
    field = table.model_fields.get(name)
    hint = f"; try {name} = {_toml(field.examples[0])}" if field and field.examples else ""
    if kind == "missing" and isinstance(key[-1], str):
        told = field.description if field else ""
        return f"expected {name} ({told}), got none{hint}"
    return f"expected {_expectation(details, is_table)}, got {_toml(value)}{hint}"


def _expectation(details: Details, is_table: bool) -> str:
    kind, message = details["type"], str(details["msg"]).removeprefix("Input should be ")
    if kind in ("tuple_type", "model_type"):
        return "a table" if is_table else "an array in [brackets]"
    if kind in ("missing", "too_short"):
        return "more items in the array"
    if kind == "too_long":
        return "fewer items in the array"
    return f"a number {message}" if message.startswith(("greater", "less")) else message


def _unknown(name: str, table: type[Table]) -> str:
    names = list(table.model_fields)
    near = difflib.get_close_matches(name, names, n=1)
    homes = [".".join([*path, name]) for path, each in TABLES.items() if name in each.model_fields]
    hint = f"did you mean {near[0]}?" if near else ""
    if not near and homes:
        hint = f"did you mean {' or '.join(homes)}?"
    return f"expected one of {', '.join(names)}, got {name!r}; {hint or 'remove it'}"


def _toml(value: object) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return "a table"
    text = str(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
