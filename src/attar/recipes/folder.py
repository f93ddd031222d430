"""The folder of a run: locked by one process, for one experiment and configuration."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from attar.errors import FolderError
from attar.files import hold_folder
from attar.recipes.made_of import MadeOf, check_made_of
from attar.records import ExperimentResult, read_json, read_sealed_json, write_sealed_json

COMPARISON = "comparison.json"  # of a run that compared its networks on the test set


def is_finished(path: Path, config: object, made_of: MadeOf | None = None) -> bool:
    """Return whether there is a result of a run with this configuration.

    Args:
        path: The result file.
        config: The configuration.
        made_of: Further inputs, such as the weights of given teachers; stored in the result as
            `details["made_of"]`.

    Raises:
        FolderError: If the result is damaged or has other inputs.
    """
    if not path.exists():
        return False
    result = ExperimentResult.read(path)
    if result.config != asdict(config):  # type: ignore[call-overload]
        return False
    if made_of:
        check_made_of(path, made_of, result.details.get("made_of"))
    return True


def read_record(path: Path) -> dict[str, Any]:
    """Read and check a record of a run.

    Raises:
        FolderError: If it cannot be read, is damaged, or has no checksum.
    """
    if "checksum" not in read_json(path):
        raise FolderError(
            f"{path} is damaged or from an earlier release: it has no checksum; run the "
            "experiment again in another folder (--out), or remove the file to make it again"
        )
    return read_sealed_json(path)


@contextmanager
def claim_folder(
    folder: Path, experiment: str, config: Mapping[str, Any], *, may_grow: str
) -> Iterator[None]:
    """Lock the folder for the body, which starts or resumes a run.

    The configuration is stored in `run.json`. That of an earlier run must be the same, except that
    the number named by `may_grow` may now be larger.

    Raises:
        FolderError: If the folder cannot be written, is in use, or has other content.
    """
    with hold_folder(folder):
        _check_owner(folder, experiment, config, may_grow=may_grow)
        write_sealed_json(folder / "run.json", {"experiment": experiment, "config": dict(config)})
        yield


def _check_owner(
    folder: Path, experiment: str, config: Mapping[str, Any], *, may_grow: str
) -> None:
    path = folder / "run.json"
    advice = "choose another folder with --out"
    if not path.exists():
        others = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
        if others:
            raise FolderError(f"{folder} contains other files ({others[0]}, ...); {advice}")
        return
    earlier = read_json(path)
    if earlier.get("experiment") != experiment:
        found = f"{folder} contains a run of {earlier.get('experiment')}, not of {experiment}"
        raise FolderError(f"{found}; {advice}")
    then = earlier.get("config")
    if not isinstance(then, dict):
        raise FolderError(f"{path} is damaged: expected a config; {advice}")
    for name in sorted({*config, *then}):
        before, now = then.get(name), config.get(name)
        if before == now or (
            name == may_grow and isinstance(before, int) and config[name] > before
        ):
            continue
        option = f"--{name.replace('_', '-')}"
        raise FolderError(f"{folder} contains a run with {option} {before}, not {now}; {advice}")
    read_record(path)
