"""The training loop: a generator that yields after each step."""

import math
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from attar.answers import find_logits
from attar.data import Batch
from attar.errors import DivergedError
from attar.losses.checks import hard_cross_entropy
from attar.models import apply_max_norm, clip_members, count_stacked_members, member_norms
from attar.modes import frozen_layers, train_except
from attar.precision import Precision, autocast

LossFn = Callable[[Tensor, Batch], Tensor]  # logits, batch -> scalar loss


def hard_target_loss(logits: Tensor, batch: Batch) -> Tensor:
    """Return the mean cross-entropy with the hard targets; for a cohort, summed over members.

    An example without a hard target (-1) counts as 0.

    Raises:
        AttarError: If a hard target is out of range, or (ShapeError) shapes do not fit.
    """
    if logits.ndim == 2:
        return hard_cross_entropy(logits, batch.hard_targets).mean()
    wide = batch.hard_targets.expand(len(logits), -1)  # [members, batch]
    return hard_cross_entropy(logits, wide).mean(dim=1).sum()


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
    frozen: Collection[nn.Module] | None = None,
) -> Iterator[float]:
    """Update the network once per batch, and yield the loss of each batch.

    The learning rate is that of the optimizer's groups, which the caller may change between steps.
    Weights of `attar.models.MaxNormLinear` layers are projected after each update. Batches are
    moved to the network's device. If the network is in training mode, layers in evaluation mode
    stay frozen: batch normalization keeps its statistics.

    Args:
        network: Maps inputs `[batch, ...]` to logits `[batch, classes]`, or to an output in which
            `attar.answers.find_logits` finds them.
        batches: The batches, in order.
        loss_fn: Logits and batch -> the scalar to minimize; logits are float32 or float64.
        optimizer: Optimizer of the network's parameters.
        step_seed: Number of a step -> seed of torch's default generator (for dropout).
        first_step: Number of the first batch.
        clip_norm: Longest allowed gradient, of a cohort each member's; None for no bound.
        precision: `auto` multiplies in bfloat16 where the processor is quick at it.
        frozen: Layers that stay in evaluation mode; by default those that are in it now, in a
            network that is not in it as a whole.

    Raises:
        DataError: If the network's output has no logits.
        DivergedError: If a loss or a gradient is not finite; the weights are then those before the
            step.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    members = count_stacked_members(network)
    frozen = frozen_layers(network) if frozen is None else frozen
    device = parameters[0].device if parameters else torch.device("cpu")
    name = f"the network {type(network).__name__}"
    for step, batch in enumerate((batch.to(device) for batch in batches), start=first_step):
        train_except(network, frozen)  # the caller may have changed the mode
        with _default_generators(step_seed(step), device):
            with autocast(network, precision):
                logits = find_logits(network(batch.inputs), name)
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
def _default_generators(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the default generators of the CPU and the device for the body, then restore them.

    `torch.manual_seed` seeds all backends, which takes 40 times as long as the CPU alone.
    """
    generators = [torch.default_generator]
    if device.type == "cuda":
        place = torch.cuda.current_device() if device.index is None else device.index
        generators.append(torch.cuda.default_generators[place])
    before = [generator.get_state() for generator in generators]
    for generator in generators:
        generator.manual_seed(seed)
    try:
        yield
    finally:
        for generator, state in zip(generators, before, strict=True):
            generator.set_state(state)


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
