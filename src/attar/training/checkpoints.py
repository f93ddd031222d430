"""Checkpoints: the state of a training run in one file.

A checkpoint is a file of `attar.tensor_files`, kind `checkpoint`. Tensors: `network.<name>` and
`optimizer.<parameter>.<name>`. The header has `run`, which identifies the run, and `state`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attar.errors import FolderError
from attar.tensor_files import read_tensors, write_tensors

KIND, VERSION = "checkpoint", 2


def save_checkpoint(
    path: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    run: dict[str, Any],
    state: dict[str, Any],
) -> None:
    """Write network, optimizer, `run` and `state` (JSON values) to `path`, atomically.

    Raises:
        FolderError: If the file cannot be written; an earlier checkpoint is then unchanged.
    """
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {
            f"optimizer.{index}.{name}": value
            for name, value in slots.items()
            if isinstance(value, Tensor)
        }
    write_tensors(path, tensors, kind=KIND, version=VERSION, run=run, state=state)


def load_checkpoint(
    path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, *, run: dict[str, Any]
) -> dict[str, Any]:
    """Load a checkpoint into network and optimizer; return its `state`.

    Everything is checked first. If the checkpoint is refused, network and optimizer are unchanged.

    Raises:
        FolderError: If the file is damaged, was made for another network or belongs to another run.
    """
    try:
        found = read_tensors(path, kind=KIND, version=VERSION)
    except FolderError as error:
        raise FolderError(f"{error}; remove it to train from the start") from error
    assert found.header is not None
    _check_run(path, run, found=found.header["run"])
    weights: dict[str, Tensor] = {}
    slots: dict[int, dict[str, Tensor]] = {}
    for name, tensor in found.tensors.items():
        whose, _, rest = name.partition(".")
        if whose == "network":
            weights[rest] = tensor
        else:
            index, _, slot = rest.partition(".")
            slots.setdefault(int(index), {})[slot] = tensor
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    fault = _find_misfit(weights, network.state_dict()) or _find_slot_misfit(slots, parameters)
    if fault:
        raise FolderError(
            f"{path} is not a checkpoint of this network ({fault}); remove it to train from the "
            "start"
        )
    network.load_state_dict(weights)
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": slots, "param_groups": groups})
    state: dict[str, Any] = found.header["state"]
    return state


def move_state(optimizer: torch.optim.Optimizer) -> None:
    """Move an optimizer's state to the devices of its parameters, which may have moved."""
    for parameter, slots in optimizer.state.items():
        for name, slot in slots.items():
            if isinstance(slot, Tensor) and slot.ndim and slot.device != parameter.device:
                slots[name] = slot.to(parameter.device)


def _find_misfit(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """Describe how named tensors differ from those of a network; empty if they fit."""
    for name in [*expected, *found]:
        if name not in found:
            return f"it lacks {name}"
        if name not in expected:
            return f"it has {name}, which the network lacks"
        there, here = (f"{list(each.shape)} {each.dtype}" for each in (found[name], expected[name]))
        if there != here:
            return f"{name} is {there} in the file, {here} in the network"
    return ""


def _find_slot_misfit(
    slots: Mapping[int, Mapping[str, Tensor]], parameters: Sequence[Tensor]
) -> str:
    """Describe how an optimizer's state differs from its parameters; empty if it fits."""
    for index, of_parameter in slots.items():
        if index >= len(parameters):
            return f"it has optimizer state of parameter {index}, but there are {len(parameters)}"
        for name, slot in of_parameter.items():
            if slot.numel() != 1 and slot.shape != parameters[index].shape:
                return f"optimizer state {name} of parameter {index} is {list(slot.shape)}"
    return ""


def _check_run(path: Path, run: dict[str, Any], *, found: dict[str, Any]) -> None:
    names = sorted(name for name in {*run, *found} if found.get(name) != run.get(name))
    if names:
        what = f"{path} is the checkpoint of a run with different {' and '.join(names)}"
        raise FolderError(f"{what}; choose another path, or remove it to start again")
