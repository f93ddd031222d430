"""What goes between this process and those of the cluster: objects there, errors back."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

import attar
from attar import errors
from attar.cluster.starting import import_ray
from attar.errors import AttarError

_FEW = 300  # characters of another package's error


def share(value: object, name: str) -> Any:  # noqa: ANN401 (a reference of Ray's)
    """Put a value into the cluster's object store.

    Raises:
        AttarError: If it cannot be pickled; it says what in it cannot.
    """
    ray = import_ray()
    try:
        return ray.put(value)
    except (TypeError, AttributeError, ValueError, ray.exceptions.RayError) as error:
        raise AttarError(
            f"expected {name} to be what can be sent to other processes, got {_short(error)}; "
            "does it hold an open file, a lock or a connection? open it when it is first asked"
        ) from error


def fault(error: Exception) -> str:
    """Put an error of a worker into a text."""
    return f"{type(error).__name__}: {error}"


def revive(text: str) -> AttarError:
    """Make of such a text the error that it was, if that is one of attar's."""
    name, _, message = text.partition(": ")
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, AttarError):
        return kind(message)
    return AttarError(f"a worker of the cluster fails: {_short(text)}")


@contextmanager
def explaining() -> Iterator[None]:
    """Turn Ray's errors into one line."""
    ray = import_ray()
    try:
        yield
    except ray.exceptions.RayError as error:
        raise AttarError(
            f"the cluster fails: {_short(error)}; what is done is kept, the same call goes on"
        ) from error


def versions() -> str:
    """Say which packages decide the bytes."""
    return f"attar {attar.__version__} with torch {torch.__version__}"


def check_versions(expected: str) -> None:
    """Raise `AttarError` unless this machine has the versions that the driver has."""
    if versions() != expected:
        raise AttarError(
            f"expected {expected} on every machine, got {versions()} on {platform.node()}; "
            "install the same there"
        )


def _short(reason: object) -> str:
    lines = [line.strip() for line in str(reason).splitlines() if line.strip()]
    text = " ".join(lines)
    return text if len(text) <= _FEW else f"{text[:_FEW]}…"
