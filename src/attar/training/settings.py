"""How a network is trained: a frozen record, and the optimizer and schedule it stands for."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from torch import nn, optim

from attar.errors import AttarError, check_not_negative, check_positive
from attar.precision import Precision

OptimizerName = Literal["sgd", "adamw"]
ScheduleName = Literal["constant", "linear", "cosine"]

# Progress through the run, from 0 to 1 -> factor on the learning rate.
SCHEDULES: dict[ScheduleName, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """Everything that decides how a network is trained, but its data and its loss."""

    epochs: int
    batch_size: int
    learning_rate: float  # at its highest
    seed: int  # of the order of examples, the views and the dropout; not of the first weights
    optimizer: OptimizerName = "sgd"  # sgd has Nesterov momentum
    momentum: float = 0.9  # of sgd
    weight_decay: float = 0.0
    schedule: ScheduleName = "cosine"
    warmup_epochs: float = 0.0  # the learning rate climbs from zero in a straight line
    clip_norm: float | None = None  # longest allowed gradient
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        """Check every field once, here at the door."""
        check_positive(
            epochs=self.epochs, batch_size=self.batch_size, learning_rate=self.learning_rate
        )
        check_not_negative(
            seed=self.seed, weight_decay=self.weight_decay, warmup_epochs=self.warmup_epochs
        )
        if self.seed >= 2**63:
            raise AttarError(f"expected seed < 2**63, got {self.seed}")
        if self.clip_norm is not None:
            check_positive(clip_norm=self.clip_norm)
        if not 0 <= self.momentum < 1:
            raise AttarError(f"expected momentum in [0, 1), got {self.momentum}")
        check_one_of("optimizer", self.optimizer, get_args(OptimizerName))
        check_one_of("schedule", self.schedule, get_args(ScheduleName))
        check_one_of("precision", self.precision, get_args(Precision))

    def learning_rate_at(self, step: int, *, steps: int, steps_per_epoch: int) -> float:
        """Return the learning rate of a step, the first being number 0 of `steps`."""
        warmup_steps = self.warmup_epochs * steps_per_epoch
        warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
        return self.learning_rate * warmup * SCHEDULES[self.schedule](step / steps)

    def make_optimizer(self, parameters: Iterable[nn.Parameter]) -> optim.Optimizer:
        """Make the optimizer, in its fused form: one pass over the weights instead of several."""
        if self.optimizer == "sgd":
            return optim.SGD(
                parameters,
                lr=self.learning_rate,
                momentum=self.momentum,
                nesterov=self.momentum > 0,
                weight_decay=self.weight_decay,
                fused=True,
            )
        return optim.AdamW(
            parameters, lr=self.learning_rate, weight_decay=self.weight_decay, fused=True
        )


def make_settings(
    epochs: int, batch_size: int, learning_rate: float, optimizer: OptimizerName, seed: int
) -> TrainingSettings:
    """Return the settings of `attar.train`, `attar.distill` and whatever is held against them.

    The learning rate climbs for a tenth of the epochs, but no longer than one, then falls as a
    cosine.
    """
    return TrainingSettings(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        optimizer=optimizer,
        warmup_epochs=min(1.0, epochs / 10),
        seed=seed,
    )


def check_one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise `AttarError` unless the value of the option `name` is an allowed one."""
    if value not in allowed:
        raise AttarError(f"expected {name} to be one of {', '.join(allowed)}; got {value!r}")
