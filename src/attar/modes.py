"""Temporary evaluation mode, and training mode that keeps layers frozen."""

import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn

_lock = threading.Lock()
_held: dict[nn.Module, tuple[int, bool]] = {}  # layer -> holders, its mode before the first


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode for the body; then restore the modes of all layers.

    Thread-safe: if several threads use the same layers, the last one restores their modes.
    """
    with _lock:
        layers = list(network.modules())
        for layer in layers:
            holders, mode = _held.get(layer, (0, layer.training))
            _held[layer] = (holders + 1, mode)
    try:
        with _lock:
            network.eval()
        yield
    finally:
        with _lock:
            for layer in layers:
                holders, mode = _held.pop(layer)
                if holders > 1:
                    _held[layer] = (holders - 1, mode)
                else:
                    layer.training = mode


def frozen_layers(network: nn.Module) -> tuple[nn.Module, ...]:
    """Return the layers in evaluation mode of a network in training mode.

    A network that is in evaluation mode as a whole, as returned by `from_pretrained`, has none.
    """
    frozen = tuple(layer for layer in network.modules() if not layer.training)
    return () if len(frozen) == len(list(network.modules())) else frozen


def warn_of_frozen(network: nn.Module) -> None:
    """Warn of layers in evaluation mode whose weights are trained: it may be an oversight.

    A pretrained part is in evaluation mode when it is loaded. Within a network in training mode it
    would be trained without dropout. Normalization layers are often frozen on purpose, and so is
    a part whose weights are fixed.
    """
    frozen = set(frozen_layers(network))
    names = [
        name
        for name, layer in network.named_modules()
        if layer in frozen
        and "Norm" not in type(layer).__name__
        and any(each.requires_grad for each in layer.parameters(recurse=False))
    ]
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        warnings.warn(
            f"{', '.join(names[:3])}{more} of {type(network).__name__} are in evaluation mode and "
            "stay in it while their weights are trained, without dropout; call train() on the "
            "network first, or requires_grad_(False) on that part to freeze it",
            stacklevel=2,
        )


def train_except(network: nn.Module, frozen: Iterable[nn.Module]) -> None:
    """Put a network into training mode, except its frozen layers."""
    network.train()
    for layer in frozen:
        layer.training = False
