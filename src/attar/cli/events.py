"""`--log tensorboard`: event files of all trainings of a command."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attar.errors import AttarError
from attar.event_files import TensorBoardLog

TENSORBOARD = "tensorboard"
HELP = (
    f"{TENSORBOARD}: write event files of all trainings, for "
    f"`tensorboard --logdir FOLDER/{TENSORBOARD}`; needs the extra {TENSORBOARD}."
)


@contextmanager
def event_log(log: str | None, folder: Path) -> Iterator[TensorBoardLog | None]:
    """Yield a writer of event files below the folder, or None without `--log`.

    Raises:
        AttarError: If `log` is not `tensorboard`.
        MissingExtraError: If `tensorboard` is not installed.
    """
    if log is None:
        yield None
        return
    if log != TENSORBOARD:
        raise AttarError(f"expected --log {TENSORBOARD}, got --log {log}")
    with TensorBoardLog(folder / TENSORBOARD) as events:
        yield events
