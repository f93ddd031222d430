"""Arrays and networks in a form that a page can hold, as exact as its size allows."""

import base64
import gzip
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attar.data import TransferSet
from attar.evaluation import compute_logits
from attar.models import Dropout

Storage = Literal["float32", "float16", "int8"]
STORAGES: tuple[Storage, ...] = ("float32", "float16", "int8")  # the most exact first

Json = dict[str, Any]


def pack(array: NDArray[Any]) -> Json:
    """Put an array into JSON: base64 of gzip of the first bytes of all numbers, then the second.

    The bytes of one significance are alike, which gzip makes use of: float32 weights take 0.85 of
    the room that they would take otherwise. `assets/data.js` reads it.
    """
    numbers = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    planes = numbers.reshape(-1, 1).view(np.uint8).T.tobytes()
    packed = base64.b64encode(gzip.compress(planes, compresslevel=6, mtime=0)).decode()
    return {"dtype": array.dtype.name, "shape": list(array.shape), "data": packed}


def linear_layers(network: nn.Module | None) -> list[nn.Linear] | None:
    """Return the layers of a network as `attar.models.mlp` makes it; None for any other network."""
    if not isinstance(network, nn.Sequential):
        return None
    modules = [module for module in network if not isinstance(module, nn.Flatten | Dropout)]
    layers, between = modules[::2], modules[1::2]
    linear = [layer for layer in layers if isinstance(layer, nn.Linear) and layer.bias is not None]
    if len(modules) % 2 == 0 or len(linear) < len(layers):
        return None
    return linear if all(isinstance(module, nn.ReLU) for module in between) else None


@dataclass(frozen=True, slots=True)
class PackedNetwork:
    """A network that the page itself can run, and how far it is from the true one."""

    layers: list[Json]
    storage: Storage
    deviation: float  # largest difference of a logit, on the examples that it was measured on
    changed: int  # examples of these whose most probable class is another one
    size: int  # characters


def pack_network(
    network: nn.Module, examples: TransferSet, logits: Tensor, *, room: int
) -> PackedNetwork | None:
    """Pack a network as exactly as the room allows, and measure what that costs.

    Args:
        network: As `attar.models.mlp` makes it.
        examples: To measure on.
        logits: The network's own logits on these, `[examples, classes]`.
        room: Characters that may be used.

    Returns:
        None if even int8 takes too much room.
    """
    linear = linear_layers(network)
    assert linear
    for storage in STORAGES:
        layers = [_pack_layer(layer, storage) for layer in linear]
        size = sum(_size(layer) for layer in layers)
        if size > room:
            continue
        copy = deepcopy(network)
        restored = linear_layers(copy)
        assert restored
        with torch.no_grad():
            for layer in restored:
                layer.weight.copy_(_restore(layer.weight, storage))
        found = compute_logits(copy, examples)
        return PackedNetwork(
            layers=layers,
            storage=storage,
            deviation=float((found - logits).abs().max()),
            changed=int((found.argmax(dim=1) != logits.argmax(dim=1)).sum()),
            size=size,
        )
    return None


def _pack_layer(layer: nn.Linear, storage: Storage) -> Json:
    weight, bias = layer.weight.detach().float(), layer.bias.detach().float()
    packed = {"bias": pack(bias.numpy())}
    if storage == "int8":
        steps = _steps(weight)  # [outputs, 1]
        packed["steps"] = pack(steps[:, 0].numpy())
        packed["weight"] = pack((weight / steps).round().to(torch.int8).numpy())
    else:
        packed["weight"] = pack(weight.to(getattr(torch, storage)).numpy())
    return packed


def _restore(weight: Tensor, storage: Storage) -> Tensor:
    if storage == "int8":
        steps = _steps(weight)
        return (weight / steps).round() * steps
    restored: Tensor = weight.to(getattr(torch, storage)).to(weight.dtype)
    return restored


def _steps(weight: Tensor) -> Tensor:
    """Return the size of one step of int8 for each unit: its largest weight is 127 of them."""
    return weight.abs().amax(dim=1, keepdim=True).clamp_min(1e-30) / 127


def _size(layer: Json) -> int:
    return sum(len(packed["data"]) for packed in layer.values())


def pack_inputs(inputs: Tensor) -> Json | None:
    """Pack stored inputs as pictures of bytes, or as numbers; None where neither shows anything.

    Returns:
        `kind` is `image` (`[examples, height, width, 1 or 3]` bytes), `curve` (`[examples,
        numbers]`) or `tokens`.
    """
    stored = inputs
    if stored.dtype not in (torch.uint8, torch.float32, torch.float64, torch.float16):
        return {"kind": "tokens"} | pack(stored.reshape(len(stored), -1).int().numpy())
    if stored.dim() == 2:
        return {"kind": "curve"} | pack(stored.float().numpy())
    if stored.dim() == 4 and stored.shape[1] in (1, 3):
        stored = stored.permute(0, 2, 3, 1)
    if stored.dim() == 3:
        stored = stored.unsqueeze(-1)
    if stored.dim() != 4 or stored.shape[-1] not in (1, 3):
        return None
    if stored.dtype != torch.uint8:
        least, largest = stored.amin().float(), stored.amax().float()
        spread = (largest - least).clamp_min(1e-12)
        stored = ((stored.float() - least) / spread * 255).round().to(torch.uint8)
    return {"kind": "image"} | pack(stored.numpy())
