"""What `attar reproduce specialists` is made of: groups of classes, specialists, their ensemble."""

import copy
import hashlib
import json
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_linear_bn_eval

from attar.data import Distortion, TransferSet, mix_seed
from attar.errors import FolderError
from attar.models import ConvNet
from attar.modes import evaluation_mode
from attar.recipes.specialist_config import Config
from attar.recipes.work import Progress, WorkMeter, piece
from attar.records import read_sealed_json, write_sealed_json
from attar.specialists import (
    CovarianceSketch,
    Specialist,
    SpecialistEnsemble,
    SpecialistWeights,
    group_classes,
    load_specialist,
    measure_oversampling,
    narrow_output,
    specialist_path,
    train_specialist,
    train_specialists,
)
from attar.teachers.fingerprints import hash_network
from attar.tensor_files import read_tensors, write_tensors
from attar.training import TrainingSettings

CENTRAL = 12  # classes of a group that table 2 shows
_BATCH = 256


@dataclass(frozen=True, slots=True)
class Halves:
    """A generalist: the lower layers that specialists share with it, and what is above them."""

    trunk: nn.Module
    upper: nn.Module  # features -> logits of all classes

    def narrow(self, classes: Tensor, *, oversampling: float = 1.0) -> nn.Module:
        """Make an untrained specialist: the upper layers, with an output for its classes."""
        upper = copy.deepcopy(self.upper)
        if isinstance(upper, ConvNet):
            upper.output = narrow_output(upper.output, classes, oversampling=oversampling)
            return upper
        assert isinstance(upper, nn.Sequential)
        output = upper[-1]
        assert isinstance(output, nn.Linear)
        narrow = narrow_output(output, classes, oversampling=oversampling)
        return nn.Sequential(*list(upper)[:-1], narrow)


def split_generalist(generalist: ConvNet, *, trains: str) -> Halves:
    """Split it below its linear layers; or leave it whole, so that specialists train every layer.

    The normalization between the linear layers becomes part of the first: half of a specialist's
    examples are special, and their statistics are not those of all examples.
    """
    if trains == "all":
        return Halves(nn.Identity(), generalist.eval())
    *convolutions, features, norm = generalist.trunk.eval().children()
    assert isinstance(features, nn.Linear)
    assert isinstance(norm, nn.BatchNorm1d)
    fused = fuse_linear_bn_eval(features, norm)
    return Halves(nn.Sequential(*convolutions), nn.Sequential(fused, generalist.output))


@dataclass(frozen=True, slots=True)
class Groups:
    """Which classes each specialist is for."""

    classes: tuple[Tensor, ...]  # of each, ascending
    central: Tensor  # some of each that are most alike to the others of it [groups, CENTRAL]


def find_groups(
    config: Config, generalist: nn.Module, examples: TransferSet, folder: Path, meter: WorkMeter
) -> Generator[Progress, None, Groups]:
    """Group the classes that the generalist confuses, or read what an earlier run found."""
    path = folder / "groups.safetensors"
    made_of = _hash(hash_network(generalist), examples.fingerprint(), config.of_groups)
    count = min(config.sketch_examples, len(examples))
    if not path.exists():
        generator = torch.Generator().manual_seed(mix_seed(config.seed, 2))
        chosen = torch.randperm(len(examples), generator=generator)[:count]
        sketch = CovarianceSketch(examples.classes, size=config.sketch_size, generator=generator)
        done = 0
        for indices in chosen.split(_BATCH):
            with evaluation_mode(generalist), torch.no_grad():
                v = generalist(examples.batch(indices).inputs)
            sketch.add((v / config.group_temperature).softmax(dim=1))
            done += len(indices)
            meter.add(len(indices))
            yield piece("what the generalist confuses", done, count, meter)
        columns = sketch.columns()
        groups = group_classes(
            columns,
            groups=config.specialists,
            classes_per_group=config.special_classes,
            seed=config.seed,
        )
        unit = columns / columns.norm(dim=1, keepdim=True).clamp(min=1e-30)
        alike = [unit[group] @ unit[group].sum(dim=0) for group in groups]
        shown = min(CENTRAL, config.special_classes)
        central = [
            group[each.topk(shown).indices] for group, each in zip(groups, alike, strict=True)
        ]
        tensors = {"classes": torch.stack(groups), "central": torch.stack(central)}
        about = {"made_of": made_of, "generalist": hash_network(generalist)}
        write_tensors(path, tensors, kind="groups", version=1, **about)
    else:
        meter.add(count, by_earlier_run=True)
    return read_groups(path, made_of=made_of)


