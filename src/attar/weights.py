"""Files with the weights of networks: attar's `safetensors`, other ones, and torch checkpoints.

Torch checkpoints (`.pt`, `.pth`, `.pth.tar`, `.ckpt`, `.bin`) are read with `weights_only=True`.
Files with objects other than tensors and plain values are refused.
"""

import pickle
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from attar.errors import AttarError, FolderError, file_error
from attar.tensor_files import read_tensors, write_tensors

KIND, VERSION = "weights", 1

# Prefixes that wrappers add to every name: DataParallel, torch.compile, an enclosing module.
_PREFIXES = ("module.", "model.", "_orig_mod.", "net.", "network.")
_DEEPEST = 3  # levels of a checkpoint that are searched for weights
_SHOWN = 3  # names shown in an error


def save_weights(path: Path, network: nn.Module) -> None:
    """Write a network's weights to a `safetensors` file with a checksum.

    Raises:
        AttarError: If the network's state contains anything but tensors.
        FolderError: If the file cannot be written.
    """
    state = network.state_dict()
    other = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if other:
        raise AttarError(
            f"expected only tensors in the state of {type(network).__name__}, got {_some(other)}; "
            "save the network before it is quantized"
        )
    write_tensors(path, state, kind=KIND, version=VERSION)


def load_weights(path: Path | str, network: nn.Module) -> None:
    """Load the weights of a file into a network. If they do not fit, nothing is changed.

    The file is one of `save_weights`, another `safetensors` file, or a torch checkpoint. From a
    checkpoint with several parts, the only part that fits the network is loaded. If every name
    starts with `module.`, `model.`, `_orig_mod.`, `net.` or `network.`, as added by wrappers, and
    the names fit without this prefix, it is removed.

    Raises:
        FolderError: If the file is damaged, contains no weights, or was made for another network.
    """
    path = Path(path)
    parts, wanted = _read_parts(path), network.state_dict()
    tried = [
        (_differences(named, wanted), key, named)
        for key, part in parts.items()
        for named in _names(part)
    ]
    fitting = {key: named for differences, key, named in tried if not differences}
    if len(fitting) > 1:
        raise FolderError(_several(path, list(fitting), "fit this network"))
    if not fitting:
        differences, key, _ = min(tried, key=lambda attempt: sum(map(len, attempt[0].values())))
        where = f" in {key}" if key else ""
        lists = [f"{len(names)} {how}: {_some(names)}" for how, names in differences.items()]
        raise FolderError(
            f"the weights in {path}{where} do not fit the network ({'; '.join(lists)}); make the "
            "network with the settings of its training"
        )
    (weights,) = fitting.values()
    network.load_state_dict(weights)


def read_weights(path: Path | str) -> dict[str, Tensor]:
    """Read the weights in a file, by name; see `load_weights` for the kinds of files.

    Raises:
        FolderError: If the file is damaged, contains no weights, or several sets of tensors.
    """
    parts = _read_parts(Path(path))
    if len(parts) > 1:
        raise FolderError(_several(Path(path), list(parts), "may be weights"))
    (weights,) = parts.values()
    return weights


