"""The networks that runs with glyphs leave, to be compared on any other glyphs."""

import copy
from pathlib import Path

from torch import nn

from attar.data import TransferSet, read_glyphs
from attar.data.glyphs import META, read_characters
from attar.errors import AttarError, FolderError
from attar.recipes import generalist as generalists
from attar.recipes import specialists
from attar.recipes.config import restore_config
from attar.recipes.specialist_parts import load_ensemble, read_groups
from attar.records import read_json
from attar.training import load_weights

NAMES = {"distilled": "distilled from all", "continued": "generalist, trained on"}


def load_models(
    folder: Path, glyphs: Path, *, data: Path | None = None, generalist: Path | None = None
) -> tuple[dict[str, nn.Module], TransferSet]:
    """Load the networks of a finished run, and the glyphs to compare them on.

    No path that the run's record names is opened: such a folder may come from anybody.

    Args:
        folder: Of `attar reproduce generalist` or `specialists`.
        glyphs: A `.npz` file of glyphs of the run's classes, as `attar.data.read_glyphs` reads it.
        data: The folder of the run's data, whose `meta.npz` names its classes: they have to be
            those of the glyphs. Without it the number of classes alone is checked.
        generalist: The folder of the generalist's run, if the specialists were given one.

    Returns:
        The networks by name, and the examples.

    Raises:
        FolderError: If the folder holds no such run, or it is not finished, or a file is damaged.
        DataError: If the glyphs are damaged.
        AttarError: If they are of other classes, or the generalist's folder is needed.
    """
    path = folder / "run.json"
    expected = "the folder of an `attar reproduce generalist` or `attar reproduce specialists`"
    if not path.exists():
        raise FolderError(f"expected {expected}, found no run.json in {folder}")
    run = read_json(path)
    experiment = run.get("experiment")
    if experiment not in (generalists.EXPERIMENT, specialists.EXPERIMENT):
        raise FolderError(f"expected {expected}, found a run of {experiment} in {folder}")
    if not (folder / f"{experiment}.json").exists():
        raise FolderError(f"the run in {folder} is not finished; give its command again")
    if experiment == generalists.EXPERIMENT:
        config = restore_config(generalists.Config, run.get("config"), path)
        examples = _read(glyphs, data, config.classes)
        known = generalists.count_classes(folder / f"{generalists.NETWORK}.safetensors")
        _check_classes(examples, known, glyphs)
        return {"generalist": generalists.load_generalist(str(folder), examples)}, examples
    of_run = restore_config(specialists.Config, run.get("config"), path)
    examples = _read(glyphs, data, of_run.classes)
    return _load_specialists(of_run, folder, examples, glyphs, generalist), examples


def _read(glyphs: Path, data: Path | None, classes: int) -> TransferSet:
    """Read glyphs of a run's classes, which the `meta.npz` of its data names, if that is given."""
    if data is None:
        return generalists.choose_classes(read_glyphs(glyphs).examples, classes)
    beside, of_run = glyphs.with_name(META), data / META
    examples = read_glyphs(glyphs, meta=beside if beside.exists() else of_run).examples
    expected = read_characters(of_run)
    if examples.class_names != expected:
        raise AttarError(
            f"expected glyphs of the {len(expected)} classes of {data}, which the run learned, "
            f"got others: {beside} names {examples.classes}; give glyphs of the same classes"
        )
    return generalists.choose_classes(examples, classes)


def _check_classes(examples: TransferSet, least: int, glyphs: Path) -> None:
    if examples.classes < least:
        raise AttarError(
            f"expected glyphs of the run's classes, {least} or more, got {examples.classes} in "
            f"{glyphs}; lay the meta.npz of the run's data beside it"
        )


def _load_specialists(
    config: specialists.Config,
    folder: Path,
    examples: TransferSet,
    glyphs: Path,
    given: Path | None,
) -> dict[str, nn.Module]:
    groups = read_groups(folder / "groups.safetensors")
    least = 1 + max(int(each.max()) for each in groups.classes)
    _check_classes(examples, max(least, config.classes), glyphs)
    if config.generalist:
        if given is None:
            raise AttarError(
                f"expected --generalist FOLDER: the specialists in {folder} start from the "
                f"generalist of another run, which their record calls {config.generalist!r}"
            )
        generalist = generalists.load_generalist(str(given), examples)
    else:
        its = specialists.generalist_config(config)
        generalist = generalists.make_generalist(its, examples)
        load_weights(folder / f"{generalists.NETWORK}.safetensors", generalist)
        generalist.eval()
    groups = read_groups(folder / "groups.safetensors", generalist=generalist)
    ensemble = load_ensemble(config, generalist, groups, folder, classes=examples.classes)
    models: dict[str, nn.Module] = {"generalist": generalist}
    models[f"with {len(ensemble)} specialists"] = ensemble
    for name, told in NAMES.items():
        path = folder / f"{name}.safetensors"
        if path.exists():
            models[told] = copy.deepcopy(generalist)
            load_weights(path, models[told])
    return models
