"""A network's evaluation mode, for a while."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

_lock = threading.Lock()
_held: dict[nn.Module, tuple[int, dict[nn.Module, bool]]] = {}  # holders, modes before


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Hold a network in evaluation mode for the body; all its layers get their modes back.

    Several threads may hold the same network: the last to leave gives the modes back.
    """
    with _lock:
        holders, modes = _held.get(
            network, (0, {module: module.training for module in network.modules()})
        )
        _held[network] = (holders + 1, modes)
        network.eval()
    try:
        yield
    finally:
        with _lock:
            holders, modes = _held.pop(network)
            if holders > 1:
                _held[network] = (holders - 1, modes)
            else:
                for module, mode in modes.items():
                    module.training = mode
