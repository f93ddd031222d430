"""A generalist of thousands of classes: the start of section 5 of Hinton et al. (2015)."""

from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import safetensors
import torch
from torch import Tensor, nn

from attar.data import Distortion, Glyphs, TransferSet, mix_seed, read_glyph_folder
from attar.errors import AttarError, FolderError, check_not_negative, check_positive, file_error
from attar.evaluation import map_logits
from attar.models import ConvNet, conv_net
from attar.recipes.config import option, restore_config
from attar.recipes.folder import claim_folder, is_finished
from attar.recipes.stages import Progress, Stage, Trained, WorkMeter, train_stage
from attar.records import ExperimentResult, ResultRow, read_json, this_machine
from attar.training import TrainingSettings, hard_target_loss, load_weights

EXPERIMENT, NETWORK = "generalist", "generalist-network"
DATA_HELP = "Folder of glyphs, such as `attar data glyphs` makes."
GENERALIST_HELP = (
    "Folder of a run of `attar reproduce generalist`, whose network is used; none to train one."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One network for all classes, trained on hard targets.

    The paper's was trained on JFT, which is private; here the classes are characters, drawn by
    fonts, and the examples to measure on are drawn by other fonts. All settings are ours, chosen on
    fonts of the training set that were held out (`--held-out`); docs/log.md tells how.
    """

    data: str = option("data/glyphs", DATA_HELP)
    classes: int = option(0, "Number of classes to use; 0 for all.")
    epochs: int = option(3, "Passes over the training set.")
    batch_size: int = option(256, "Examples in a batch.")
    learning_rate: float = option(0.01, "Peak learning rate (AdamW).")
    weight_decay: float = option(0.05, "Weight decay (AdamW).")
    features: int = option(128, "Units of the layer below the logits.")
    seed: int = option(0, "Random seed of initial weights, order of examples and views.")
    held_out: int = option(0, "Faces to hold out of training and measure on, to choose settings.")

    def __post_init__(self) -> None:
        """Check what the network and the settings made from it do not."""
        check_not_negative(classes=self.classes, held_out=self.held_out, seed=self.seed)
        check_positive(features=self.features)


QUICK = replace(Config(), classes=500, epochs=8)


def run(config: Config, folder: Path, *, command: str) -> Iterator[Progress]:
    """Run the experiment in `folder`, or what is left of it.

    Yields:
        How far it is.

    Raises:
        AttarError: If an option, the data or the folder cannot be used, or the training diverges.
    """
    path = folder / f"{EXPERIMENT}.json"
    if is_finished(path, config):
        return
    train_set, test_set = load_sets(config)
    meter = WorkMeter(generalist_stage(config, train_set).work(len(train_set)))
    with claim_folder(folder, EXPERIMENT, asdict(config), may_grow=""):
        trained = yield from train_generalist(config, train_set, test_set, folder, meter)
        _result(config, trained, train_set, test_set, command).write(path)


def load_sets(config: Config) -> tuple[TransferSet, TransferSet]:
    """Load the examples to train on, and those to measure on: of other fonts, or of held-out faces.

    Raises:
        FolderError: If the data are not there.
        DataError: If they are damaged.
        AttarError: If there are not so many classes or faces.
    """
    glyphs = load_glyphs(config.data)
    train, val = glyphs["train"], glyphs["val"]
    if config.held_out:
        return hold_out_faces(train, config.held_out, config.classes)
    return (
        choose_classes(train.examples, config.classes),
        choose_classes(val.examples, config.classes),
    )


def load_glyphs(data: str) -> dict[str, Glyphs]:
    """Read the folder of glyphs; raise `FolderError` unless it has `train.npz` and `val.npz`."""
    glyphs = read_glyph_folder(Path(data))
    if "val" not in glyphs:
        raise FolderError(f"expected val.npz in {data}, got {', '.join(glyphs)}")
    return glyphs


def choose_classes(examples: TransferSet, count: int) -> TransferSet:
    """Take the examples of the first classes alone, which are then all that there are.

    Characters are in the order of their code points, so that those with one radical are neighbors.
    """
    if not count or count == examples.classes:
        return examples
    if count > examples.classes:
        raise AttarError(
            f"expected at most the {examples.classes} classes of the data, got {count}; "
            "give --classes 0 for all of them"
        )
    kept = (examples.hard_targets < count).nonzero()[:, 0]
    chosen = examples.subset(kept)
    names = examples.class_names[:count]
    return TransferSet(chosen.inputs, chosen.hard_targets, class_names=names)


def hold_out_faces(glyphs: Glyphs, held_out: int, classes: int) -> tuple[TransferSet, TransferSet]:
    """Split a training set by face: every so many is held out, the first one first."""
    is_held = torch.isin(glyphs.faces, choose_faces(glyphs, held_out))
    parts = [glyphs.examples.subset(which.nonzero()[:, 0]) for which in (~is_held, is_held)]
    train_set, test_set = (choose_classes(part, classes) for part in parts)
    return train_set, test_set


def choose_faces(glyphs: Glyphs, count: int) -> Tensor:
    """Choose so many of a set's faces, the first one first, the others as far apart as can be."""
    faces = glyphs.faces.unique()
    if count >= len(faces):
        raise AttarError(f"expected held_out below the {len(faces)} faces, got {count}")
    chosen: Tensor = faces[torch.arange(count) * len(faces) // count]
    return chosen


def make_generalist(config: Config, examples: TransferSet, classes: int | None = None) -> ConvNet:
    """Make the network for a set's images and classes, or another number of classes, untrained."""
    return conv_net(
        examples.inputs.shape[-1],
        examples.classes if classes is None else classes,
        generator=torch.Generator().manual_seed(mix_seed(config.seed, 0)),
        features=config.features,
    )


def generalist_stage(config: Config, train_set: TransferSet) -> Stage:
    """Describe the generalist's training."""
    settings = TrainingSettings(
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        optimizer="adamw",
        weight_decay=config.weight_decay,
        warmup_epochs=0.25,
        seed=config.seed,
    )
    make = lambda: make_generalist(config, train_set)  # noqa: E731
    return Stage(NETWORK, f"generalist of {train_set.classes:,} classes", make, settings)


def train_generalist(
    config: Config, train_set: TransferSet, test_set: TransferSet, folder: Path, meter: WorkMeter
) -> Generator[Progress, None, Trained]:
    """Train the generalist in `folder`, or what is left of it; see `train_stage`."""
    seen = train_set.with_views(Distortion(seed=config.seed))
    return (
        yield from train_stage(
            generalist_stage(config, train_set),
            seen,
            hard_target_loss,
            folder=folder,
            test_set=test_set,
            meter=meter,
            measurements=1,
        )
    )


def load_generalist(given: str, examples: TransferSet) -> ConvNet:
    """Load the network of a finished run of this experiment.

    Of a network of more classes than the examples have, those of the first ones are taken.

    Raises:
        FolderError: If the folder holds no such run, it has not come to its end, or its network
            knows fewer classes, or other images, than the examples have.
    """
    folder = Path(given)
    advice = "name the folder of a finished `attar reproduce generalist`"
    path = folder / "run.json"
    if not path.exists():
        raise FolderError(
            f"expected a run of {EXPERIMENT} in {folder}, found no run.json; {advice}"
        )
    found = read_json(path)
    if found.get("experiment") != EXPERIMENT or not isinstance(found.get("config"), dict):
        what = found.get("experiment")
        raise FolderError(f"expected a run of {EXPERIMENT} in {folder}, found {what}; {advice}")
    weights = folder / f"{NETWORK}.safetensors"
    if not weights.exists():
        raise FolderError(f"the run in {folder} is not finished; let it end, or {advice}")
    config = restore_config(Config, found["config"], path)
    known = count_classes(weights)
    if known < examples.classes:
        raise FolderError(
            f"expected a generalist of {examples.classes} classes, got one of {known} in {folder}; "
            "give the data that it was trained on, or fewer --classes"
        )
    network = make_generalist(config, examples, known)
    load_weights(weights, network)
    if known > examples.classes:
        output = nn.utils.skip_init(nn.Linear, config.features, examples.classes)
        first = {
            name: rows[: examples.classes] for name, rows in network.output.state_dict().items()
        }
        output.load_state_dict(first)
        network.output = output
    network.eval()
    return network


def count_classes(weights: Path) -> int:
    """Return of how many classes the network in a file is; raise `FolderError` if damaged."""
    try:
        with safetensors.safe_open(weights, framework="pt") as file:
            return int(file.get_slice("output.bias").get_shape()[0])
    except OSError as error:
        raise file_error("read", weights, error) from error
    except safetensors.SafetensorError as error:
        raise FolderError(f"{weights} is damaged ({error}); run the experiment again") from error


def top_k_accuracy(network: nn.Module, test_set: TransferSet, k: int) -> float:
    """Return the fraction of examples whose class is among the network's k most probable ones."""
    hard_targets = test_set.hard_targets

    def count(logits: Tensor, indices: Tensor) -> int:
        top = logits.topk(min(k, logits.shape[1]), dim=1).indices
        return int((top == hard_targets[indices, None]).any(dim=1).sum())

    return sum(map_logits(network, test_set, count)) / len(test_set)


def _result(
    config: Config, trained: Trained, train_set: TransferSet, test_set: TransferSet, command: str
) -> ExperimentResult:
    where = "held-out faces" if config.held_out else "other fonts"
    accuracies = {
        "top-1": trained.evaluation.accuracy,
        "top-5": top_k_accuracy(trained.network, test_set, 5),
    }
    parameters = sum(parameter.numel() for parameter in trained.network.parameters())
    rows = [
        ResultRow.over_seeds(
            f"generalist of {test_set.classes:,} classes, {name}",
            [value],
            metric=f"accuracy on {where}",
            paper=None,
            parameters=parameters,
        )
        for name, value in accuracies.items()
    ]
    return ExperimentResult(
        experiment=EXPERIMENT,
        command=command,
        rows=tuple(rows),
        config=asdict(config),
        machine=this_machine(),
        wall_seconds=trained.wall_seconds,
        details={
            "evaluation": asdict(trained.evaluation),
            "examples": {"train": len(train_set), "test": len(test_set)},
        },
    )
