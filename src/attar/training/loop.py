"""The training loop: a generator, so that what happens between steps belongs to the caller."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from attar.data import Batch
from attar.errors import DivergedError
from attar.models import apply_max_norm, clip_members, count_stacked_members, member_norms
from attar.precision import Precision, autocast

LossFn = Callable[[Tensor, Batch], Tensor]  # logits, batch -> scalar loss


def hard_target_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Return the mean cross-entropy with the hard targets; of a cohort, summed over its members."""
    if logits.ndim == 2:
        return nn.functional.cross_entropy(logits, batch.hard_targets)
    wide = batch.hard_targets.expand(len(logits), -1)  # [members, batch]
    losses = nn.functional.cross_entropy(logits.transpose(1, 2), wide, reduction="none")
    return losses.mean(dim=1).sum()


def fit(
    network: nn.Module,
    batches: Iterable[Batch],
    loss_fn: LossFn,
    optimizer: torch.optim.Optimizer,
    *,
    step_seed: Callable[[int], int],
    first_step: int = 1,
    clip_norm: float | None = None,
    precision: Precision = "auto",
) -> Iterator[float]:
    """Update the network once for each batch, and yield that batch's loss.

    The learning rate is what stands in the optimizer's groups; the caller may change it between
    steps. Weights of `attar.models.MaxNormLinear` layers are projected after each update.

    Args:
        network: Maps inputs `[batch, ...]` to logits `[batch, classes]`.
        batches: What to train on, in order.
        loss_fn: Logits and batch -> the scalar to be minimised; logits are float32 or float64.
        optimizer: Of the network's parameters.
        step_seed: Number of a step -> seed of torch's default generator in it (for dropout).
        first_step: Number of the first batch.
        clip_norm: Longest allowed gradient, of a cohort each member's; None for no bound.
        precision: `auto` multiplies in bfloat16 where the processor is quick at it.

    Raises:
        DivergedError: If a loss or a gradient is not finite; the weights are then as they were
            before that step.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    members = count_stacked_members(network)
    for step, batch in enumerate(batches, start=first_step):
        network.train()  # the caller may have evaluated since
        with _default_generator(step_seed(step)):
            with autocast(network, precision):
                logits = network(batch.inputs)
            loss = loss_fn(logits if logits.dtype == torch.float64 else logits.float(), batch)
            optimizer.zero_grad()
            loss.backward()
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        norms = (
            nn.utils.get_total_norm(gradients)[None] if members is None else member_norms(gradients)
        )
        _check_finite(step, loss.item(), norms.tolist(), optimizer)
        if clip_norm is not None and members:
            clip_members(gradients, clip_norm=clip_norm, norms=norms)
        elif clip_norm is not None:
            nn.utils.clip_grads_with_norm_(parameters, clip_norm, norms[0])
        optimizer.step()
        apply_max_norm(network)
        yield loss.item()


@contextmanager
def _default_generator(seed: int) -> Iterator[None]:
    """Seed torch's default generators for the body, and give the CPU's back as it was."""
    before = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)


def _check_finite(
    step: int, loss: float, gradient_norms: list[float], optimizer: torch.optim.Optimizer
) -> None:
    wrong = [member for member, norm in enumerate(gradient_norms) if not math.isfinite(norm)]
    if math.isfinite(loss) and not wrong:
        return
    if math.isfinite(loss):
        what = f"gradient's norm is {gradient_norms[wrong[0]]}"
    else:
        what = f"loss is {loss}"
    whose = f" of member {wrong[0]}" if wrong and len(gradient_norms) > 1 else ""
    rate = optimizer.param_groups[0]["lr"]
    found = f"step {step}: the {what}{whose} at learning rate {rate:.3g}, expected a finite number"
    raise DivergedError(f"{found}; try a lower learning rate, warm-up epochs or clip_norm")
