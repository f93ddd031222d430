"""Records of runs, written as JSON."""

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from attar.errors import FolderError, file_error
from attar.files import sha256, write_atomically
from attar.precision import auto_precision
from attar.urls import Place


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine and software of a result."""

    processor: str
    cores: int
    threads: int  # of torch, per operation
    memory_gib: float | None
    system: str
    python: str
    torch: str
    attar: str
    commit: str | None  # of attar's checkout, with "+changes" if modified
    precision: str | None = None  # selected by `auto`; None if not recorded


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One number of an experiment: the paper's, and ours over seeds."""

    name: str
    metric: str
    paper: float | None  # None if the paper has no such number
    mean: float
    sd: float | None  # sample standard deviation over seeds; None for a single seed
    seeds: int
    values: tuple[float, ...] = ()  # one per seed
    parameters: int | None = None  # of the network, if the row is about one

    @classmethod
    def over_seeds(
        cls,
        name: str,
        values: Sequence[float],
        *,
        metric: str,
        paper: float | None,
        parameters: int | None = None,
    ) -> "ResultRow":
        """Summarize one value per seed."""
        return cls(
            name=name,
            metric=metric,
            paper=paper,
            mean=statistics.fmean(values),
            sd=statistics.stdev(values) if len(values) > 1 else None,
            seeds=len(values),
            values=tuple(values),
            parameters=parameters,
        )


@dataclass(frozen=True, slots=True)
class ExperimentResult:
    """The result table of an experiment, with everything needed to repeat it."""

    experiment: str
    command: str
    rows: tuple[ResultRow, ...]
    config: dict[str, Any]
    machine: Machine
    wall_seconds: float  # of training steps only, over all resumed runs
    details: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "ExperimentResult":
        """Read a result file, and check it if it has a checksum.

        Raises:
            FolderError: If it cannot be read, is damaged, or is not a result file.
        """
        content = read_json(path)
        if "checksum" in content:  # files of earlier releases have none
            content = read_sealed_json(path)
        try:
            rows = tuple(
                ResultRow(**row | {"values": tuple(row["values"])}) for row in content.pop("rows")
            )
            if not rows:
                raise TypeError("it has no rows")
            return cls(**content | {"rows": rows, "machine": Machine(**content["machine"])})
        except (KeyError, TypeError) as error:
            raise FolderError(f"{path} is not a result file of this release ({error})") from error

    def write(self, path: Path) -> None:
        """Write the result as JSON with a checksum.

        Raises:
            FolderError: If the file cannot be written; an earlier file is then unchanged.
        """
        write_sealed_json(path, asdict(self))


def write_json(path: Place, record: Any) -> None:  # noqa: ANN401  (a record or what JSON can hold)
    """Write a record or JSON values to an indented JSON file.

    Raises:
        FolderError: If the file cannot be written; an earlier file is then unchanged.
    """
    content = asdict(record) if hasattr(record, "__dataclass_fields__") else record
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(path, (text + "\n").encode())


def read_json(path: Place) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        FolderError: If the file cannot be read or is not a JSON object.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise file_error("read", path, error) from error
    except (ValueError, RecursionError) as error:
        raise FolderError(f"{path} is damaged: expected JSON, {error}; remove it") from error
    if not isinstance(content, dict):
        raise FolderError(f"{path} is damaged: expected a JSON object; remove it")
    return content


def write_sealed_json(path: Place, content: dict[str, Any]) -> None:
    """Write a JSON object with its checksum, under the key `checksum`.

    Raises:
        FolderError: If the file cannot be written; an earlier file is then unchanged.
    """
    write_json(path, seal(content))


def read_sealed_json(path: Place) -> dict[str, Any]:
    """Read a file written by `write_sealed_json`, without its checksum.

    Raises:
        FolderError: If the file cannot be read, or does not match its checksum.
    """
    return unseal(read_json(path), path)


def seal(content: dict[str, Any]) -> dict[str, Any]:
    """Add a checksum of the content, under the key `checksum`."""
    return content | {"checksum": _checksum(content)}


def unseal(content: dict[str, Any], path: Place) -> dict[str, Any]:
    """Return content without its checksum.

    Raises:
        FolderError: If the content, read from `path`, does not match it.
    """
    rest = {name: value for name, value in content.items() if name != "checksum"}
    if content.get("checksum") != _checksum(rest):
        raise FolderError(f"{path} is damaged: its checksum does not match its content; remove it")
    return rest


def _checksum(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return sha256(text.encode())


def this_machine() -> Machine:
    """Describe the current machine and software."""
    return Machine(
        processor=_processor(),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        memory_gib=_memory_gib(),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        torch=torch.__version__,
        attar=version("attar"),
        commit=_commit(),
        precision=auto_precision(torch.device("cpu")),
    )


def _processor() -> str:
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return str(capabilities.get("cpu_name") or platform.processor() or platform.machine())


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):  # no sysconf on this system
        return None


def _commit() -> str | None:
    """Return the commit of attar's checkout, if attar runs from one."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        changes = git("status", "--porcelain", "--", "src")
        return git("rev-parse", "--short=12", "HEAD") + ("+changes" if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return None
