"""The epochs of a training, stored beside its weights for the curves of the report."""

from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from attar.errors import FolderError
from attar.records import read_sealed_json, write_sealed_json
from attar.training import Epoch

EPOCHS = "epochs.json"
_HISTORY = TypeAdapter(list[Epoch])


def add_epoch(folder: Path, epoch: Epoch) -> None:
    """Append an epoch; an epoch that is repeated replaces the earlier record."""
    earlier = [each for each in read_epochs(folder) if each.index < epoch.index]
    write_sealed_json(folder / EPOCHS, {"history": [asdict(each) for each in [*earlier, epoch]]})


def read_epochs(folder: Path) -> list[Epoch]:
    """Read the epochs in a step's folder; empty if the file is missing or damaged."""
    if not (folder / EPOCHS).exists():
        return []
    try:
        return _HISTORY.validate_python(read_sealed_json(folder / EPOCHS).get("history"))
    except (FolderError, ValidationError):  # affects only the curves of the report
        return []
