"""MNIST teachers for the experiments after the first: trained here, or those of an earlier run."""

from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from attar.data import Jitter, TransferSet
from attar.errors import FolderError
from attar.evaluation import compute_logits
from attar.recipes import mnist
from attar.recipes.config import restore_config
from attar.recipes.stages import Progress, Stage, Trained, WorkMeter, kept_logits, train_stage
from attar.records import read_json
from attar.training import hard_target_loss, load_weights

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
) -> Generator[Progress, None, Tensor]:
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
    path = folder / "teacher-0.logits.safetensors"
    return kept_logits(path, network, partial(compute_logits, network, train_set))


def load_teachers(given: str) -> list[nn.Module]:
    """Load the teachers of a run of `attar reproduce mnist`; none if no folder is given.

    Raises:
        FolderError: If the folder holds no such run, or one of its teachers is not finished.
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
    config = restore_config(mnist.Config, run["config"], path)
    teachers = []
    for seed in range(config.seeds):
        weights = folder / f"teacher-{seed}.safetensors"
        if not weights.exists():
            found = f"expected {config.seeds} finished teachers in {folder}, found {seed}"
            raise FolderError(f"{found}; let that run end first, or leave --teachers out")
        network = mnist.make_teacher(config, seed)
        load_weights(weights, network)
        teachers.append(network.eval())
    return teachers
