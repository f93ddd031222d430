"""What an encoding costs, measured while the teacher's logits are at hand."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from attar.losses import DenseTargets, SoftTargetBatch, to_probabilities
from attar.targets.encoding import Encoding, decode, encode
from attar.targets.manifest import Measured, Shard

TEMPERATURES = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0, 20.0)
_MOST_LOGITS, _ROWS_PER_SAMPLE = 2**19, 256


def sample_rows(shard: Shard, classes: int) -> list[int]:
    """Choose the rows of a shard that are measured: one in 256, one at least, ascending."""
    rows = shard.stop - shard.start
    count = max(1, min(rows // _ROWS_PER_SAMPLE, _MOST_LOGITS // classes))
    generator = np.random.Generator(np.random.Philox(key=[0, shard.number]))
    return sorted(generator.choice(rows, size=count, replace=False).tolist())


def measure(
    logits: Float[Tensor, "rows classes"],
    encoding: Encoding,
    temperatures: tuple[float, ...] = TEMPERATURES,
) -> Measured:
    """Compare the teacher's soft targets with those that a reader of the store gets."""
    generator = np.random.Generator(np.random.Philox(key=[0, 0]))
    stored = decode(encode(logits, encoding, generator), encoding, logits.shape[-1])
    found = [_compare(logits.double(), stored, temperature) for temperature in temperatures]
    entropy, tail_error, error, lost = zip(*found, strict=True)
    return Measured(len(logits), temperatures, entropy, tail_error, error, lost)


def _compare(
    logits: Tensor, stored: SoftTargetBatch, temperature: float
) -> tuple[float, float, float, float]:
    log_p = torch.log_softmax(logits / temperature, dim=-1)  # [rows, classes]
    p = log_p.exp()
    if isinstance(stored, DenseTargets):
        log_kept = torch.log_softmax(stored.logits.double() / temperature, dim=-1)
        errors = (p - log_kept.exp()).abs().sum(-1) / 2  # [rows]
        tail_errors = torch.zeros_like(errors)
    else:
        kept = to_probabilities(stored, temperature=temperature)
        largest = stored.indices[:, : stored.largest]  # [rows, k]
        tail = p.scatter(-1, largest, 0.0).sum(-1)  # [rows]
        tail_errors = (tail - kept.tail).abs()
        errors = (p.gather(-1, largest) - kept.largest).abs().sum(-1) / 2 + tail_errors / 2
        log_evenly = kept.tail.double().log() - np.log(max(stored.tail_classes, 1))
        log_kept = (
            log_evenly[:, None].expand_as(p).scatter(-1, largest, kept.largest.double().log())
        )
    divergence = torch.where(p > 0, p * (log_p - log_kept), 0.0).sum(-1)
    entropy = -torch.where(p > 0, p * log_p, 0.0).sum(-1)
    lost = max(0.0, _rounded(divergence.mean()))
    return _rounded(entropy.mean()), _rounded(tail_errors.max()), _rounded(errors.max()), lost


def _rounded(value: Tensor) -> float:
    """Keep six digits: what follows them hangs on the processor."""
    return float(f"{value.item():.6g}")
