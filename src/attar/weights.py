"""Weights of networks in files: attar's own, other `safetensors`, and checkpoints of torch.

Of a torch checkpoint (`.pt`, `.pth`, `.pth.tar`, `.ckpt`, `.bin`) only tensors and plain values are
read, with `weights_only=True`; a file that needs more is refused.
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

# What wrappers put before every name: DataParallel, torch.compile, a module that holds the network.
_PREFIXES = ("module.", "model.", "_orig_mod.", "net.", "network.")
_DEEPEST = 3  # how far into a checkpoint its weights are looked for
_SHOWN = 3  # of the names in an error


def save_weights(path: Path, network: nn.Module) -> None:
    """Write a network's weights to a `safetensors` file with a checksum.

    Raises:
        AttarError: If the network's state holds something else than tensors.
        FolderError: If the file cannot be written.
    """
    state = network.state_dict()
    other = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if other:
        raise AttarError(
            f"expected tensors alone in the state of {type(network).__name__}, got "
            f"{_some(other)}; save the network before it is quantized"
        )
    write_tensors(path, state, kind=KIND, version=VERSION)


def load_weights(path: Path | str, network: nn.Module) -> None:
    """Put the weights of a file into a network; nothing is changed if they do not fit.

    The file is one of `save_weights`, another `safetensors` file, or a torch checkpoint. In a
    checkpoint of several parts the weights are the only part that fits the network. Where every
    name begins with `module.`, `model.`, `_orig_mod.`, `net.` or `network.`, as wrappers have it,
    and the names fit without it, it is left out.

    Raises:
        FolderError: If the file is damaged, holds no weights, or was made for another network.
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
            f"{path} does not hold this network's weights{where} ({'; '.join(lists)}); make the "
            "network with the settings that it was trained with"
        )
    (weights,) = fitting.values()
    network.load_state_dict(weights)


def read_weights(path: Path | str) -> dict[str, Tensor]:
    """Read the weights in a file, by name; see `load_weights` for which files.

    Raises:
        FolderError: If the file is damaged, or holds no weights, or several parts that may be them.
    """
    parts = _read_parts(Path(path))
    if len(parts) > 1:
        raise FolderError(_several(Path(path), list(parts), "may be weights"))
    (weights,) = parts.values()
    return weights


def _read_parts(path: Path) -> dict[str, dict[str, Tensor]]:
    """Return every set of tensors in a file; the key says where it stands, "" for the whole."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise file_error("read", path, error) from error
    # A safetensors file has 8 bytes of a length, then JSON. Torch writes a zip file, or, before
    # 1.6, pickles of protocol 2.
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
        raise FolderError(f"{path} holds no weights: it has no tensors")
    return {"": tensors}


def _read_checkpoint(path: Path) -> dict[str, dict[str, Tensor]]:
    try:
        with path.open("rb") as file:  # opened here, as torch goes by the name of a path
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
            f"{keys}; save them alone with torch.save(network.state_dict(), path)"
        )
    return parts


def _no_tensors(path: Path, what: str) -> FolderError:
    return FolderError(
        f"{path} holds Python objects beside tensors ({what}), which attar does not load; if you "
        "trust it, load it with torch.load(path, weights_only=False), and save the network's "
        'weights alone with torch.save(network.state_dict(), "weights.pth")'
    )


def _find_parts(content: object, place: str) -> Iterator[tuple[str, dict[str, Tensor]]]:
    if not isinstance(content, Mapping) or place.count(".") >= _DEEPEST:
        return
    if content and all(isinstance(value, Tensor) for value in content.values()):
        yield place.strip("."), {str(name): value for name, value in content.items()}
        return
    for key, value in content.items():
        if isinstance(key, str):  # not a number, as of a parameter in an optimizer's state
            yield from _find_parts(value, f"{place}{key}.")


def _names(weights: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Yield the weights as they are called, then without what all names begin with."""
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
    """List the names that keep weights from fitting a network; empty if they fit."""
    shapes = {
        name: (list(weights[name].shape), list(wanted[name].shape))
        for name, tensor in wanted.items()
        if name in weights and isinstance(tensor, Tensor) and not torch.nn.parameter.is_lazy(tensor)
    }
    lists = {
        "missing": [name for name in wanted if name not in weights],
        "unexpected": [name for name in weights if name not in wanted],
        "of another shape": [
            f"{name} {ours}, the network's is {network}"
            for name, (ours, network) in shapes.items()
            if ours != network
        ],
        "of another kind of numbers": [
            f"{name} {weights[name].dtype}, the network's is {wanted[name].dtype}"
            for name in shapes
            if not _converts(weights[name], wanted[name])
        ],
    }
    return {how: names for how, names in lists.items() if names}


def _converts(given: Tensor, wanted: Tensor) -> bool:
    """Tell whether `load_state_dict` converts a tensor without changing what it means."""
    if given.layout != wanted.layout or (given.is_complex() and not wanted.is_complex()):
        return False
    return given.is_floating_point() or not wanted.is_floating_point()


def _several(path: Path, keys: list[str], what: str) -> str:
    return (
        f"{path} has several parts that {what}: {', '.join(keys)}; load it with "
        "torch.load(path, weights_only=True), and save the one that you want alone with torch.save"
    )


def _some(names: Mapping[str, object] | list[str]) -> str:
    shown = [str(name) for name in list(names)[:_SHOWN]]
    return ", ".join(shown) + (", ..." if len(names) > _SHOWN else "")
