"""Teacher logits of several kinds, and their sparse form: shared by the parts of targets.py."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from attar.losses import SoftTargetBatch
from attar.targets import Sparse
from attar.targets.encoding import decode, encode

TEMPERATURES = (1.0, 2.0, 5.0, 10.0, 20.0)
Table = dict[str, dict[str, float]]


def make_logits(kind: str, rows: int, classes: int, seed: int = 0) -> Tensor:
    """Make a teacher's logits of one kind."""
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(rows, classes, generator=generator)
    first = min(64, classes // 2)
    if kind == "peaked":  # one class 15 above a spread of 2
        v = 2 * v
        v[:, 0] += 15
    elif kind == "Zipf":  # p of the r-th class about r^-1.5
        v = 0.3 * v - 1.5 * torch.arange(1, classes + 1).log()
    elif kind == "group":  # 64 confusable classes, 25 above the others
        v[:, :first] += 25
    elif kind == "wide":
        v = 6 * v
    else:
        assert kind == "flat"
    order = torch.rand(rows, classes, generator=generator).argsort(-1)
    return v.gather(-1, order)


def encoded(v: Tensor, **options: Any) -> SoftTargetBatch:  # noqa: ANN401
    """Encode and decode, as a store does."""
    encoding = Sparse(**options)
    return decode(encode(v, encoding, np.random.default_rng(0)), encoding, v.shape[-1])
