"""The report of any experiment, from what every run leaves in its folder."""

import re
from pathlib import Path

from attar.comparison_records import ComparisonRecord
from attar.recipes.folder import COMPARISON, read_record
from attar.records import ExperimentResult, read_json
from attar.report import save_experiment_report
from attar.training import Epoch

LARGEST_PICTURE = 1_000_000  # bytes


def report(experiment: str, folder: Path, path: Path) -> None:
    """Write the report of a finished run.

    Raises:
        FolderError: If the run is not finished, is damaged, or the report cannot be written.
    """
    compared = folder / COMPARISON
    save_experiment_report(
        ExperimentResult.read(folder / f"{experiment}.json"),
        path,
        histories=read_histories(folder),
        pictures=find_pictures(folder),
        comparison=ComparisonRecord.read(compared) if compared.exists() else None,
    )


def read_histories(folder: Path) -> dict[str, list[list[Epoch]]]:
    """Read the epochs of every training of a run, those of a stage's seeds together."""
    histories: dict[str, list[list[Epoch]]] = {}
    for path in sorted(folder.glob("*.json")):
        content = read_json(path)
        if not isinstance(content.get("history"), list):  # no training's
            continue
        epochs = read_record(path)["history"]
        kind = re.sub(r"-\d+$", "", path.stem).replace("-", " ")
        try:
            histories.setdefault(kind, []).append([Epoch(**epoch) for epoch in epochs])
        except TypeError:  # of another release: the report does without
            continue
    return histories


def find_pictures(folder: Path) -> list[Path]:
    """Find the pictures that a run drew; of one that is there twice, the one that scales.

    Large ones are left out: no run draws them, and a report is to stay small.
    """
    found = {path.stem: path for end in ("png", "svg") for path in sorted(folder.glob(f"*.{end}"))}
    return [path for path in found.values() if path.stat().st_size <= LARGEST_PICTURE]
