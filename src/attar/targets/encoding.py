"""How logits become the columns of a shard, and columns soft targets; see docs/format.md."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from pydantic import TypeAdapter
from torch import Tensor

from attar.errors import AttarError, StoreError
from attar.losses import DenseTargets, SoftTargetBatch, SparseTargets

Columns = dict[str, NDArray[Any]]  # name -> [rows, width]
LARGEST_FLOAT16 = 65504.0
BETAS = (1 / 8, 1 / 4, 1 / 2, 1.0)
_GROUP = 16  # classes of which only the largest is looked at first
_BLOCK = 2**18  # logits that fit into a processor's cache, twice
_MOST_ADDENDS = 2048  # of a dot product: from 10,000 BLAS may share it out to threads


@dataclass(frozen=True, slots=True)
class Dense:
    """Every class: 2 bytes each."""


@dataclass(frozen=True, slots=True)
class Sparse:
    """The k largest classes and the tail; with 32 of 14,000 classes, 154 bytes an example.

    Args:
        k: How many classes are written out; with all of them there is no tail.
        betas: Where the tail is measured: 1/T, ascending, ending in 1. The tail is exact there.
        draws: How many classes are drawn from the tail besides, with replacement. They make the
            loss's gradient right on average, at the price of noise.
        draw_temperature: At which they are drawn; 1 over it is one of the betas.
        seed: What the draws are seeded with.

    Raises:
        AttarError: If an argument is out of range.
    """

    k: int
    betas: tuple[float, ...] = BETAS
    draws: int = 0
    draw_temperature: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.k < 0 or self.draws < 0 or self.k + self.draws < 1:
            raise AttarError(f"expected k >= 1, or draws, got k {self.k}, draws {self.draws}")
        betas = self.betas
        if not betas or betas[0] <= 0 or betas[-1] != 1 or list(betas) != sorted(set(betas)):
            raise AttarError(f"expected betas above 0, ascending, the last one 1, got {betas}")
        temperature = self.draw_temperature
        if self.draws and (temperature <= 0 or 1 / temperature not in betas):
            found = f"expected 1 / draw_temperature among the betas {betas}"
            raise AttarError(f"{found}, got draw_temperature {self.draw_temperature}")
        if not 0 <= self.seed < 2**63:
            raise AttarError(f"expected a seed in 0..2**63 - 1, got {self.seed}")


Encoding = Dense | Sparse


def layout(encoding: Encoding, classes: int) -> dict[str, tuple[np.dtype[Any], int]]:
    """Return type and width of each column, in the order in which they are stored."""
    half, single = np.dtype("<f2"), np.dtype("<f4")
    if isinstance(encoding, Dense):
        return {"logits": (half, classes)}
    width = encoding.k + encoding.draws
    index = np.dtype("<u2") if classes <= 2**16 else np.dtype("<u4")
    columns: dict[str, tuple[np.dtype[Any], int]] = {
        "index": (index, width),
        "logit": (half, width),
    }
    if encoding.k < classes:
        columns["tail"] = (single, len(encoding.betas))
        columns["tail_slope"] = (half, len(encoding.betas) + 1)
    return columns


def row_bytes(encoding: Encoding, classes: int) -> int:
    """Return how many bytes one example takes."""
    return sum(kind.itemsize * width for kind, width in layout(encoding, classes).values())


def check_encoding(encoding: Encoding, classes: int) -> None:
    """Raise `AttarError` if the encoding asks for more classes than there are."""
    if isinstance(encoding, Sparse) and encoding.k > classes:
        raise AttarError(f"expected k of at most {classes} classes, got {encoding.k}; use Dense()")
    if isinstance(encoding, Sparse) and encoding.k == classes and encoding.draws:
        raise AttarError(f"expected no draws where k is all {classes} classes: no tail is left")


def encode(
    logits: Float[Tensor, "rows classes"], encoding: Encoding, generator: np.random.Generator
) -> Columns:
    """Turn logits, all finite, into the columns of a shard; the generator is for the draws."""
    v = logits.detach().cpu()
    v = v.to(torch.promote_types(v.dtype, torch.float32))
    if isinstance(encoding, Dense):
        # A softmax sees only differences; float16 has most at 0.
        return {"logits": _half(v - v.amax(dim=-1, keepdim=True))}
    classes, k = v.shape[-1], encoding.k
    top, index = _find_largest(v, min(k + 1, classes))
    largest = top[:, :1]
    index, logit, columns = index[:, :k], top[:, :k] - largest, {}
    if k < classes:
        below = top[:, k:]  # [rows, 1], the tail's largest
        columns = _measure_tail(v, index, below, largest, encoding.betas)
    if encoding.draws:
        drawn = _draw(v, index, encoding, generator)
        logit = torch.cat([logit, v.gather(-1, drawn) - largest], -1)
        index = torch.cat([index, drawn], -1)
    index_type = layout(encoding, classes)["index"][0]
    return {"index": index.numpy().astype(index_type), "logit": _half(logit), **columns}


def decode(
    columns: Mapping[str, NDArray[Any]], encoding: Encoding, classes: int
) -> SoftTargetBatch:
    """Turn columns, or some of their rows, into soft targets."""
    floats = {name: _to_float32(column) for name, column in columns.items() if name != "index"}
    if isinstance(encoding, Dense):
        return DenseTargets(floats["logits"])
    none = floats["logit"].new_empty((*floats["logit"].shape[:-1], 0))
    return SparseTargets(
        indices=torch.from_numpy(columns["index"].astype(np.int64)),
        logits=floats["logit"],
        tail=floats.get("tail", none),
        tail_slopes=floats.get("tail_slope", none),
        betas=encoding.betas if "tail" in columns else (),
        classes=classes,
        draws=encoding.draws,
        draw_temperature=encoding.draw_temperature,
    )


def encoding_to_json(encoding: Encoding) -> dict[str, Any]:
    """Return what the manifest says of an encoding."""
    if isinstance(encoding, Dense):
        return {"kind": "dense"}
    sparse: dict[str, Any] = {"kind": "sparse", "k": encoding.k, "betas": list(encoding.betas)}
    if encoding.draws:
        sparse["draws"] = encoding.draws
        sparse["draw_temperature"] = encoding.draw_temperature
        sparse["seed"] = encoding.seed
    return sparse


def encoding_from_json(content: object) -> Encoding:
    """Read the encoding in a manifest; raise `ValueError` if this release does not support it."""
    fields = dict(content) if isinstance(content, dict) else {}
    kind = fields.pop("kind", None)
    if kind == "dense":
        return Dense()
    if kind != "sparse":
        raise StoreError(f"expected encoding dense or sparse, got {kind!r}; is attar too old?")
    unknown = fields.keys() - Sparse.__dataclass_fields__.keys()
    if unknown:
        raise StoreError(f"sparse encoding with unknown {min(unknown)!r}; is attar too old?")
    return TypeAdapter(Sparse).validate_json(json.dumps(fields), strict=True)


def _find_largest(v: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the largest logits of each row, largest first, and their classes.

    Classes are dealt out to groups first. The `count` groups with the largest maxima hold all that
    is looked for, so that few classes are left to be sorted.
    """
    rows, classes = v.shape
    groups = classes // _GROUP
    if groups < 8 * count:
        found = torch.topk(v, count, dim=-1)
        return found.values, found.indices
    dealt = v[:, : groups * _GROUP].reshape(rows, _GROUP, groups)
    chosen = _place_largest(dealt.amax(1), count)  # [rows, count]
    members = (chosen.unsqueeze(1) + groups * torch.arange(_GROUP)[:, None]).flatten(1)
    rest = torch.arange(groups * _GROUP, classes).expand(rows, -1)
    candidates = torch.cat([members, rest], dim=-1)
    of_candidates = v.gather(-1, candidates)
    places = _place_largest(of_candidates, count)
    values, order = of_candidates.gather(-1, places).sort(dim=-1, descending=True)
    return values, candidates.gather(-1, places.gather(-1, order))


