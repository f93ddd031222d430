"""Load the objects that a job file names: sets of examples, networks, teachers."""

import copy
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from functools import partial
from pathlib import Path

import torch
from torch import nn

from attar.answers import find_logits
from attar.data import (
    Jitter,
    StreamedSet,
    TransferSet,
    load_mnist,
    name_views,
    read_arrays,
    read_image_folder,
    read_table,
    stream_images,
    stream_table,
)
from attar.errors import AttarError, ObjectError
from attar.jobs.code import fingerprint_code
from attar.jobs.file import Job
from attar.jobs.set_tables import SetTable, TransferTable
from attar.jobs.settings import TeacherTable
from attar.modes import evaluation_mode
from attar.objects import describe_error, load_object, make_object
from attar.teachers import Ensemble, Teacher, as_teacher
from attar.teachers.classifiers import is_classifier
from attar.teachers.hugging_face import as_network, is_hugging_face
from attar.teachers.image_processors import UNCHANGED
from attar.weights import load_weights

MNIST = "mnist"
AnySet = TransferSet | StreamedSet
_ARRAYS, _TABLES = (".npz", ".npy"), (".parquet", ".csv", ".tsv")
_FOR_ALL = {"source", "examples", "unlabeled", "jitter", "jitter_seed"}
_FOR_TABLES = {"inputs", "target", "ignore", "class_names", "classes", "padding"}  # and .npz files
_FOR_IMAGES = {"class_names", "size", "colors"}
_FOR_STREAMS = {"streamed", "fingerprint"}


def load_transfer_set(job: Job, *, cache: bool = True) -> AnySet:
    """Load the transfer set; with `cache`, decoded images are stored in the job's folder.

    Raises:
        JobError: If it cannot be loaded; the message names the line.
    """
    table = job.settings.transfer_set
    loaded = _load_set(job, "transfer_set", table, None, job.folder / "cache" if cache else None)
    if not table.jitter:
        return loaded
    with job.blaming("transfer_set", "jitter"):
        jittered = loaded.with_views(Jitter(pixels=table.jitter, seed=table.jitter_seed))
        jittered.batch(torch.tensor([0]), view=1)  # raises if these are no images
    return jittered


def load_test_set(job: Job, transfer_set: AnySet, *, cache: bool = True) -> TransferSet:
    """Load the test set, which has the transfer set's classes and a hard target per example.

    Raises:
        JobError: If there is none, or it cannot be loaded; the message names the line.
    """
    table = job.settings.test_set
    if table is None:
        raise job.error("comparing needs a table [test_set]", "test_set")
    names = transfer_set.class_names
    loaded = _load_set(job, "test_set", table, names, job.folder / "cache" if cache else None)
    if not isinstance(loaded, TransferSet):
        raise job.error("expected a TransferSet, got a StreamedSet", "test_set", "source")
    if loaded.class_names != names:
        told = f"{list(loaded.class_names[:5])} of {loaded.classes}"
        wanted = f"{list(names[:5])} of {len(names)}"
        raise job.error(f"expected the classes {wanted}, got {told}; set class_names", "test_set")
    columns = loaded.feature_names
    if columns is not None and transfer_set.feature_names not in (None, columns):
        order = list((transfer_set.feature_names or ())[:8])
        raise job.error(
            f"expected the input columns of the transfer set in its order, {order}, got "
            f"{list(columns[:8])}; set inputs",
            "test_set",
        )
    unlabeled = (loaded.hard_targets < 0).nonzero()
    if len(unlabeled):
        first = int(unlabeled[0])
        raise job.error(
            f"expected a hard target for every example, but example {first} has none", "test_set"
        )
    return loaded


def make_network(job: Job, *key: str | int, seed: int) -> nn.Module:
    """Make a new network from the `source` at the key.

    Values drawn from torch's default generator depend on the seed.

    Raises:
        JobError: If it cannot be made.
    """
    spec = _value(job, *key, "source")
    with job.blaming(*key, "source"):
        made = _make(job, spec, seed)
        if not isinstance(made, nn.Module):
            kind = type(made).__qualname__
            raise ObjectError(f"expected a torch module from {spec}, got {kind}")
    return made


def check_network(job: Job, network: nn.Module, transfer_set: AnySet, *key: str | int) -> None:
    """Raise `JobError` unless the network returns one logit per class for two examples."""
    batch = transfer_set.batch(torch.arange(min(2, len(transfer_set))))
    given = f"inputs {list(batch.inputs.shape)} {str(batch.inputs.dtype).removeprefix('torch.')}"
    spec = _value(job, *key, "source")
    try:
        with evaluation_mode(network), torch.no_grad():
            answer = as_network(network, transfer_set.class_names)(batch.inputs)
            logits = find_logits(answer, f"the network {type(network).__name__}")
    except Exception as error:  # of the user's code
        told = f"{spec} fails on {given}: {describe_error(error)}"
        raise job.error(told, *key, "source") from error
    expected = [len(batch.indices), transfer_set.classes]
    if list(logits.shape) != expected:
        raise job.error(
            f"expected logits {expected}, one per class of the transfer set, got "
            f"{list(logits.shape)} from {given}",
            *(*key, "source"),
        )


