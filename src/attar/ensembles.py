"""`attar.train`: one network, or an ensemble whose members are trained together."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from attar.cohorts import Cohort
from attar.data import TransferSet, mix_seed
from attar.errors import AttarError, DataError, FolderError, check_positive, file_error
from attar.files import write_atomically
from attar.losses import Mean, check_mean
from attar.progress import reporting
from attar.teachers import EnsembleNetwork
from attar.training import OptimizerName, Step, TrainingRun, hard_target_loss, make_settings

FORMAT, VERSION = "attar ensemble", 1

MakeNetwork = Callable[[torch.Generator], nn.Module]  # draws its weights from the generator


def train(
    network: nn.Module | MakeNetwork,
    transfer_set: TransferSet,
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
    """Train a network on hard targets; or several at once, which make an ensemble.

    An ensemble's members start from weights of their own and, where they have dropout, draw masks
    of their own; batches come to all of them in one order. If the set has views, each epoch shows
    another one.

    Args:
        network: To be trained in place; or a function that makes one, untrained, from a
            `torch.Generator`, which an ensemble needs. Its members have to fit into a
            `attar.Cohort`.
        transfer_set: Examples with hard targets; those of hard target -1 are left out.
        epochs: Passes over them.
        members: How many networks.
        mean: Of the members' probabilities, in the ensemble's answers.
        batch_size: Examples in a batch.
        learning_rate: At its highest; it climbs for a tenth of the epochs, but no longer than one,
            then falls as a cosine.
        optimizer: `adamw`, or `sgd` with Nesterov momentum.
        seed: Of the weights that the function draws, of the order of examples and of dropout.
        checkpoint: File to go on from, and to write the state to every 20 seconds and at the end.
        progress: Called after every step; a loss is the sum of the members' losses.
            `attar.ProgressBar()` shows how far it is.

    Returns:
        In evaluation mode: the network, or with `members` above 1 an `EnsembleNetwork`.

    Raises:
        AttarError: If an argument is out of range, or the networks cannot be trained together.
        DataError: If no example has a hard target.
        FolderError: If the checkpoint is damaged, or of another run.
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
    labeled = (transfer_set.hard_targets >= 0).nonzero().squeeze(1)
    if not len(labeled):
        raise DataError("expected hard targets to train on, got none in the set; see attar.distill")
    is_whole = len(labeled) == len(transfer_set)
    trained = made[0] if members == 1 else Cohort(made)
    run = TrainingRun(
        trained,
        transfer_set if is_whole else transfer_set.subset(labeled),
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
    """Write an ensemble to one `safetensors` file; docs/format.md specifies it.

    Raises:
        FolderError: If the file cannot be written; what it held before is then unharmed.
    """
    tensors = {
        f"{place}.{name}": tensor.detach().cpu().contiguous().clone()
        for place, network in enumerate(ensemble.networks)
        for name, tensor in network.state_dict().items()
    }
    header = {"format": FORMAT, "version": VERSION, "members": len(ensemble), "mean": ensemble.mean}
    write_atomically(
        Path(path), safetensors.torch.save(tensors, metadata={"ensemble": json.dumps(header)})
    )


def load_ensemble(path: Path | str, make_network: MakeNetwork) -> EnsembleNetwork:
    """Read an ensemble that `save_ensemble` wrote. Nothing in the file is run.

    Args:
        path: The file.
        make_network: Makes a network of the members' architecture, as for `train`.

    Returns:
        The ensemble, in evaluation mode.

    Raises:
        FolderError: If the file is damaged, no ensemble, or of other networks.
    """
    path = Path(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = _check_header(path, file.metadata())
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        first = _make(make_network, 0)
        networks = [copy.deepcopy(first) for _ in range(header["members"])]
        for place, network in enumerate(networks):
            start = f"{place}."
            network.load_state_dict(
                {
                    name.removeprefix(start): tensor
                    for name, tensor in tensors.items()
                    if name.startswith(start)
                }
            )
    except OSError as error:
        raise file_error("read", path, error) from error
    except (safetensors.SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise FolderError(f"{path} holds no ensemble of such networks ({reason})") from error
    return EnsembleNetwork(networks, mean=header["mean"]).eval()


def _check_header(path: Path, metadata: dict[str, str] | None) -> dict[str, Any]:
    try:
        header = json.loads((metadata or {})["ensemble"])
        if header["format"] != FORMAT or header["members"] < 1:
            raise ValueError("it has no members")
        version = int(header["version"])
    except (KeyError, TypeError, ValueError) as error:
        found = f"{path} is no ensemble ({type(error).__name__}: {error})"
        raise FolderError(f"{found}; expected a file of attar.save_ensemble") from error
    if version > VERSION:
        raise FolderError(
            f"{path} is an ensemble of format {version}, this release reads up to {VERSION}"
        )
    return dict(header)


def _make(make_network: MakeNetwork, seed: int) -> nn.Module:
    """Make a network; one that asks torch's default generator gets weights of its own, too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make_network(torch.Generator().manual_seed(seed))
    if not isinstance(network, nn.Module):
        raise AttarError(f"expected a function that makes a network, got {type(network).__name__}")
    return network
