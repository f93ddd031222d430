"""The networks that runs with glyphs leave, to be compared on any other glyphs."""

import copy
from pathlib import Path

from torch import nn

from attar.data import TransferSet, read_glyphs
from attar.errors import FolderError
from attar.recipes import generalist as generalists
from attar.recipes import specialists
from attar.recipes.config import restore_config
from attar.recipes.specialist_parts import load_ensemble, read_groups
from attar.records import read_json
from attar.training import load_weights

NAMES = {"distilled": "distilled from all", "continued": "generalist, trained on"}


def load_models(folder: Path, glyphs: Path) -> tuple[dict[str, nn.Module], TransferSet]:
    """Load the networks of a finished run, and the glyphs to compare them on.

    Args:
        folder: Of `attar reproduce generalist` or `specialists`.
        glyphs: A `.npz` file of glyphs of the run's classes, as `attar.data.read_glyphs` reads it.

    Returns:
        The networks by name, and the examples.

    Raises:
        FolderError: If the folder holds no such run, or it is not finished, or a file is damaged.
        DataError: If the glyphs are damaged.
        AttarError: If they are of other classes.
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
    examples = read_glyphs(glyphs).examples
    if experiment == generalists.EXPERIMENT:
        config = restore_config(generalists.Config, run.get("config"), path)
        examples = generalists.choose_classes(examples, config.classes)
        return {"generalist": generalists.load_generalist(str(folder), examples)}, examples
    of_run = restore_config(specialists.Config, run.get("config"), path)
    examples = generalists.choose_classes(examples, of_run.classes)
    return _load_specialists(of_run, folder, examples), examples


def _load_specialists(
    config: specialists.Config, folder: Path, examples: TransferSet
) -> dict[str, nn.Module]:
    if config.generalist:
        generalist = generalists.load_generalist(config.generalist, examples)
    else:
        its = specialists.generalist_config(config)
        generalist = generalists.make_generalist(its, examples)
        load_weights(folder / f"{generalists.NETWORK}.safetensors", generalist)
        generalist.eval()
    groups = read_groups(folder / "groups.safetensors")
    ensemble = load_ensemble(config, generalist, groups, folder, classes=examples.classes)
    models: dict[str, nn.Module] = {"generalist": generalist}
    models[f"with {len(ensemble)} specialists"] = ensemble
    for name, told in NAMES.items():
        path = folder / f"{name}.safetensors"
        if path.exists():
            models[told] = copy.deepcopy(generalist)
            load_weights(path, models[told])
    return models
