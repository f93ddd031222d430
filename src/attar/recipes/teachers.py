"""MNIST teachers for the experiments after the first: trained here, or those of an earlier run."""

from collections.abc import Generator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from attar.data import Jitter, TransferSet
from attar.errors import FolderError
from attar.recipes import mnist
from attar.recipes.config import restore_config
from attar.recipes.folder import read_record
from attar.recipes.made_of import check_made_of
from attar.recipes.stages import (
    Progress,
    Stage,
    TeacherLogits,
    Trained,
    WorkMeter,
    kept_logits,
    load_network,
    record_path,
    train_stage,
    weights_path,
)
from attar.records import ExperimentResult, read_json
from attar.teachers.fingerprints import hash_network
from attar.training import hard_target_loss

TEACHERS_HELP = (
    "Folder of a run of `attar reproduce mnist`, whose teachers are used instead of training "
    "new ones; seed s takes number s of them, over and over."
)


def teacher_stage(units: int, epochs: int, *, seed: int, seeds: int) -> Stage:
    """Describe the cumbersome network of a seed: that of `attar reproduce mnist`."""
    config = mnist.Config(seeds=seeds, teacher_units=units, teacher_epochs=epochs)
    return mnist.make_stages(config, seed)["teacher"]


def train_teacher(
    stage: Stage, train_set: TransferSet, test_set: TransferSet, *, folder: Path, meter: WorkMeter
) -> Generator[Progress, None, Trained]:
    """Train that network on jittered images, as `attar reproduce mnist` does."""
    views = Jitter(pixels=mnist.Config().jitter, seed=stage.settings.seed)
    jittered = train_set.with_views(views)
    return (
        yield from train_stage(
            stage, jittered, hard_target_loss, folder=folder, test_set=test_set, meter=meter
        )
    )


def first_teacher_logits(
    given: Sequence[nn.Module],
    stage: Stage,
    train_set: TransferSet,
    test_set: TransferSet,
    *,
    folder: Path,
    meter: WorkMeter,
) -> Generator[Progress, None, TeacherLogits]:
    """Return the first given teacher's logits, or else those of one that is trained here.

    Yields:
        How far its training is.

    Returns:
        Of the plain training examples, shape `[examples, classes]`, in nats; kept in `folder`.
    """
    if given:
        network = given[0]
    else:
        trained = yield from train_teacher(stage, train_set, test_set, folder=folder, meter=meter)
        network = trained.network
    return kept_logits(folder / "teacher-0.logits.safetensors", network, train_set)


def describe_teachers(given: Sequence[nn.Module], units: int, epochs: int) -> dict[str, Any]:
    """Say what a result depends on beside its own configuration: its teachers.

    Args:
        given: Those of an earlier run; none if they are trained here.
        units: In each hidden layer of one that is trained here.
        epochs: Passes of one that is trained here.

    Returns:
        The hash of each given teacher; or all settings of `attar reproduce mnist` that its teachers
        depend on, as they are in this release.
    """
    if given:
        return {"teachers": [hash_network(teacher) for teacher in given]}
    settings = asdict(mnist.Config(teacher_units=units, teacher_epochs=epochs))
    of_teacher = ("jitter", "initial_scale")
    return {
        "teacher settings": {
            name: value
            for name, value in settings.items()
            if name.startswith("teacher_") or name in of_teacher
        }
    }


def load_teachers(given: str) -> list[nn.Module]:
    """Load the teachers of a run of `attar reproduce mnist`; none if no folder is given.

    Raises:
        FolderError: If the folder holds no such run, or one of its teachers is not finished or is
            damaged.
    """
    if not given:
        return []
    folder = Path(given)
    advice = "name the folder of an `attar reproduce mnist`, or leave --teachers out"
    path = folder / "run.json"
    if not path.exists():
        raise FolderError(f"expected a run of mnist in {folder}, found no run.json; {advice}")
    run = read_json(path)
    if run.get("experiment") != mnist.EXPERIMENT or not isinstance(run.get("config"), dict):
        found = run.get("experiment")
        raise FolderError(f"expected a run of mnist in {folder}, found one of {found}; {advice}")
    config = restore_config(mnist.Config, read_record(path)["config"], path)
    teachers = []
    for seed in range(config.seeds):
        stage = mnist.make_stages(config, seed)["teacher"]
        if not (weights_path(stage, folder).exists() and record_path(stage, folder).exists()):
            found = f"expected {config.seeds} finished teachers in {folder}, found {seed}"
            raise FolderError(f"{found}; let that run end first, or leave --teachers out")
        teachers.append(load_network(stage, folder))
    return teachers


def check_same_teachers(
    teachers: Sequence[nn.Module], result: ExperimentResult, path: Path
) -> None:
    """Raise `FolderError` unless these are the given teachers that a finished experiment used."""
    hashes = [hash_network(teacher) for teacher in teachers]
    then = result.details.get("made_of", {})
    check_made_of(path, {"teachers": hashes}, {"teachers": then.get("teachers")})
