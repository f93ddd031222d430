"""Reads transfer sets from `.npz` files."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from attar.data.transfer_set import TransferSet
from attar.errors import AttarError, DataError, file_error


def read_npz(path: Path, *, classes: int | None = None) -> TransferSet:
    """Read a set from the arrays of an `.npz` file; nothing in it is unpickled.

    The arrays: `inputs`, shape `[examples, *shape]`, uint8 or floats; `hard_targets`, shape
    `[examples]`, integers, which may be missing; `class_names`, strings, which may be missing.

    Args:
        path: The file, as `numpy.savez` writes it.
        classes: How many classes there are, where neither the names nor the hard targets tell.

    Raises:
        DataError: If the file cannot be read, lacks `inputs`, or holds no transfer set.
    """
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if not isinstance(loaded, np.lib.npyio.NpzFile):
                raise DataError("expected an .npz file, got one array without a name")
            arrays = {name: loaded[name] for name in loaded.files}
        if "inputs" not in arrays:
            found = ", ".join(sorted(arrays)) or "nothing"
            raise DataError(f"expected arrays inputs and hard_targets, got {found}")
        names = arrays.get("class_names")
        return TransferSet(
            arrays["inputs"],
            arrays.get("hard_targets"),
            class_names=None if names is None else names.ravel().tolist(),
            classes=classes,
        )
    except OSError as error:
        raise DataError(str(file_error("read", path, error))) from error
    except AttarError as error:
        raise type(error)(f"cannot use {path}: {error}") from error
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path} is no whole .npz file of plain arrays: {reason}") from error
