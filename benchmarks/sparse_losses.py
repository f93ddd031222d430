"""What sparse soft targets cost and tell a student, against the dense loss: part of targets.py."""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from made_logits import TEMPERATURES, Table, encoded, make_logits
from torch import Tensor
from torch.nn.functional import cosine_similarity

from attar.losses import (
    SparseTargets,
    soft_cross_entropy,
    soft_cross_entropy_with_teacher_logits,
    sparse_soft_cross_entropy,
    to_probabilities,
)
from attar.targets import Sparse
from attar.targets.encoding import decode, encode


def gradients(rows: int = 8, classes: int = 15_000) -> Table:
    """Compare gradients by the student's logits with the dense loss's: mean cosine, and the loss.

    The student is the teacher with noise of a third, or one that knows nothing yet. "batch" is the
    cosine of gradients summed over 512 draws of the same example: what averaging leaves.
    """
    table: Table = {}
    for kind in ("peaked", "Zipf", "flat"):
        v = make_logits(kind, rows, classes)
        noise = make_logits("flat", rows, classes, seed=1)
        for stage, z in (("untrained", 0.1 * noise), ("trained", v + noise / 3)):
            for k in (8, 32, 128):
                kept = {"tail": encoded(v, k=k), "draws": encoded(v, k=k // 2, draws=k // 2)}
                row = table[f"{kind}, {stage}, k = {k}"] = {}
                for temperature in TEMPERATURES:
                    dense, loss = gradient(
                        soft_cross_entropy_with_teacher_logits, z, v, temperature
                    )
                    for name, targets in kept.items():
                        got, value = gradient(sparse_soft_cross_entropy, z, targets, temperature)
                        cosine = cosine_similarity(got, dense, dim=-1).mean().item()
                        row[f"{name} T={temperature:g}"] = cosine
                        row[f"{name} loss T={temperature:g}"] = (value / loss - 1).mean().item()
    return table


def averaged_draws(classes: int = 15_000, repeats: int = 512) -> Table:
    """Average the gradients of many draws of one example, at a trained student."""
    table: Table = {}
    for kind in ("peaked", "Zipf"):
        v, noise = make_logits(kind, 1, classes), make_logits("flat", 1, classes, seed=1)
        z = v + noise / 3
        for k in (32, 128):
            encoding = Sparse(k=k // 2, draws=k // 2, draw_temperature=2.0)
            generator, row = np.random.default_rng(0), {}
            every = [
                decode(encode(v, encoding, generator), encoding, classes) for _ in range(repeats)
            ]
            for temperature in (1.0, 2.0, 5.0):
                dense, _ = gradient(soft_cross_entropy_with_teacher_logits, z, v, temperature)
                mean = torch.zeros_like(dense)
                for targets in every:
                    mean += gradient(sparse_soft_cross_entropy, z, targets, temperature)[0]
                row[f"T={temperature:g}"] = cosine_similarity(mean, dense, dim=-1).item()
            table[f"{kind}, k = {k}, mean of {repeats}"] = row
    return table


def gradient(
    loss_fn: Callable[..., Tensor], z: Tensor, *arguments: object
) -> tuple[Tensor, Tensor]:
    """Return the gradient by the student's logits, and the loss."""
    *given, temperature = arguments
    z = z.clone().requires_grad_()
    loss = loss_fn(z, *given, temperature=temperature)
    loss.sum().backward()
    return z.grad, loss.detach()


def loss_costs(rows: int = 256, classes: int = 15_000, pairs: int = 15) -> dict[str, float]:
    """Time dense and sparse loss in turn, forward and backward, and measure their memory."""
    v = make_logits("peaked", rows, classes)
    targets, z = encoded(v, k=32), make_logits("flat", rows, classes, seed=1)
    teacher = v.clone()
    results = {}
    actions = {
        "dense": (soft_cross_entropy_with_teacher_logits, teacher),
        "sparse": (sparse_soft_cross_entropy, targets),
    }
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(pairs):
        for name, (loss_fn, given) in actions.items():
            start = time.process_time()
            gradient_of(loss_fn, z, given)
            times[name].append(time.process_time() - start)
    ratios = [d / s for d, s in zip(times["dense"], times["sparse"], strict=True)]
    results["dense time / sparse time"] = statistics.median(ratios)
    peaks = {name: peak_bytes(fn, z, given) for name, (fn, given) in actions.items()}
    matrix = rows * classes * 4
    peaks["dense"] += matrix  # the teacher's logits, which only the dense loss needs
    results |= {f"{name} memory, matrices": peak / matrix for name, peak in peaks.items()}
    results["dense memory / sparse memory"] = peaks["dense"] / peaks["sparse"]
    for temperature in (1.0, 2.0, 5.0):
        (dense, _), (sparse, _) = (
            gradient(fn, z, given, temperature) for fn, given in actions.values()
        )
        known = rebuild(targets, z, temperature)  # what a dense loss can know of this store
        same, _ = gradient(soft_cross_entropy, z, known, temperature)
        for name, other in (("teacher's logits", dense), ("same soft targets", same)):
            cosines = cosine_similarity(sparse, other, -1)
            results[f"T = {temperature:g}, {name}: mean cosine"] = cosines.mean().item()
            results[f"T = {temperature:g}, {name}: lowest"] = cosines.min().item()
    return results


def rebuild(targets: SparseTargets, z: Tensor, temperature: float, power: float = 1.0) -> Tensor:
    """Make dense soft targets: the k largest, and the tail's mass shared out as the student's
    tail to some power is, 1 being what the sparse loss does and 0 an even share.
    """
    p = to_probabilities(targets, temperature=temperature)
    tail = (power * z / temperature).scatter(-1, targets.indices, -torch.inf).softmax(-1)
    return (p.tail.unsqueeze(-1) * tail).scatter(-1, targets.indices, p.largest)


def ceilings(rows: int = 8, classes: int = 15_000, k: int = 32) -> Table:
    """Find the best cosine with the true gradient that any share of the tail by the student has.

    The power is chosen for each row and temperature by looking at the teacher's whole logits: no
    loss that knows the store alone could do better in this family.
    """
    table: Table = {}
    for kind in ("peaked", "Zipf", "flat"):
        v = make_logits(kind, rows, classes)
        noise, targets = make_logits("flat", rows, classes, seed=1), encoded(v, k=k)
        for stage, z in (("untrained", 0.1 * noise), ("trained", v + noise / 3)):
            row = table[f"{kind}, {stage}, k = {k}"] = {}
            for temperature in TEMPERATURES:
                q = (z / temperature).softmax(-1)
                true = q - (v / temperature).softmax(-1)
                cosines = torch.stack(
                    [
                        cosine_similarity(q - rebuild(targets, z, temperature, power), true, -1)
                        for power in torch.linspace(0, 1.5, 31).tolist()
                    ]
                )
                row[f"T={temperature:g}"] = cosines.amax(0).mean().item()
    return table


def gradient_of(loss_fn: Callable[..., Tensor], z: Tensor, given: object) -> None:
    """Run forward and backward at T = 2."""
    loss_fn(z.detach().requires_grad_(), given, temperature=2.0).mean().backward()


def peak_bytes(loss_fn: Callable[..., Tensor], z: Tensor, given: object) -> int:
    """Return the most memory that tensors made by a loss take at once, gradient included."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        gradient_of(loss_fn, z, given)
    now = peak = 0
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return peak
