"""Files of named tensors that notice damage: `safetensors` with a checksum.

A file that attar writes has two entries in its metadata: `attar`, a JSON object of `kind`,
`version` and whatever else describes the content, and `sha256`, a checksum of that text and of each
tensor's name, type, shape and bytes, in the order of the names. A file with one of the two entries
and not the other is damaged. docs/format.md specifies this.
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
    header: dict[str, Any] | None  # None of a file that attar did not write
    metadata: dict[str, str]  # as it stands in the file


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], *, kind: str, version: int, **header: object
) -> None:
    """Write tensors to `path`, atomically, with a checksum.

    Args:
        path: The file.
        tensors: By name; may share memory, which is then stored once for each name.
        kind: What the file is, such as "weights".
        version: Of that kind's format.
        header: More that describes the content; what JSON can hold.

    Raises:
        FolderError: If the file cannot be written; what it held before is then unharmed.
    """
    plain = _separate(tensors)
    text = json.dumps({"kind": kind, "version": version, **header})
    metadata = {"format": "pt", _HEADER: text, _CHECKSUM: _checksum(plain, text)}
    with replacing(path) as temporary:
        try:
            safetensors.torch.save_file(plain, temporary, metadata=metadata)
        except safetensors.SafetensorError as error:
            raise _system_error(error) from error
        _sort_metadata(temporary)


def read_tensors(path: Path, *, kind: str, version: int, foreign: bool = False) -> TensorFile:
    """Read a file that `write_tensors` wrote, and check it.

    Args:
        path: The file.
        kind: What it has to be.
        version: The newest version of that kind that this release reads.
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
        raise FolderError(f"{path} is damaged or no safetensors file ({reason})") from error
    if _HEADER not in metadata and _CHECKSUM not in metadata:
        if foreign:
            return TensorFile(tensors, None, metadata)
        raise FolderError(f"{path} is not a file of attar's {kind}: it has no header and checksum")
    text = metadata.get(_HEADER, "")
    if metadata.get(_CHECKSUM) != _checksum(tensors, text):
        raise FolderError(f"{path} is damaged: its checksum does not match its content")
    header: dict[str, Any] = json.loads(text)
    if header["kind"] != kind:
        raise FolderError(f"expected {path} to hold {kind}, got {header['kind']}")
    if header["version"] > version:
        raise FolderError(
            f"{path} has format {header['version']} of {kind}, this release reads up to {version}; "
            "install a newer attar"
        )
    return TensorFile(tensors, header, metadata)


def _system_error(error: safetensors.SafetensorError) -> OSError:
    """Return the error of the system that one of `safetensors` tells of in its text."""
    found = re.search(r"\(os error (\d+)\)", str(error))
    if found is None:
        return OSError(str(error))
    return OSError(int(found[1]), os.strerror(int(found[1])))


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors on the CPU, contiguous; those that share memory with another as copies."""
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
    """Put the metadata in the order of its keys: `safetensors` writes them in any order."""
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
