"""The errors that attar raises at its public doors.

Each says what was expected, what came, and what to try. All of them are also `ValueError`s, so that
a caller who does not care which one it is may catch that.
"""

from torch import Tensor


class AttarError(ValueError):
    """Anything that the caller can mend: wrong arguments, damaged files, a full disk."""


class ShapeError(AttarError):
    """Tensors whose shapes do not fit together."""


class DataError(AttarError):
    """A data set that is damaged, empty or of the wrong kind."""


class DivergedError(AttarError):
    """A loss or a gradient that is not finite."""


class FolderError(AttarError):
    """A folder or a file that cannot be used for what it was given for."""


class UrlError(FolderError, OSError):
    """What is at a URL, and cannot be used."""


class ObjectError(AttarError):
    """A Python object, named by the user, that cannot be loaded or is of the wrong kind."""


class JobError(AttarError):
    """A job file that is wrong, or a step of it that cannot be done yet."""


class ExportError(AttarError):
    """A network that cannot be exported, or whose exported form gives other logits."""


class MissingExtraError(AttarError):
    """An optional package that is not installed."""


class StoreError(FolderError):
    """A soft-target store that is damaged, incomplete, or made for something else."""


class TeacherWarning(UserWarning):
    """A teacher that is right too seldom on the labeled examples of a transfer set."""


class StoreWarning(UserWarning):
    """Shards of a store that were lost or damaged, and are written again."""


def check_same_shape(**tensors: Tensor) -> None:
    """Raise `ShapeError` unless all tensors, given by name, have one shape."""
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    if len({tuple(shape) for shape in shapes.values()}) > 1:
        got = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ShapeError(f"expected one shape, got {got}; do both use one class list?")


def check_positive(**numbers: float) -> None:
    """Raise `AttarError` unless all numbers, given by name, are finite and above zero."""
    for name, number in numbers.items():
        if not 0 < number < float("inf"):
            raise AttarError(f"expected {name} > 0 and finite, got {number}")


def check_not_negative(**numbers: float) -> None:
    """Raise `AttarError` unless all numbers, given by name, are finite and zero or more."""
    for name, number in numbers.items():
        if not 0 <= number < float("inf"):
            raise AttarError(f"expected {name} >= 0 and finite, got {number}")


def file_error(action: str, path: object, error: OSError) -> FolderError:
    """Put an `OSError` into one line: what was tried, on which path, and why it failed."""
    if isinstance(error, FolderError):  # it says so already
        return error
    return FolderError(f"cannot {action} {path}: {error.strerror or error}")
