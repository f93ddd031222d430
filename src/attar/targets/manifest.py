"""The manifest: the plan of a store, and its shards."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, TypeVar, cast

from pydantic import PlainValidator, TypeAdapter, ValidationError

from attar.errors import AttarError, FolderError, StoreError
from attar.files import sha256
from attar.records import read_json, write_json
from attar.targets.encoding import (
    Encoding,
    check_encoding,
    encoding_from_json,
    encoding_to_json,
    row_bytes,
)
from attar.urls import Place, do_each

FORMAT = "attar soft targets"
FORMAT_VERSION = 1
MANIFEST, PLAN = "manifest.json", "plan.json"  # of a finished store, of an unfinished one
MOST_SHARDS = 10**6
_SHARD_BYTES, _SHARD_EXAMPLES, _FEW = 2**25, 2**16, 256
_ADVICE = "restore a copy, or remove the store and label again"
_SHA256 = re.compile(r"[0-9a-f]{64}")

Record = TypeVar("Record")


_IDENTITY = (  # fields of a plan that are part of a fingerprint
    "examples",
    "class_names",
    "encoding",
    "data",
    "teacher",
    "members",
    "views",
    "shard_examples",
)


@dataclass(frozen=True, slots=True)
class View:
    """A view of the examples."""

    number: int  # as given to `TransferSet.batch`; 0 is the plain example
    maker: str = ""  # the object that makes it, such as "Jitter(pixels=2)"
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class StorePlan:
    """Everything that determines a store's bytes, except the teacher's logits.

    Args:
        examples: Number of examples of the transfer set.
        class_names: Names of the classes, in the order of the logits.
        encoding: `Dense()` or `Sparse(k=...)`.
        data: Fingerprint of the transfer set.
        teacher: Fingerprint of the teacher.
        members: Fingerprints of an ensemble's members; empty for a single teacher.
        views: The labeled views of each example.
        shard_examples: Examples in a shard. By default as many as fit into 32 MiB, at most 65,536,
            and at most an eighth of the examples unless there are few. A shard is the work unit of
            a worker, and is lost if the worker is killed.

    Raises:
        AttarError: If an argument is out of range.
    """

    examples: int
    class_names: tuple[str, ...]
    encoding: Annotated[Encoding, PlainValidator(encoding_from_json)]
    data: str
    teacher: str
    members: tuple[str, ...] = ()
    views: tuple[View, ...] = (View(0),)
    shard_examples: int = 0

    def __post_init__(self) -> None:
        """Check the ranges, and set the size of a shard."""
        if self.examples < 1 or not self.class_names:
            got = f"{self.examples} examples, {self.classes} classes"
            raise AttarError(f"expected at least one example and one class, got {got}")
        check_encoding(self.encoding, self.classes)
        numbers = [view.number for view in self.views]
        if not numbers or min(numbers) < 0 or len(set(numbers)) < len(numbers):
            raise AttarError(f"expected views with different numbers >= 0, got {numbers}")
        if self.shard_examples < 0:
            raise AttarError(f"expected shard_examples > 0, got {self.shard_examples}")
        if self.shard_examples == 0:
            fitting = max(1, _SHARD_BYTES // row_bytes(self.encoding, self.classes))
            eighth = max(_FEW, -(-self.examples // 8))
            object.__setattr__(self, "shard_examples", min(fitting, eighth, _SHARD_EXAMPLES))
        if max(self.examples, self.shard_examples) >= 2**63:
            got = f"{self.examples} and {self.shard_examples}"
            raise AttarError(f"expected examples and shard_examples below 2**63, got {got}")
        if self.shard_count > MOST_SHARDS:
            raise AttarError(
                f"expected at most {MOST_SHARDS:,} shards, got {self.shard_count:,} of "
                f"{self.shard_examples:,} examples; try larger shard_examples"
            )

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def member_count(self) -> int:
        """Number of stored members per example and view."""
        return max(1, len(self.members))

    @property
    def blocks(self) -> int:
        """Number of shards per view and member."""
        return -(-self.examples // self.shard_examples)

    @property
    def shard_count(self) -> int:
        """Number of shards."""
        return len(self.views) * self.member_count * self.blocks

    @property
    def shards(self) -> "tuple[Shard, ...]":
        """All shards, in the order of their numbers."""
        return tuple(self.shard(number) for number in range(self.shard_count))

    def shard(self, number: int) -> "Shard":
        """Return the shard of a number; the order is by view, then member, then examples."""
        series, block = divmod(number, self.blocks)
        view, member = divmod(series, self.member_count)
        start = block * self.shard_examples
        stop = min(start + self.shard_examples, self.examples)
        return Shard(number, self.views[view].number, member, start, stop)


@dataclass(frozen=True, slots=True)
class Shard:
    """A range of examples of one view, labeled by one member."""

    number: int
    view: int
    member: int
    start: int  # first example
    stop: int  # one past the last

    @property
    def name(self) -> str:
        """File name."""
        return f"shard-{self.number:05d}.arrow"

    @property
    def content(self) -> str:
        """Description of the content."""
        return f"view {self.view}, member {self.member}, examples {self.start} to {self.stop - 1}"

    def __str__(self) -> str:
        """Return the file name and the content."""
        return f"{self.name} ({self.content})"


@dataclass(frozen=True, slots=True)
class Measured:
    """Loss from the encoding, measured against the teacher's logits on some rows of a shard."""

    rows: int
    temperatures: tuple[float, ...] = ()
    entropy_nats: tuple[float, ...] = ()  # mean entropy of the teacher, at each temperature
    tail_error: tuple[float, ...] = ()  # largest error of the tail's probability
    error: tuple[float, ...] = ()  # largest total variation, with the tail as one class
    lost_nats: tuple[float, ...] = ()  # mean KL(teacher ‖ stored, with the tail spread evenly)

    def __post_init__(self) -> None:
        """Check that there is a finite value for each temperature."""
        columns = (self.entropy_nats, self.tail_error, self.error, self.lost_nats)
        if self.rows < 0 or any(len(column) != len(self.temperatures) for column in columns):
            raise StoreError("expected rows >= 0 and one value for each temperature")
        if not all(
            math.isfinite(value) for column in (self.temperatures, *columns) for value in column
        ):
            raise StoreError("expected finite values")


