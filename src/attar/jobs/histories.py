"""The epochs of a step's training, kept beside its weights for the report's curves."""

from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from attar.errors import FolderError
from attar.records import read_sealed_json, write_sealed_json
from attar.training import Epoch

EPOCHS = "epochs.json"
_HISTORY = TypeAdapter(list[Epoch])


def add_epoch(folder: Path, epoch: Epoch) -> None:
    """Keep an epoch, after those before it; one that is done again takes the place of the first."""
    earlier = [each for each in read_epochs(folder) if each.index < epoch.index]
    write_sealed_json(folder / EPOCHS, {"history": [asdict(each) for each in [*earlier, epoch]]})


def read_epochs(folder: Path) -> list[Epoch]:
    """Read the epochs that are kept in a step's folder; none if the file is missing or damaged."""
    if not (folder / EPOCHS).exists():
        return []
    try:
        return _HISTORY.validate_python(read_sealed_json(folder / EPOCHS).get("history"))
    except (FolderError, ValidationError):  # only the curves of the report depend on it
        return []
