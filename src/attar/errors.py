"""The errors and warnings of attar's public functions.

A message states the expected and the actual value, and what to try. All errors are also
`ValueError`s.
"""

from torch import Tensor


class AttarError(ValueError):
    """An error that the caller can fix: wrong arguments, damaged files, a full disk."""


class ShapeError(AttarError):
    """Tensors whose shapes do not fit together."""


class DataError(AttarError):
    """A data set that is damaged, empty or of the wrong kind."""


class DivergedError(AttarError):
    """A loss or a gradient that is not finite."""


class FolderError(AttarError):
    """A folder or file that cannot be used."""


class UrlError(FolderError, OSError):
    """A file or folder at a URL that cannot be used."""


class ObjectError(AttarError):
    """A Python object, named by the user, that cannot be loaded or is of the wrong kind."""


class JobError(AttarError):
    """An invalid job file, or a step that cannot be run yet."""


class ExportError(AttarError):
    """A network that cannot be exported, or whose exported file gives different logits."""


class MissingExtraError(AttarError):
    """An optional package that is not installed."""


class StoreError(FolderError):
    """A soft-target store that is damaged, incomplete, or made for something else."""


class TeacherWarning(UserWarning):
    """A teacher whose accuracy on the labeled examples is too low."""


class StoreWarning(UserWarning):
    """Shards of a store that are missing or damaged, and are written again."""


def check_same_shape(**tensors: Tensor) -> None:
    """Raise `ShapeError` unless all tensors have the same shape."""
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    if len({tuple(shape) for shape in shapes.values()}) > 1:
        got = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ShapeError(f"expected one shape, got {got}; do both use the same class list?")


def check_positive(**numbers: float) -> None:
    """Raise `AttarError` unless all numbers are finite and above zero."""
    for name, number in numbers.items():
        if not 0 < number < float("inf"):
            raise AttarError(f"expected {name} > 0 and finite, got {number}")


def check_not_negative(**numbers: float) -> None:
    """Raise `AttarError` unless all numbers are finite and not negative."""
    for name, number in numbers.items():
        if not 0 <= number < float("inf"):
            raise AttarError(f"expected {name} >= 0 and finite, got {number}")


def file_error(action: str, path: object, error: OSError) -> FolderError:
    """Return an `OSError` as a one-line error with action, path and reason."""
    if isinstance(error, FolderError):  # already in this form
        return error
    return FolderError(f"cannot {action} {path}: {error.strerror or error}")
