"""`attar.train`: train one network, or an ensemble whose members are trained together."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from attar.cohorts import Cohort
from attar.data import ExampleSet, mix_seed
from attar.errors import AttarError, FolderError, check_positive
from attar.losses import Mean, check_mean
from attar.progress import reporting
from attar.teachers import EnsembleNetwork
from attar.teachers.hugging_face import as_network
from attar.tensor_files import read_tensors, write_tensors
from attar.training import OptimizerName, Step, TrainingRun, hard_target_loss, make_settings

KIND, VERSION = "ensemble", 2
MOST_MEMBERS = 100_000

MakeNetwork = Callable[[torch.Generator], nn.Module]  # draws its weights from the generator


def train(
    network: nn.Module | MakeNetwork,
    transfer_set: ExampleSet,
    *,
    epochs: int,
    members: int = 1,
    mean: Mean = "arithmetic",
    batch_size: int = 256,
    learning_rate: float = 1e-3,
    optimizer: OptimizerName = "adamw",
    seed: int = 0,
    checkpoint: Path | str | None = None,
    progress: Callable[[Step], None] | None = None,
) -> nn.Module:
    """Train a network, or an ensemble of networks, on hard targets.

    The members of an ensemble have different initial weights and dropout masks, and see the same
    batches in the same order. If the set has views, each epoch shows a different one.

    Args:
        network: Network to train in place; or, required for an ensemble, a function that makes an
            untrained network from a `torch.Generator`. The members must fit into an `attar.Cohort`.
        transfer_set: Examples with hard targets; examples with hard target -1 are left out.
        epochs: Passes over the examples.
        members: Number of networks.
        mean: Mean of the members in the ensemble's predictions.
        batch_size: Examples in a batch.
        learning_rate: Peak learning rate. It rises for a tenth of the epochs, for one epoch at
            most, then decays as a cosine.
        optimizer: `adamw`, or `sgd` with Nesterov momentum.
        seed: Random seed of the weights that the function draws, the order of examples and dropout.
        checkpoint: File to resume from, written periodically and at the end.
        progress: Called after every step, with the sum of the members' losses.
            `attar.ProgressBar()` shows it.

    Returns:
        The network, or an `EnsembleNetwork` if `members` is above 1; in evaluation mode.

    Raises:
        AttarError: If an argument is out of range, or the networks cannot be trained together.
        DataError: If no example has a hard target.
        FolderError: If the checkpoint is damaged or belongs to another run.
        DivergedError: If a loss or a gradient is not finite.
    """
    check_positive(members=members)
    check_mean(mean)
    if members > 1 and isinstance(network, nn.Module):
        raise AttarError(
            f"expected a function that makes a network, for {members} members, got the network "
            f"{type(network).__name__}; try train(lambda generator: ..., members={members})"
        )
    made = (
        [network]
        if isinstance(network, nn.Module)
        else [_make(network, mix_seed(seed, place)) for place in range(members)]
    )
    names = transfer_set.class_names
    trained = made[0] if members == 1 else Cohort([as_network(each, names) for each in made])
    run = TrainingRun(
        trained,
        transfer_set.labeled(),
        hard_target_loss,
        make_settings(epochs, batch_size, learning_rate, optimizer, seed),
        checkpoint=None if checkpoint is None else Path(checkpoint),
    )
    with reporting(progress) as report:
        for step in run:
            report(step)
    if isinstance(trained, Cohort):
        return EnsembleNetwork(trained.members(), mean=mean).eval()
    return trained.eval()


def save_ensemble(path: Path | str, ensemble: EnsembleNetwork) -> None:
    """Write an ensemble to one `safetensors` file with a checksum; docs/format.md specifies it.

    Raises:
        FolderError: If the file cannot be written; an earlier file is then unchanged.
    """
    tensors = {
        f"{place}.{name}": tensor
        for place, network in enumerate(ensemble.networks)
        for name, tensor in network.state_dict().items()
    }
    header = {"members": len(ensemble), "mean": ensemble.mean}
    write_tensors(Path(path), tensors, kind=KIND, version=VERSION, **header)


def load_ensemble(path: Path | str, make_network: MakeNetwork) -> EnsembleNetwork:
    """Read an ensemble written by `save_ensemble`. No code from the file is run.

    Args:
        path: The file. Files of format 1, which have no checksum, can be read too.
        make_network: Function that makes a network of the members' architecture, as for `train`.

    Returns:
        The ensemble, in evaluation mode.

    Raises:
        FolderError: If the file is damaged, is not an ensemble, or has other networks.
    """
    path = Path(path)
    found = read_tensors(path, kind=KIND, version=VERSION, foreign=True)
    header = _check_header(path, found.header, found.metadata)
    members: dict[int, dict[str, Tensor]] = {place: {} for place in range(header["members"])}
    for name, tensor in found.tensors.items():
        whose, _, rest = name.partition(".")
        if not whose.isdecimal() or int(whose) not in members:
            raise FolderError(f"{path} is damaged: {len(members)} members, but a tensor {name}")
        members[int(whose)][rest] = tensor
    first = _make(make_network, 0)
    networks = [copy.deepcopy(first) for _ in members]
    try:
        for place, network in enumerate(networks):
            network.load_state_dict(members[place])
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise FolderError(f"{path} is not an ensemble of such networks ({reason})") from error
    return EnsembleNetwork(networks, mean=header["mean"]).eval()


def _check_header(
    path: Path, header: dict[str, Any] | None, metadata: dict[str, str]
) -> dict[str, Any]:
    """Return the number of members and their mean."""
    try:
        content: dict[str, Any] = header or json.loads(metadata["ensemble"])  # of format 1
        if header is None and (content["format"], content["version"]) != ("attar ensemble", 1):
            raise ValueError(f"format {content['format']!r}, version {content['version']}")
        members, mean = content["members"], content["mean"]
        if type(members) is not int or not 1 <= members <= MOST_MEMBERS:
            raise ValueError(f"members: {members}")
        if mean not in get_args(Mean):
            raise ValueError(f"mean: {mean}")
    except (KeyError, TypeError, ValueError) as error:
        found = f"{path} is not an ensemble ({type(error).__name__}: {error})"
        raise FolderError(f"{found}; pass a file written by attar.save_ensemble") from error
    return {"members": members, "mean": mean}


def _make(make_network: MakeNetwork, seed: int) -> nn.Module:
    """Make a network; also seeds torch's default generator, in case the function uses it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make_network(torch.Generator().manual_seed(seed))
    if not isinstance(network, nn.Module):
        raise AttarError(f"expected a function that makes a network, got {type(network).__name__}")
    return network
