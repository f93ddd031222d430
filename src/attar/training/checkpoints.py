"""Checkpoints: all that a run needs to go on as if it had never stopped, in one file.

A checkpoint is a `safetensors` file. Tensors: `network.<name>` and `optimizer.<parameter>.<name>`.
Metadata: `state`, a JSON object. It is renamed into place, so a reader finds a whole one or none.
"""

import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from attar.errors import FolderError, file_error
from attar.files import write_atomically


def save_checkpoint(
    path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]
) -> None:
    """Write network, optimizer and `state` (what JSON can hold) to `path`, atomically.

    Raises:
        FolderError: If the file cannot be written; an earlier checkpoint is then unharmed.
    """
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {
            f"optimizer.{index}.{name}": value
            for name, value in slots.items()
            if isinstance(value, Tensor)
        }
    # Tied weights may share memory, which the format forbids: give each its own.
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    content = safetensors.torch.save(copies, metadata={"state": json.dumps(state)})
    write_atomically(path, content)


def load_checkpoint(
    path: Path, network: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Put a checkpoint back into network and optimizer; return its `state`.

    Raises:
        FolderError: If the file is damaged or was made for another network.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            state: dict[str, Any] = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        weights = {
            name.removeprefix("network."): tensor
            for name, tensor in tensors.items()
            if name.startswith("network.")
        }
        network.load_state_dict(weights)
        slots: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, slot = name.split(".", 2)
                slots.setdefault(int(index), {})[slot] = tensor
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": slots, "param_groups": groups})
    except OSError as error:
        raise file_error("read", path, error) from error
    except (safetensors.SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        found = f"{path} is no checkpoint of this network ({reason})"
        raise FolderError(f"{found}; remove it to train from the start") from error
    return state


def save_weights(path: Path, network: nn.Module) -> None:
    """Write the network's weights alone, as a `safetensors` file."""
    weights = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in network.state_dict().items()
    }
    write_atomically(path, safetensors.torch.save(weights))


def load_weights(path: Path, network: nn.Module) -> None:
    """Put the weights of a file written by `save_weights` into the network.

    Raises:
        FolderError: If the file is damaged, or was made for another network.
    """
    try:
        network.load_state_dict(safetensors.torch.load(path.read_bytes()))
    except OSError as error:
        raise file_error("read", path, error) from error
    except (safetensors.SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise FolderError(f"{path} does not hold this network's weights ({reason})") from error
