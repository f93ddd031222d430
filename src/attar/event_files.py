"""Event files that TensorBoard shows; needs the extra `tensorboard`."""

from pathlib import Path
from typing import Any

from attar.errors import MissingExtraError, file_error
from attar.files import make_folder
from attar.training import Step


class TensorBoardLog:
    """Writes what a training reports to event files: give it as `progress=`, or call it.

    Each step leaves `loss` and `learning_rate`; each epoch its mean loss, its seconds and what was
    measured at its end. A run that went on after a stop adds another file; TensorBoard joins them.

    Args:
        folder: Where the event files go; each training has a folder of its own in it, if they are
            told apart by the `run` that is given with their steps.

    Raises:
        MissingExtraError: If `tensorboard` is not installed.
        FolderError: If the folder cannot be written.
    """

    def __init__(self, folder: Path | str) -> None:
        """Check that the package is there; nothing is written before the first step."""
        self._folder = Path(folder)
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtraError(
                f"{error.name} is not installed, which is needed to write event files; "
                "run `pip install 'attar[tensorboard]'`"
            ) from error
        self._make_writer: Any = SummaryWriter
        self._writers: dict[str, Any] = {}

    def __enter__(self) -> "TensorBoardLog":
        """Go on writing, by and by."""
        return self

    def __exit__(self, *error: object) -> None:
        """Write what is left, and close the files."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def __call__(self, step: Step, run: str = "") -> None:
        """Write a step of a run."""
        writer = self._writer(run, step.index)
        writer.add_scalar("loss", step.loss, step.index)
        writer.add_scalar("learning_rate", step.learning_rate, step.index)
        if step.epoch is None:
            return
        writer.add_scalar("epoch/mean_loss", step.epoch.mean_loss, step.index)
        writer.add_scalar("epoch/train_seconds", step.epoch.train_seconds, step.index)
        for name, value in (step.epoch.measurements or {}).items():
            writer.add_scalar(f"measured/{name}", value, step.index)

    def _writer(self, run: str, first_step: int) -> Any:  # noqa: ANN401
        if run not in self._writers:
            folder = make_folder(self._folder / run)
            try:
                # What an earlier process wrote from this step on was lost with it.
                self._writers[run] = self._make_writer(folder, purge_step=first_step)
            except OSError as error:
                raise file_error("write event files to", folder, error) from error
        return self._writers[run]
