"""The epochs of a step's training, kept beside its weights for the report's curves."""

from dataclasses import asdict
from pathlib import Path

from attar.errors import FolderError
from attar.records import read_json, write_json
from attar.training import Epoch

EPOCHS = "epochs.json"


def add_epoch(folder: Path, epoch: Epoch) -> None:
    """Keep an epoch, after those before it; one that is done again takes the place of the first."""
    earlier = [each for each in read_epochs(folder) if each.index < epoch.index]
    write_json(folder / EPOCHS, {"history": [asdict(each) for each in [*earlier, epoch]]})


def read_epochs(folder: Path) -> list[Epoch]:
    """Read the epochs that are kept in a step's folder; none, if there are none to be read."""
    if not (folder / EPOCHS).exists():
        return []
    try:
        return [Epoch(**each) for each in read_json(folder / EPOCHS)["history"]]
    except (FolderError, KeyError, TypeError):  # nothing hangs on them but a picture
        return []
