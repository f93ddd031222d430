"""Checkpoints: all that a run needs to go on as if it had never stopped, in one file.

A checkpoint is a `safetensors` file. Tensors: `network.<name>` and `optimizer.<parameter>.<name>`.
Metadata: `checkpoint`, a JSON object of `run` (what it belongs to), `state`, and `sha256`, a
checksum of these two and of all tensors in the order of their names. The file is renamed into
place, so that a reader finds a whole one or none.
"""

import hashlib
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
    path: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    run: dict[str, Any],
    state: dict[str, Any],
) -> None:
    """Write network, optimizer, `run` and `state` (what JSON can hold) to `path`, atomically.

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
    header = {"run": run, "state": state}
    text = json.dumps(header | {"sha256": _checksum(copies, header)})
    write_atomically(path, safetensors.torch.save(copies, metadata={"checkpoint": text}))


def load_checkpoint(
    path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, *, run: dict[str, Any]
) -> dict[str, Any]:
    """Put a checkpoint back into network and optimizer; return its `state`.

    Raises:
        FolderError: If the file is damaged, was made for another network or belongs to another run
            (then nothing is put back).
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            found = json.loads(file.metadata()["checkpoint"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = {"run": found["run"], "state": found["state"]}
        if found["sha256"] != _checksum(tensors, header):
            raise ValueError("its checksum is wrong")
        _check_run(path, run, found=header["run"])
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
    except FolderError:
        raise
    except (safetensors.SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        found = f"{path} is no checkpoint of this network ({reason})"
        raise FolderError(f"{found}; remove it to train from the start") from error
    state: dict[str, Any] = header["state"]
    return state


def _checksum(tensors: dict[str, Tensor], header: dict[str, Any]) -> str:
    sha256 = hashlib.sha256(json.dumps(header).encode())
    for name in sorted(tensors):
        sha256.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return sha256.hexdigest()


def _check_run(path: Path, run: dict[str, Any], *, found: dict[str, Any]) -> None:
    names = sorted(name for name in {*run, *found} if found.get(name) != run.get(name))
    if names:
        what = f"{path} is the checkpoint of a run with other {' and '.join(names)}"
        raise FolderError(f"{what}; give another folder, or remove it to start again")
