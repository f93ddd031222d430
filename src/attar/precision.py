"""Number formats and memory settings for fast training on a CPU."""

import ctypes
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Literal

import torch
from torch import nn

from attar.errors import AttarError

Precision = Literal["auto", "float32", "bfloat16"]
VARIABLE = "ATTAR_PRECISION"  # environment variable: the precision of "auto"

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)


@cache
def cpu_multiplies_bfloat16() -> bool:
    """Return whether this processor has instructions for bfloat16 matrix products."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    if capabilities:
        names = ("avx512_bf16", "amx_bf16", "amx_tile", "arm_bf16", "bf16")
        return any(capabilities.get(name, False) for name in names)
    older = [
        getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile")
    ]
    return any(supported() for supported in older if supported is not None)


def resolve_precision(network: nn.Module, precision: Precision) -> Precision:
    """Return the precision of a network, `float32` or `bfloat16`, resolving `auto`."""
    first = next(network.parameters(), None)
    device = torch.device("cpu") if first is None else first.device
    return auto_precision(device) if precision == "auto" else precision


def auto_precision(device: torch.device) -> Precision:
    """Return the precision that `auto` selects on a device.

    This is the value of the environment variable `ATTAR_PRECISION`, if set; else bfloat16 if the
    device has fast bfloat16 products, and float32 otherwise.

    Raises:
        AttarError: If the variable has another value.
    """
    wanted = os.environ.get(VARIABLE, "auto")
    if wanted == "float32":
        return "float32"
    if wanted == "bfloat16":
        return "bfloat16"
    if wanted != "auto":
        raise AttarError(
            f"expected the environment variable {VARIABLE} to be auto, float32 or bfloat16, "
            f"got {wanted!r}; unset it"
        )
    is_slow = device.type == "cpu" and not cpu_multiplies_bfloat16()
    return "float32" if is_slow else "bfloat16"


def autocast(network: nn.Module, precision: Precision) -> AbstractContextManager[object]:
    """Return the autocast context for a network's matrix products.

    Weights stay float32. Networks with weights of other types run without autocast. For `auto` see
    `resolve_precision`.
    """
    first = next(network.parameters(), None)
    if first is None or first.dtype != torch.float32:
        return nullcontext()
    if resolve_precision(network, precision) == "float32":
        return nullcontext()
    return torch.autocast(first.device.type, torch.bfloat16)


def keep_freed_memory() -> None:
    """Ask the C library to keep the memory of large tensors that are freed, for the next ones.

    Every step frees and allocates the same few tensors. With its default settings glibc returns
    each of them to the system and asks for new pages, which the system fills with zeros: up to a
    quarter of a training step on a CPU. Elsewhere than on glibc, and where the user has set
    `MALLOC_...` variables, this does nothing.
    """
    if not sys.platform.startswith("linux") or any(key.startswith("MALLOC_") for key in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # not glibc
        return
    mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # the largest that every glibc takes
    mallopt(_M_TRIM_THRESHOLD, 256 << 20)