def read_groups(
    path: Path, *, made_of: str | None = None, generalist: nn.Module | None = None
) -> Groups:
    """Read groups, and check what they have to be made of, or of which generalist.

    Raises:
        FolderError: If the file cannot be read, is damaged or made of anything else.
    """
    expected = {
        "made_of": made_of,
        "generalist": None if generalist is None else hash_network(generalist),
    }
    try:
        found = read_tensors(path, kind="groups", version=1)
    except FolderError as error:
        raise FolderError(f"{error}; remove it to group again") from error
    about, tensors = found.header or {}, found.tensors
    if any(about.get(name) != value for name, value in expected.items() if value is not None):
        raise FolderError(
            f"{path} is of another generalist than the one that is there now; "
            "give the generalist that it was made with, or run it in another folder"
        )
    return Groups(tuple(tensors["classes"]), tensors["central"])


def train_all(
    config: Config,
    generalist: ConvNet,
    groups: Groups,
    examples: TransferSet,
    folder: Path,
    meter: WorkMeter,
) -> Generator[Progress, None, SpecialistEnsemble]:
    """Train the specialists that the folder lacks; return all with their generalist."""
    halves = split_generalist(generalist, trains=config.trains)
    seen = examples.with_views(Distortion(seed=mix_seed(config.seed, 3)))
    weights = SpecialistWeights(
        special_share=config.special_share,
        temperature=config.temperature,
        soft_weight=config.soft_weight,
        hard_weight=1.0,
    )

    def make(number: int) -> Specialist:
        settings = TrainingSettings(
            epochs=config.epochs,
            batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            optimizer="adamw",
            weight_decay=config.weight_decay,
            warmup_epochs=0.25,
            seed=mix_seed(config.seed, 4, number),
        )
        classes = groups.classes[number]
        oversampling = measure_oversampling(
            special=int(torch.isin(examples.hard_targets, classes).sum()),
            examples=len(examples),
            special_share=config.special_share,
        )
        started = time.monotonic()
        trained = train_specialist(
            halves.narrow(classes, oversampling=oversampling), seen, classes, settings,
            trunk=halves.trunk, generalist=halves.upper, weights=weights,
        )  # fmt: skip
        seconds = time.monotonic() - started
        record = specialist_path(folder, number).with_suffix(".json")
        write_sealed_json(record, {"wall_seconds": seconds})
        return trained

    made_of = _hash(hash_network(generalist), examples.fingerprint(), config.of_specialists)
    count = len(groups.classes)
    existing = sum(specialist_path(folder, number).exists() for number in range(count))
    trained = train_specialists(make, count, folder, made_of=made_of)
    for done, _ in enumerate(trained, start=1):
        meter.add(specialist_work(config, examples), by_earlier_run=done <= existing)
        yield piece("specialists", done, count, meter)
    return load_ensemble(config, generalist, groups, folder, classes=examples.classes)


def read_train_seconds(folder: Path) -> float:
    """Add up what the trainings of a folder's specialists took; each left that beside itself."""
    records = map(read_sealed_json, sorted(folder.glob("specialist-*.json")))
    return sum(float(record["wall_seconds"]) for record in records)


def load_ensemble(
    config: Config, generalist: ConvNet, groups: Groups, folder: Path, *, classes: int
) -> SpecialistEnsemble:
    """Put the generalist and the specialists of a folder together."""
    halves = split_generalist(generalist, trains=config.trains)
    paths = [specialist_path(folder, number) for number in range(len(groups.classes))]
    return SpecialistEnsemble(
        halves.trunk,
        halves.upper,
        [load_specialist(path, halves.narrow) for path in paths],
        classes=classes,
        most_probable=config.most_probable,
    )


def specialist_work(config: Config, examples: TransferSet) -> float:
    """Estimate a specialist's cost, in examples that the generalist answers."""
    special = len(examples) / examples.classes * config.special_classes
    steps = 3 if config.trains == "all" else 2
    return steps * special / config.special_share * config.epochs


def _hash(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