def load_teacher(job: Job, transfer_set: AnySet, trained: Callable[[int], Path | None]) -> Teacher:
    """Load the teacher or the ensemble.

    Args:
        job: The job.
        transfer_set: The transfer set.
        trained: Position of a teacher -> weights file trained by the job, or None.

    Raises:
        JobError: If a teacher cannot be loaded, or does not fit the transfer set.
    """
    teachers = []
    for position, table in enumerate(job.settings.teacher):
        with job.blaming("teacher", position, "source"):
            weights = trained(position)
            teachers.append(_load_teacher(job, position, table, transfer_set, weights))
    with job.blaming("teacher"):
        return teachers[0] if len(teachers) == 1 else Ensemble(teachers)


def code_of(job: Job, *key: str | int) -> str | None:
    """Return the fingerprint of the code behind `source`; None for a file."""
    spec = _value(job, *key, "source")
    if not is_object(spec):
        return None
    with job.blaming(*key, "source"):
        return fingerprint_code(spec, job.root)


def identify_views(job: Job, transfer_set: AnySet, *, are_seen: bool) -> dict[str, str | None]:
    """Return the step inputs that identify the views of a set, if the step uses views.

    The name of a function or class does not change with its code. Its code belongs to the `source`
    of the set and is hashed with it.
    """
    if not are_seen:
        return {"jitter": None}
    with job.blaming("transfer_set", "source"):
        named: dict[str, str | None] = {"jitter": name_views(transfer_set.views)}
    if not isinstance(transfer_set.views, Jitter):
        named["the views' code"] = code_of(job, "transfer_set")
    return named


def is_object(source: str) -> bool:
    """Return whether a source is `file.py:name` or `package.module:name`, not a path."""
    place, _, name = source.rpartition(":")
    return bool(place) and name.replace(".", "").isidentifier()


def _load_teacher(
    job: Job, position: int, table: TeacherTable, transfer_set: AnySet, trained: Path | None
) -> Teacher:
    processor: object = table.processor
    if table.processor not in (None, UNCHANGED):
        processor = job.root / str(table.processor)
    wrap = partial(
        as_teacher,
        class_names=transfer_set.class_names,
        examples=len(transfer_set),
        answers=table.answers,
        rest=table.rest,
        padding=table.padding,
        processor=processor,
        feature_names=getattr(transfer_set, "feature_names", None),
    )
    if not is_object(table.source):
        if table.weights is not None:
            raise job.error(
                f"weights cannot be used with the file {table.source}, got {table.weights!r}; "
                "remove it",
                *("teacher", position, "weights"),
            )
        return wrap(job.root / table.source)
    made = _make(job, table.source, seed=0)
    weights = trained or (job.root / table.weights if table.weights else None)
    if weights is not None:
        if not isinstance(made, nn.Module):
            kind = type(made).__qualname__
            raise AttarError(f"expected a torch module for the weights {weights}, got {kind}")
        with job.blaming("teacher", position, "weights" if table.weights else "source"):
            load_weights(weights, made)
    if trained is not None and isinstance(made, nn.Module) and is_hugging_face(made):
        return wrap(as_network(made, transfer_set.class_names))  # called as in its training
    is_function = callable(made) and not isinstance(made, nn.Module | Teacher)
    if not is_function or is_classifier(made):
        return wrap(made)
    return wrap(made, version=fingerprint_code(table.source, job.root))


