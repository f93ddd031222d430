"""Evaluation mode for a while, and training mode that leaves frozen layers alone."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn

_lock = threading.Lock()
_held: dict[nn.Module, tuple[int, bool]] = {}  # layer -> holders, its mode before the first


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Hold a network in evaluation mode for the body; all its layers get their modes back.

    Several threads may hold the same network, or networks that share layers: the last to leave a
    layer gives it its mode back.
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
    """Return the layers that were put into evaluation mode in a network that is in training mode.

    A network that is in evaluation mode as a whole, as `from_pretrained` returns it, has none.
    """
    if not network.training:
        return ()
    return tuple(layer for layer in network.modules() if not layer.training)


def train_except(network: nn.Module, frozen: Iterable[nn.Module]) -> None:
    """Put a network into training mode, but for its frozen layers."""
    network.train()
    for layer in frozen:
        layer.training = False
