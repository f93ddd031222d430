"""Specialists: trained each on its own, kept each in a file of its own."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from attar.data import Batch, TransferSet, mix_seed
from attar.errors import FolderError
from attar.files import remove_partials
from attar.modes import evaluation_mode
from attar.specialists.dustbin import (
    draw_examples,
    log_sum_others,
    measure_oversampling,
    raise_dustbin,
    specialist_loss,
    to_special_probabilities,
    to_special_targets,
)
from attar.specialists.grouping import check_groups
from attar.tensor_files import TensorFile, read_tensors, write_tensors
from attar.training import TrainingSettings, fit

KIND, VERSION = "specialist", 2
_EPOCHS, _STEPS = 0, 1  # two streams of seeds

# Calls a function with each number, in any order and anywhere, as `map` does.
MapFn = Callable[[Callable[[int], int], Sequence[int]], Iterable[int]]


@dataclass(frozen=True, slots=True)
class Specialist:
    """A network for a few classes: outputs are theirs, in ascending order, and the dustbin's."""

    classes: Int64[Tensor, " special"]
    network: nn.Module  # features -> outputs [batch, special + 1]; see `raise_dustbin`
    oversampling: float  # of its classes, in training


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecialistWeights:
    """What a specialist learns with."""

    special_share: float = 0.5  # of a batch; the paper's
    temperature: float = 1.0  # of the generalist's soft targets for the other classes
    soft_weight: float = 1.0  # of these
    hard_weight: float = 1.0