def _make(job: Job, spec: str, seed: int) -> object:
    """Load a named object; functions and classes are called, networks are copied."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # for values drawn when the file is imported
        found = load_object(spec, job.root)
        if isinstance(found, nn.Module):
            return copy.deepcopy(found)  # training must not change the original
        if callable(found):
            torch.manual_seed(seed)
            return make_object(spec, job.root, object)
    return found


def _load_set(
    job: Job, name: str, table: SetTable, like: tuple[str, ...] | None, cache: Path | None
) -> AnySet:
    with job.blaming(name, "source"):
        loaded = _read_set(job, name, table, table.class_names or like, cache)
    if table.examples is None:
        return loaded
    if table.examples > len(loaded):
        found = f"expected at most the {len(loaded)} examples of {table.source}"
        raise job.error(f"{found}, got {table.examples}", name, "examples")
    return loaded.subset(torch.arange(table.examples))


def _read_set(
    job: Job, name: str, table: SetTable, class_names: tuple[str, ...] | None, cache: Path | None
) -> AnySet:
    source = job.root / table.source
    if table.source == MNIST:
        _check_keys(job, name, table, MNIST)
        mnist = load_mnist()
        made: object = mnist.test if name == "test_set" else mnist.train
    elif is_object(table.source):
        _check_keys(job, name, table, table.source)
        made = _make(job, table.source, seed=0)
    elif isinstance(table, TransferTable) and table.streamed:
        return _stream_set(job, name, table)
    elif source.suffix in _ARRAYS:
        return _read_arrays(job, name, table, class_names)
    elif source.suffix in _TABLES:
        return _read_table(job, name, table, class_names)
    elif source.is_dir():
        _check_keys(job, name, table, "a folder of images", _FOR_IMAGES)
        return read_image_folder(
            source,
            size=table.size,
            colors=table.colors,
            class_names=class_names,
            unlabeled=table.unlabeled,
            cache=cache,
        )
    else:
        raise AttarError(
            f"expected mnist, a {', '.join((*_ARRAYS, *_TABLES))} file, a folder of images or "
            f"file.py:name, got {table.source!r}"
        )
    if not isinstance(made, TransferSet | StreamedSet):
        kind = type(made).__qualname__
        raise ObjectError(f"expected an attar.TransferSet from {table.source}, got {kind}")
    return made.without_hard_targets() if table.unlabeled else made


def _check_no_target(job: Job, name: str, table: SetTable, loaded: AnySet) -> None:
    """Raise `JobError` if the hard targets of an unlabeled table became an input."""
    if table.unlabeled and table.inputs is None and table.target in (loaded.feature_names or ()):
        raise job.error(
            f"expected no column {table.target!r} among the inputs of an unlabeled set; set inputs "
            f'or ignore = ["{table.target}"]',
            name,
            "unlabeled",
        )


def _check_keys(job: Job, name: str, table: SetTable, told: str, *known: AbstractSet[str]) -> None:
    """Raise `JobError` if a key has no effect for such a source."""
    used = _FOR_ALL.union(*known)
    for key in type(table).model_fields:
        if key in table.model_fields_set and key not in used:
            value = getattr(table, key)
            if value != type(table).model_fields[key].default:
                raise job.error(f"{key} has no effect for {told}; remove it", name, key)


def _read_arrays(
    job: Job, name: str, table: SetTable, class_names: tuple[str, ...] | None
) -> TransferSet:
    path = job.root / table.source
    used = _FOR_TABLES if path.suffix == ".npz" else {"class_names", "classes"}
    _check_keys(job, name, table, f"a {path.suffix} file", used)
    if table.inputs is not None and len(table.inputs) > 1:
        raise job.error(f"expected one array, got {list(table.inputs)}", name, "inputs")
    return read_arrays(
        path,
        target=None if table.unlabeled or path.suffix == ".npy" else table.target,
        inputs=table.inputs[0] if table.inputs else "inputs",
        class_names=class_names,
        classes=table.classes,
        padding=table.padding,
        ignore=table.ignore or (),
    )


def _read_table(
    job: Job, name: str, table: SetTable, class_names: tuple[str, ...] | None
) -> TransferSet:
    path = job.root / table.source
    _check_keys(job, name, table, f"a {path.suffix} file", _FOR_TABLES)
    loaded = read_table(
        path,
        target=None if table.unlabeled else table.target,
        inputs=table.inputs,
        class_names=class_names,
        classes=table.classes,
        padding=table.padding,
        ignore=table.ignore or (),
    )
    _check_no_target(job, name, table, loaded)
    return loaded


def _stream_set(job: Job, name: str, table: TransferTable) -> StreamedSet:
    source = table.source if "://" in table.source else job.root / table.source
    if isinstance(source, Path) and source.is_dir() and not any(source.rglob("*.parquet")):
        _check_keys(job, name, table, "a folder of images", _FOR_IMAGES, _FOR_STREAMS)
        return stream_images(
            source,
            size=table.size,
            colors=table.colors,
            class_names=table.class_names,
            unlabeled=table.unlabeled,
            fingerprint=table.fingerprint,
        )
    if table.class_names is None:
        raise AttarError("streamed = true needs class_names; list the names of the classes")
    _check_keys(
        job, name, table, "a streamed Parquet file", _FOR_TABLES - {"classes"}, _FOR_STREAMS
    )
    loaded = stream_table(
        source,
        target=None if table.unlabeled else table.target,
        class_names=table.class_names,
        inputs=table.inputs,
        padding=table.padding,
        ignore=table.ignore or (),
        fingerprint=table.fingerprint,
    )
    _check_no_target(job, name, table, loaded)
    return loaded


def _value(job: Job, *key: str | int) -> str:
    """Return the text at a key of the settings."""
    value: object = job.settings
    for part in key:
        value = value[part] if isinstance(value, tuple) else getattr(value, str(part))  # type: ignore[index]
    return str(value)
