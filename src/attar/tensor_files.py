"""Files of named tensors: `safetensors` with a checksum.

Files written by attar have two entries in their metadata: `attar`, a JSON object with `kind`,
`version` and further descriptions of the content, and `sha256`, a checksum of that text and of each
tensor's name, type, shape and bytes, in the order of the names. A file with only one of the two
entries is damaged. docs/format.md specifies the format.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from attar.errors import FolderError, file_error
from attar.files import replacing

_HEADER, _CHECKSUM = "attar", "sha256"


@dataclass(frozen=True, slots=True)
class TensorFile:
    """The content of a file, checked."""

    tensors: dict[str, Tensor]
    header: dict[str, Any] | None  # None for files of other programs
    metadata: dict[str, str]  # as in the file


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], *, kind: str, version: int, **header: object
) -> None:
    """Write tensors to `path`, atomically, with a checksum.

    Args:
        path: The file.
        tensors: Tensors by name; shared memory is stored once per name.
        kind: Kind of the file, such as "weights".
        version: Format version of that kind.
        header: Further description of the content; JSON values.

    Raises:
        FolderError: If the file cannot be written; an earlier file is then unchanged.
    """
    plain = _separate(tensors)
    text = json.dumps({"kind": kind, "version": version, **header})
    metadata = {"format": "pt", _HEADER: text, _CHECKSUM: _checksum(plain, text)}
    with replacing(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # from the user's umask; safetensors sets 0600
        try:
            safetensors.torch.save_file(plain, temporary, metadata=metadata)
        except safetensors.SafetensorError as error:
            raise _system_error(error) from error
        temporary.chmod(mode)
        _sort_metadata(temporary)


def read_tensors(path: Path, *, kind: str, version: int, foreign: bool = False) -> TensorFile:
    """Read and check a file written by `write_tensors`.

    Args:
        path: The file.
        kind: The expected kind.
        version: The newest supported version of that kind.
        foreign: Accept `safetensors` files of other programs too, which have no checksum.

    Raises:
        FolderError: If the file cannot be read, is damaged, of another kind or of a newer version.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise file_error("read", path, error) from error
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise FolderError(f"{path} is damaged or is not a safetensors file ({reason})") from error
    if _HEADER not in metadata and _CHECKSUM not in metadata:
        if foreign:
            return TensorFile(tensors, None, metadata)
        raise FolderError(f"{path} is not an attar {kind} file: it has no header and checksum")
    text = metadata.get(_HEADER, "")
    if metadata.get(_CHECKSUM) != _checksum(tensors, text):
        raise FolderError(f"{path} is damaged: its checksum does not match its content")
    header: dict[str, Any] = json.loads(text)
    if header["kind"] != kind:
        raise FolderError(f"expected {path} to contain {kind}, got {header['kind']}")
    if header["version"] > version:
        raise FolderError(
            f"{path} has format {header['version']} of {kind}, but this release reads up to "
            f"{version}; install a newer attar"
        )
    return TensorFile(tensors, header, metadata)


def _system_error(error: safetensors.SafetensorError) -> OSError:
    """Return the system error that is named in the text of a `safetensors` error."""
    found = re.search(r"\(os error (\d+)\)", str(error))
    if found is None:
        return OSError(str(error))
    return OSError(int(found[1]), os.strerror(int(found[1])))


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return contiguous CPU tensors; tensors that share memory are copied."""
    plain: dict[str, Tensor] = {}
    taken: set[int] = set()
    for name, tensor in tensors.items():
        here = tensor.detach().cpu().contiguous()
        if here.untyped_storage().data_ptr() in taken:
            here = here.clone()
        taken.add(here.untyped_storage().data_ptr())
        plain[name] = here
    return plain


def _sort_metadata(path: Path) -> None:
    """Sort the metadata by key, because `safetensors` writes it in any order."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(text) <= size, "the same entries in another order"
        file.seek(8)
        file.write(text.ljust(size))


def _checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    sha256 = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        sha256.update(f"\n{name}\n{tensor.dtype} {list(tensor.shape)}\n".encode())
        sha256.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha256.hexdigest()