def _place_largest(values: Tensor, count: int) -> Tensor:
    """Return where the `count` largest of each row are, in any order, in half of topk's time."""
    places = np.argpartition(values.numpy(), -count, axis=-1)[:, -count:]
    return torch.from_numpy(places)


def _measure_tail(
    v: Tensor, top: Tensor, below: Tensor, largest: Tensor, betas: tuple[float, ...]
) -> Columns:
    """Return the tail's log-sum-exp at each β, and its slope there and at β = 0.

    Args:
        v: Logits `[rows, classes]`.
        top: Which classes are not in the tail, `[rows, k]`.
        below: The largest logit in the tail, `[rows, 1]`.
        largest: The largest of all, `[rows, 1]`.
        betas: Ascending.
    """
    rows = max(1, _BLOCK // v.shape[-1])
    parts = zip(v.split(rows), top.split(rows), below.split(rows), strict=True)
    sums = -(-v.shape[-1] // _MOST_ADDENDS)
    width = -(-v.shape[-1] // sums)
    scratch = torch.zeros(2, min(rows, len(v)), sums, width, dtype=v.dtype)
    found = (_measure_block(*part, betas, scratch[:, : len(part[0])]) for part in parts)
    values, slopes = zip(*found, strict=True)
    below = below - largest
    value = torch.cat(values) + below * torch.tensor(betas, dtype=v.dtype)  # [rows, betas]
    slope = torch.cat(slopes) + below  # [rows, betas + 1]
    return {"tail": value.float().numpy(), "tail_slope": _half(slope)}


def _measure_block(
    v: Tensor, top: Tensor, below: Tensor, betas: tuple[float, ...], scratch: Tensor
) -> tuple[Tensor, Tensor]:
    """Return values and slopes, relative to the tail's largest, of as many rows as a cache holds.

    The scratch, `[2, rows, sums, width]`, is one for all blocks, so that it stays in the cache; it
    is 0 beyond the classes. Sums are NumPy's, of so few numbers each that a row is rounded in the
    same way whatever the number of rows and threads.
    """
    classes, last = v.shape[-1], 0.0
    u, power = scratch.flatten(2)[..., :classes]  # [rows, classes] each
    u_sums, power_sums = scratch.numpy()  # [rows, sums, width], the same memory
    ones = np.ones(u_sums.shape[-1], u_sums.dtype)
    torch.sub(v, below, out=u).scatter_(-1, top, 0.0)  # 0 outside the tail
    values, slopes = [], [np.vecdot(u_sums, ones).sum(-1) / (classes - top.shape[-1])]
    for beta in betas:
        if beta == 2 * last:  # with betas that double, one exponential does for all of them
            power.mul_(power)
        else:
            torch.mul(u, beta, out=power).exp_().scatter_(-1, top, 0.0)
        total, last = np.vecdot(power_sums, ones).sum(-1), beta
        values.append(np.log(total))
        slopes.append(np.vecdot(power_sums, u_sums).sum(-1) / total)
    return torch.from_numpy(np.stack(values, -1)), torch.from_numpy(np.stack(slopes, -1))


def _draw(v: Tensor, top: Tensor, encoding: Sparse, generator: np.random.Generator) -> Tensor:
    """Draw classes from each row's tail by inverting the cumulative distribution."""
    p = torch.softmax(v.double() / encoding.draw_temperature, dim=-1).scatter_(-1, top, 0.0)
    cumulative = p.cumsum(-1)  # [rows, classes]
    uniform = torch.from_numpy(generator.random((len(v), encoding.draws)))
    drawn = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
    # Rounding may lead past the last class that has a probability; the largest one has some.
    impossible = (drawn >= v.shape[-1]) | (p.gather(-1, drawn.clamp(max=v.shape[-1] - 1)) == 0)
    return torch.where(impossible, p.argmax(-1, keepdim=True), drawn)


def _half(values: Tensor) -> NDArray[Any]:
    return values.clamp(min=-LARGEST_FLOAT16).half().numpy()


def _to_float32(column: NDArray[Any]) -> Tensor:
    return torch.from_numpy(column).float()