def train_specialist(
    network: nn.Module,
    examples: TransferSet,
    classes: Int64[Tensor, " special"],
    settings: TrainingSettings,
    *,
    trunk: nn.Module,
    generalist: nn.Module,
    weights: SpecialistWeights,
) -> Specialist:
    """Train a network that starts as its generalist on half special, half other examples.

    Each epoch shows every special example, and others that are drawn anew; if the examples have
    views, epoch e shows view e. The same arguments give the same weights, bit for bit.

    Args:
        network: Features -> outputs of the special classes and the dustbin, such as a copy of the
            generalist with `narrow_output`; trained in place.
        examples: The whole training set, with the hard targets of all classes.
        classes: The special ones, ascending.
        settings: How long, how fast, with which seed.
        trunk: Inputs -> features, the lower layers that the specialist shares with the generalist,
            which stay as they are; `nn.Identity()` if it shares none.
        generalist: Features -> logits of all classes: the dustbin's level, and the soft targets for
            the other classes.
        weights: Of the losses, and the special share of a batch.

    Raises:
        DataError: If there is no special example, or no other one.
        AttarError: If the classes are not two or more of the examples'.
        DivergedError: If a loss or a gradient is not finite.

    Source: Hinton et al. (2015), sec. 5.2 and 6.1.
    """
    check_groups([classes], examples.classes)
    special_targets = to_special_targets(examples.hard_targets, classes)
    is_special = special_targets < len(classes)
    oversampling = measure_oversampling(
        special=int(is_special.sum()), examples=len(examples), special_share=weights.special_share
    )

    def draw(epoch: int) -> Tensor:
        generator = torch.Generator().manual_seed(mix_seed(settings.seed, _EPOCHS, epoch))
        return draw_examples(is_special, special_share=weights.special_share, generator=generator)

    steps_per_epoch = -(-len(draw(0)) // settings.batch_size)
    steps = settings.epochs * steps_per_epoch
    optimizer = settings.make_optimizer(each for each in network.parameters() if each.requires_grad)

    def batches() -> Iterator[Batch]:
        for step in range(steps):
            epoch, position = divmod(step, steps_per_epoch)
            if position == 0:
                parts = draw(epoch).tensor_split(steps_per_epoch)
            rate = settings.learning_rate_at(step, steps=steps, steps_per_epoch=steps_per_epoch)
            for group in optimizer.param_groups:
                group["lr"] = rate
            batch = examples.batch(parts[position], epoch + 1 if examples.views else 0)
            with torch.no_grad():
                features = trunk(batch.inputs)
            yield replace(batch, inputs=features)

    def loss_fn(outputs: Tensor, batch: Batch) -> Tensor:
        targets = special_targets[batch.indices]
        with torch.no_grad():
            v = generalist(batch.inputs)  # [batch, all classes]
        logits = raise_dustbin(outputs, log_sum_others(v, classes))
        soft_targets = torch.zeros_like(logits)
        if weights.soft_weight:
            others = targets == len(classes)
            p = (v[others] / weights.temperature).softmax(dim=1)
            soft_targets[others] = to_special_probabilities(p, classes)
        return specialist_loss(
            logits,
            targets,
            soft_targets,
            oversampling=oversampling,
            temperature=weights.temperature,
            soft_weight=weights.soft_weight,
            hard_weight=weights.hard_weight,
        ).mean()

    with evaluation_mode(trunk), evaluation_mode(generalist):
        losses = fit(
            network,
            batches(),
            loss_fn,
            optimizer,
            step_seed=lambda step: mix_seed(settings.seed, _STEPS, step),
            clip_norm=settings.clip_norm,
            precision=settings.precision,
        )
        for _ in losses:
            pass
    return Specialist(classes, network.eval(), oversampling)


def train_specialists(
    make: Callable[[int], Specialist],
    groups: int,
    folder: Path,
    *,
    made_of: str,
    map_fn: MapFn = map,
) -> Iterator[int]:
    """Train the specialists that a folder lacks; each is kept as soon as it is there.

    None needs another, so `map_fn` may call several at once, on threads or machines that share
    the folder: `concurrent.futures.ThreadPoolExecutor().map` for one, or `attar.cluster.map_fn`.

    Args:
        make: Number of a group -> its trained specialist.
        groups: How many there are.
        folder: Of the files `specialist-<number>.safetensors`.
        made_of: Says what decides the specialists (generalist, data, settings); a file that was
            made of anything else is refused.
        map_fn: Calls `make` with each number, and keeps what it made.

    Yields:
        The number of each specialist that is in the folder, those first that were there before.

    Raises:
        FolderError: If the folder cannot be written, or a file is damaged or made of anything else.
    """
    lacking = []
    for number in range(groups):
        path = specialist_path(folder, number)
        if path.exists():
            check_made_of(path, made_of)
            yield number
        else:
            lacking.append(number)
    yield from map_fn(partial(_train_one, make, folder, made_of), lacking)


def _train_one(make: Callable[[int], Specialist], folder: Path, made_of: str, number: int) -> int:
    save_specialist(specialist_path(folder, number), make(number), made_of=made_of)
    return number


def specialist_path(folder: Path, number: int) -> Path:
    """Return where a specialist is kept."""
    return folder / f"specialist-{number:03}.safetensors"


def save_specialist(path: Path, specialist: Specialist, *, made_of: str) -> None:
    """Write a specialist's weights, classes and oversampling, atomically, with a checksum."""
    tensors = {f"network.{name}": each for name, each in specialist.network.state_dict().items()}
    tensors["classes"] = specialist.classes
    header = {"oversampling": specialist.oversampling, "made_of": made_of}
    write_tensors(path, tensors, kind=KIND, version=VERSION, **header)
    remove_partials(path)


def load_specialist(path: Path, make_network: Callable[[Tensor], nn.Module]) -> Specialist:
    """Read a specialist.

    Args:
        path: The file.
        make_network: Its classes -> a network of its architecture, for the weights.

    Raises:
        FolderError: If the file cannot be read, is damaged or of another architecture.
    """
    found = _read(path)
    try:
        network = make_network(found.tensors["classes"])
        network.load_state_dict(
            {
                name.removeprefix("network."): tensor
                for name, tensor in found.tensors.items()
                if name.startswith("network.")
            }
        )
        oversampling = float((found.header or {})["oversampling"])
        return Specialist(found.tensors["classes"], network.eval(), oversampling)
    except (RuntimeError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FolderError(
            f"{path} is no specialist ({reason}); remove it to train it again"
        ) from error


def check_made_of(path: Path, made_of: str) -> None:
    """Raise `FolderError` if a specialist's file is damaged, or made of anything else."""
    if (_read(path).header or {}).get("made_of") != made_of:
        raise FolderError(
            f"{path} is a specialist of another generalist, group or setting; "
            "remove it, or choose another folder"
        )


def _read(path: Path) -> TensorFile:
    try:
        return read_tensors(path, kind=KIND, version=VERSION)
    except FolderError as error:
        raise FolderError(f"{error}; remove it to train it again") from error