@dataclass(frozen=True, slots=True)
class AnswerCounts:
    """Counts of the teacher's right answers on the labeled examples of a shard."""

    labeled: int
    right: int
    nll_sum: float  # of -log p of the true class at temperature 1, in nats
    class_counts: tuple[tuple[int, int], ...]  # (class, labeled examples), most frequent first

    def __post_init__(self) -> None:
        """Check that the counts are consistent."""
        counts = [count for _, count in self.class_counts]
        if (
            not 0 <= self.right <= self.labeled
            or not bool(self.labeled) <= sum(counts) <= self.labeled
            or min((*counts, *(number + 1 for number, _ in self.class_counts)), default=1) < 1
            or not math.isfinite(self.nll_sum)
        ):
            raise StoreError(f"expected consistent counts of right answers, got {self}"[:200])


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """The entry of a written shard."""

    number: int
    view: int
    member: int
    start: int
    stop: int
    rows: int
    bytes: int
    sha256: str
    measured: Measured = field(default_factory=lambda: Measured(rows=0))
    # None if its view is not counted, or the shard is from an earlier release. Not compared, so
    # that `merge` treats shards of both releases as equal.
    answers: AnswerCounts | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Check the fields that are not in the plan; the checksum is a file name of the cache."""
        if not _SHA256.fullmatch(self.sha256):
            raise StoreError(f"expected a SHA-256 of 64 hex digits, got {self.sha256[:80]!r}")
        labeled = 0 if self.answers is None else self.answers.labeled
        if not max(self.measured.rows, labeled) <= self.rows == self.stop - self.start:
            got = f"{self.rows}, {self.measured.rows} of them measured and {labeled} labeled"
            raise StoreError(f"expected {self.stop - self.start} rows, got {got}")
        if not 0 <= self.bytes < 2**63:
            raise StoreError(f"expected bytes in 0..2**63 - 1, got {self.bytes}")

    @property
    def shard(self) -> Shard:
        """The shard."""
        return Shard(self.number, self.view, self.member, self.start, self.stop)


def entry_path(folder: Place, shard: Shard) -> Place:
    """Return the path of a shard's entry in an unfinished store."""
    return folder / f"{shard.name.removesuffix('.arrow')}.json"


def write_plan(folder: Place, plan: StorePlan) -> None:
    """Write the plan of an unfinished store."""
    _write(folder / PLAN, _plan_to_json(plan))


def write_entry(folder: Place, entry: ShardEntry) -> None:
    """Write the entry of a finished shard."""
    _write(entry_path(folder, entry.shard), asdict(entry))


def write_manifest(folder: Place, plan: StorePlan, entries: tuple[ShardEntry, ...]) -> None:
    """Write the manifest, which finishes a store."""
    _write(folder / MANIFEST, _plan_to_json(plan) | {"shards": [asdict(e) for e in entries]})


