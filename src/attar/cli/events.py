"""`--log tensorboard`: event files of everything that a command trains."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attar.errors import AttarError
from attar.event_files import TensorBoardLog

TENSORBOARD = "tensorboard"
HELP = (
    f"{TENSORBOARD}: also write event files of what is trained, for "
    f"`tensorboard --logdir FOLDER/{TENSORBOARD}`; needs the extra {TENSORBOARD}."
)


@contextmanager
def event_log(log: str | None, folder: Path) -> Iterator[TensorBoardLog | None]:
    """Give what writes event files below the folder, or None where they were not asked for.

    Raises:
        AttarError: If `log` is anything else than the one thing that there is.
        MissingExtraError: If `tensorboard` is not installed.
    """
    if log is None:
        yield None
        return
    if log != TENSORBOARD:
        raise AttarError(f"expected --log {TENSORBOARD}, got --log {log}")
    with TensorBoardLog(folder / TENSORBOARD) as events:
        yield events
