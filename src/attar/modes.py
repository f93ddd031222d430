"""Temporary evaluation mode, and training mode that keeps layers frozen."""

import threading
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
    if not network.training:
        return ()
    return tuple(layer for layer in network.modules() if not layer.training)


def train_except(network: nn.Module, frozen: Iterable[nn.Module]) -> None:
    """Put a network into training mode, except its frozen layers."""
    network.train()
    for layer in frozen:
        layer.training = False