def read_plan(folder: Place) -> StorePlan:
    """Read the plan of an unfinished store; raise `StoreError` if it is damaged."""
    return _plan_from_json(folder / PLAN, _read(folder / PLAN))


def read_entries(folder: Place, plan: StorePlan) -> list[ShardEntry | None]:
    """Read the entries of all shards; None for a shard that is not finished.

    Only the sizes of the shards are checked.
    """
    names = {each.name for each in folder.iterdir()}

    def read(shard: Shard) -> ShardEntry | None:
        path = entry_path(folder, shard)
        if not {path.name, shard.name} <= names:
            return None
        try:
            entry = _parse(ShardEntry, path, _read(path))
        except FolderError:
            return None  # the shard is written again
        whole = (folder / shard.name).stat().st_size == entry.bytes
        return entry if whole and entry.shard == shard else None

    return do_each(folder, read, plan.shards)


def read_manifest(folder: Place) -> tuple[StorePlan, tuple[ShardEntry, ...]]:
    """Read the manifest of a finished store; raise `StoreError` if it is damaged or too new."""
    path = folder / MANIFEST
    content = _read(path)
    plan = _plan_from_json(path, content)
    shards = content.get("shards")
    entries = tuple(
        _parse(ShardEntry, path, each) for each in (shards if isinstance(shards, list) else ())
    )
    # Counts are compared first, because a damaged plan may have too many shards to list.
    if len(entries) != plan.shard_count or tuple(each.shard for each in entries) != plan.shards:
        raise StoreError(f"{path} is damaged: its shards do not cover its examples; {_ADVICE}")
    return plan, entries


def _write(path: Place, content: dict[str, Any]) -> None:
    content = {"format": FORMAT, "version": FORMAT_VERSION, **content}
    write_json(path, content | {"checksum": _checksum(content)})


def _read(path: Place) -> dict[str, Any]:
    try:
        content = read_json(path)
    except FolderError as error:
        raise StoreError(f"{error}, or restore a copy of it") from error
    if content.get("format") != FORMAT:
        raise StoreError(f"{path} is not part of a soft-target store; expected format {FORMAT!r}")
    if content.get("version") != FORMAT_VERSION:
        found = (
            f"{path} has format {content.get('version')}, but this release reads {FORMAT_VERSION}"
        )
        raise StoreError(f"{found}; install a newer attar")
    checksum = content.pop("checksum", None)
    try:
        is_whole = checksum == _checksum(content)
    except (ValueError, RecursionError):  # cannot have been written by `_write`
        is_whole = False
    if not is_whole:
        raise StoreError(f"{path} is damaged: its checksum differs; {_ADVICE}")
    return content


def _checksum(content: Mapping[str, Any]) -> str:
    text = json.dumps(
        content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return sha256(text.encode())


def identify_plan(plan: StorePlan) -> dict[str, Any]:
    """Return the fields of a plan that are part of a fingerprint, as JSON."""
    content = _plan_to_json(plan)
    return {name: content[name] for name in _IDENTITY}


def _plan_to_json(plan: StorePlan) -> dict[str, Any]:
    content = asdict(plan) | {"encoding": encoding_to_json(plan.encoding)}
    return cast(dict[str, Any], json.loads(json.dumps(content)))


def _plan_from_json(path: Place, content: Mapping[str, Any]) -> StorePlan:
    missing = [name for name in StorePlan.__dataclass_fields__ if name not in content]
    if missing:
        raise StoreError(f"{path} is damaged: it has no {missing[0]}; {_ADVICE}")
    return _parse(StorePlan, path, content)


def _parse(kind: type[Record], path: Place, content: object) -> Record:
    """Make a record from JSON; raise `StoreError` unless each field has exactly its type."""
    try:
        return cast(Record, _ADAPTERS[kind].validate_json(json.dumps(content), strict=True))
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(map(str, first["loc"])) or "content"
        raise StoreError(f"{path} is damaged: {at}: {first['msg']}; {_ADVICE}") from error


def answers_to_json(counts: AnswerCounts | None) -> dict[str, Any] | None:
    """Convert the counts of a shard to JSON values."""
    return None if counts is None else asdict(counts)


def answers_from_json(content: Mapping[str, Any] | None) -> AnswerCounts | None:
    """Convert JSON values to the counts of a shard."""
    if content is None:
        return None
    pairs = tuple((label, count) for label, count in content["class_counts"])
    return AnswerCounts(**{**content, "class_counts": pairs})


_ADAPTERS: dict[type, Any] = {kind: TypeAdapter(kind) for kind in (StorePlan, ShardEntry)}