def _read_parts(path: Path) -> dict[str, dict[str, Tensor]]:
    """Return every set of tensors in a file by its position, "" for the whole file."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise file_error("read", path, error) from error
    # A safetensors file starts with 8 bytes of length, then JSON. Torch writes zip files, and wrote
    # pickles of protocol 2 before 1.6.
    if start[8:] != b"{" and start.startswith((b"PK", b"\x80")):
        if start[:2] in (b"PK", b"\x80\x02"):
            return _read_checkpoint(path)
        raise _no_tensors(path, "a pickle")
    content = read_tensors(path, kind=KIND, version=VERSION, foreign=True)
    tensors = content.tensors
    if content.header is None:  # safetensors.torch.save_model keeps tied weights under one name
        tied = {name: kept for name, kept in content.metadata.items() if kept in tensors}
        tensors = {name: tensors[kept] for name, kept in tied.items()} | tensors
    if not tensors:
        raise FolderError(f"{path} contains no weights: it has no tensors")
    return {"": tensors}


def _read_checkpoint(path: Path) -> dict[str, dict[str, Tensor]]:
    try:
        with path.open("rb") as file:  # opened here, because torch looks at the suffix of a path
            content = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise file_error("read", path, error) from error
    except pickle.UnpicklingError as error:
        if blocked := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise _no_tensors(path, blocked[1]) from error
        raise FolderError(f"{path} is damaged or no torch checkpoint") from error
    except Exception as error:  # of a damaged archive: RuntimeError, EOFError, KeyError, ...
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise FolderError(f"{path} is damaged or no torch checkpoint ({reason})") from error
    parts = dict(_find_parts(content, ""))
    if not parts:
        keys = f"the keys {_some(content)}" if isinstance(content, Mapping) else type(content)
        raise FolderError(
            f"expected the weights of a network in {path}, a mapping of names to tensors, got "
            f"{keys}; save only the weights, with torch.save(network.state_dict(), path)"
        )
    return parts


def _no_tensors(path: Path, what: str) -> FolderError:
    return FolderError(
        f"{path} contains Python objects other than tensors ({what}), which attar does not load; "
        "if you trust the file, load it with torch.load(path, weights_only=False), and save only "
        'the weights with torch.save(network.state_dict(), "weights.pth")'
    )


def _find_parts(content: object, place: str) -> Iterator[tuple[str, dict[str, Tensor]]]:
    if not isinstance(content, Mapping) or place.count(".") >= _DEEPEST:
        return
    if content and all(isinstance(value, Tensor) for value in content.values()):
        yield place.strip("."), {str(name): value for name, value in content.items()}
        return
    for key, value in content.items():
        if isinstance(key, str):  # not a number, as in an optimizer's state
            yield from _find_parts(value, f"{place}{key}.")


def _names(weights: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Yield the weights under their names, then without common prefixes."""
    named = dict(weights)
    yield named
    while prefix := _common_prefix(named):
        named = {name.removeprefix(prefix): value for name, value in named.items()}
        yield named


def _common_prefix(names: Mapping[str, Tensor]) -> str | None:
    return next((part for part in _PREFIXES if all(name.startswith(part) for name in names)), None)


def _differences(
    weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> dict[str, list[str]]:
    """List the names in which weights and network differ; empty if they fit."""
    shapes = {
        name: (list(weights[name].shape), list(wanted[name].shape))
        for name, tensor in wanted.items()
        if name in weights and isinstance(tensor, Tensor) and not torch.nn.parameter.is_lazy(tensor)
    }
    lists = {
        "missing": [name for name in wanted if name not in weights],
        "unexpected": [name for name in weights if name not in wanted],
        "of another shape": [
            f"{name} {ours}, in the network {network}"
            for name, (ours, network) in shapes.items()
            if ours != network
        ],
        "of another type": [
            f"{name} {weights[name].dtype}, in the network {wanted[name].dtype}"
            for name in shapes
            if not _converts(weights[name], wanted[name])
        ],
    }
    return {how: names for how, names in lists.items() if names}


def _converts(given: Tensor, wanted: Tensor) -> bool:
    """Return whether `load_state_dict` converts a tensor without loss of meaning."""
    if given.layout != wanted.layout or (given.is_complex() and not wanted.is_complex()):
        return False
    return given.is_floating_point() or not wanted.is_floating_point()


def _several(path: Path, keys: list[str], what: str) -> str:
    return (
        f"{path} has several parts that {what}: {', '.join(keys)}; load it with "
        "torch.load(path, weights_only=True), and save only the one that you want with torch.save"
    )


def _some(names: Mapping[str, object] | list[str]) -> str:
    shown = [str(name) for name in list(names)[:_SHOWN]]
    return ", ".join(shown) + (", ..." if len(names) > _SHOWN else "")
