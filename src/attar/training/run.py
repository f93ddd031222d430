"""A training run: epochs, views, learning rate, evaluations, checkpoints."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from attar.data import Batch, ExampleSet, cut, mix_seed, name_views
from attar.errors import AttarError, DataError, check_positive
from attar.files import remove_partials
from attar.modes import frozen_layers, warn_of_frozen
from attar.precision import Precision, keep_freed_memory, resolve_precision
from attar.teachers.fingerprints import hash_network, hash_value
from attar.teachers.hugging_face import as_network
from attar.training.checkpoints import load_checkpoint, move_state, save_checkpoint
from attar.training.loop import LossFn, fit
from attar.training.settings import TrainingSettings
from attar.training.sharing import Share

_ORDERS, _STEPS = 0, 1  # two streams of seeds
_SAVING_SHARE = 20  # time between checkpoints, relative to the time to write one

Measure = Callable[[nn.Module], dict[str, float]]


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the transfer set."""

    index: int  # from 1
    mean_loss: float  # over the epoch's steps
    learning_rate: float  # at its last step
    train_seconds: float  # time of its steps, without evaluation
    measurements: dict[str, float] | None = None  # if it was measured


@dataclass(frozen=True, slots=True)
class Step:
    """One update of the weights."""

    index: int  # from 1, over all epochs
    loss: float
    learning_rate: float
    epoch: Epoch | None = None  # the epoch that this step ends
    steps: int = 1  # of the whole run
    epochs: int = 1  # of the whole run
    precision: Precision = "float32"  # of the products: float32 or bfloat16

    @property
    def fraction(self) -> float:
        """Fraction of the run that is done."""
        return self.index / self.steps

    def __str__(self) -> str:
        """Return one line of progress."""
        number = -(-self.index * self.epochs // self.steps)  # rounded up
        return f"training · epoch {number} of {self.epochs} · loss {self.loss:.4g}"


class TrainingRun:
    """Trains a network when iterated over; yields each `Step`.

    Epoch number e shows view e of every example once, in a new order. Order, views and dropout are
    pure functions of the seed and the step number: a run that resumes from its checkpoint ends with
    the same weights, bit for bit, as an uninterrupted one.

    Example:
        >>> from attar import TransferSet, TrainingSettings, mlp
        >>> generator = torch.Generator().manual_seed(0)
        >>> inputs = torch.randn(64, 5, generator=generator)
        >>> data = TransferSet(inputs, (inputs[:, 0] > 0).long())
        >>> settings = TrainingSettings(epochs=20, batch_size=16, learning_rate=0.1, seed=0)
        >>> run = TrainingRun(
        ...     mlp(5, [8], 2, generator=generator),
        ...     data,
        ...     lambda logits, batch: nn.functional.cross_entropy(logits, batch.hard_targets),
        ...     settings,
        ... )
        >>> for step in run:
        ...     pass
        >>> run.history[-1].mean_loss < run.history[0].mean_loss
        True
    """

    def __init__(
        self,
        network: nn.Module,
        transfer_set: ExampleSet,
        loss_fn: LossFn,
        settings: TrainingSettings,
        *,
        checkpoint: Path | str | None = None,
        checkpoint_seconds: float = 20.0,
        identity: Mapping[str, str | float] | None = None,
        views: Sequence[int] | None = None,
        measure: Measure | None = None,
        measurements: int = 20,
        share: Share | None = None,
    ) -> None:
        """Prepare the run; resume from the checkpoint if it exists.

        Args:
            network: Maps inputs to logits, or is a classifier of `transformers`; trained in place.
            transfer_set: The examples.
            loss_fn: Logits and batch -> the scalar to minimize.
            settings: Epochs, learning rate, seed and so on.
            checkpoint: Checkpoint file, written periodically and at the end. A checkpoint with
                another initial network, loss, data, views or settings is refused, and the network
                is then unchanged.
            checkpoint_seconds: Minimum time between checkpoints. The time is longer for large
                checkpoints, so that writing takes at most 5 % of the time. 0 writes one after every
                step.
            identity: Further settings that affect the weights, by name; a checkpoint with other
                values is refused. An entry `loss` identifies the loss in place of its code and the
                values that it uses.
            views: Numbers of the views to show, one per epoch, in turn; by default epoch e shows
                view e if the set has views, else the plain examples.
            measure: Function that measures the network at the end of some epochs, including the
                last one.
            measurements: Approximate number of measurements.
            share: The part of each batch for this process, if several processes train the network;
                by default all of it.

        Raises:
            AttarError: If `measurements` is not positive, `views` is empty, or a batch has fewer
                examples than there are processes.
            DataError: If a checkpoint is used, and the set's views or the loss cannot be
                identified.
            FolderError: If the checkpoint is damaged or belongs to another run.
        """
        check_positive(measurements=measurements)
        self.network, self.transfer_set, self.loss_fn = network, transfer_set, loss_fn
        self._asked = as_network(network, transfer_set.class_names)
        self._frozen = set(frozen_layers(self._asked))
        warn_of_frozen(self._asked)
        self.settings, self._share = settings, share or Share()
        self.steps_per_epoch = math.ceil(len(transfer_set) / settings.batch_size)
        self.steps = settings.epochs * self.steps_per_epoch
        if len(transfer_set) // self.steps_per_epoch < self._share.workers:
            raise AttarError(
                f"expected a batch_size of at least {self._share.workers}, one example per "
                f"process, got {settings.batch_size} for {len(transfer_set)} examples"
            )
        self.steps_done = 0
        self.history: tuple[Epoch, ...] = ()
        self._epoch_losses, self._epoch_seconds = 0.0, 0.0
        self._optimizer = settings.make_optimizer(network.parameters())
        checkpoint = None if checkpoint is None else Path(checkpoint)
        self._checkpoint, self._checkpoint_seconds = checkpoint, checkpoint_seconds
        self._views = None if views is None else _check_views(views)
        self._measure, self._measure_every = measure, max(1, settings.epochs // measurements)
        self.precision = resolve_precision(network, settings.precision)
        if checkpoint is not None:
            self._identity = self._identify(identity or {}, views)
            if checkpoint.exists():
                self._restore(checkpoint)

    def _identify(
        self, identity: Mapping[str, str | float], views: Sequence[int] | None
    ) -> dict[str, Any]:
        """Return everything that affects the final weights, by name; called before training."""
        known: dict[str, Any] = {
            **identity,
            **({} if views is None else {"views": list(views)}),
            "settings": asdict(self.settings),
            "data": self.transfer_set.fingerprint(),
            "initial network": hash_network(self.network),
            "frozen parts": hash_value(
                [
                    [
                        name
                        for name, each in self.network.named_parameters()
                        if not each.requires_grad
                    ],
                    [n for n, each in self.network.named_modules() if each in self._frozen],
                ]
            ),
        }
        if self.transfer_set.views is not None and (views is None or any(views)):
            maker = self.transfer_set.views
            code = maker if isinstance(maker, FunctionType) else type(maker)
            known["maker of views"] = f"{name_views(maker)} {hash_value(code)}"
        if "loss" not in known:
            try:
                known["loss"] = hash_value(self.loss_fn)
            except DataError as error:
                raise DataError(
                    "the loss cannot be identified in a checkpoint, because it uses an object that "
                    f"cannot be hashed ({error.__cause__ or 'no stable state'}); pass "
                    'identity={"loss": "a name"}, and change the name whenever the loss changes'
                ) from error
        return known

    def __iter__(self) -> Iterator[Step]:
        """Run the remaining steps.

        Raises:
            DivergedError: If a loss or a gradient is not finite.
            FolderError: If a checkpoint cannot be written.
        """
        if self.steps_done == self.steps:
            return
        keep_freed_memory()
        rate = self._set_learning_rate()
        network = self._share.wrap(self._asked)
        move_state(self._optimizer)  # wrapping may have moved the network
        losses = fit(
            network,
            self._batches(),
            self._loss,
            self._optimizer,
            step_seed=self._step_seed,
            first_step=self.steps_done + 1,
            clip_norm=self.settings.clip_norm,
            precision=self.precision,
            frozen=self._frozen,
        )
        saved_at = started = time.monotonic()
        pause = self._checkpoint_seconds
        for loss in map(self._share.average, losses):
            self.steps_done += 1
            self._epoch_losses += loss
            self._epoch_seconds += time.monotonic() - started
            ends_epoch = self.steps_done % self.steps_per_epoch == 0
            epoch = self._end_epoch(rate) if ends_epoch else None
            step = Step(
                self.steps_done,
                loss,
                rate,
                epoch,
                self.steps,
                self.settings.epochs,
                self.precision,
            )
            is_last = self.steps_done == self.steps
            if is_last or time.monotonic() - saved_at > pause:
                before = time.monotonic()
                self._save()
                saved_at = time.monotonic()
                if pause:
                    pause = max(self._checkpoint_seconds, _SAVING_SHARE * (saved_at - before))
            rate = self._set_learning_rate()
            yield step
            started = time.monotonic()

    def _batches(self) -> Iterator[Batch]:
        """Yield the remaining batches; sizes within an epoch differ by at most one example."""
        sizes = self._batch_sizes()
        first_epoch, first = divmod(self.steps_done, self.steps_per_epoch)
        for epoch in range(first_epoch, self.settings.epochs):
            seed = mix_seed(self.settings.seed, _ORDERS, epoch)
            order = self.transfer_set.shuffle(torch.Generator().manual_seed(seed))
            for indices in islice(cut(order, sizes), first, None):
                part = indices.tensor_split(self._share.workers)[self._share.rank]
                yield self.transfer_set.batch(part, self._view(epoch))
            first = 0

    def _batch_sizes(self) -> list[int]:
        """Return the sizes of the batches of an epoch."""
        size, more = divmod(len(self.transfer_set), self.steps_per_epoch)
        return [size + (place < more) for place in range(self.steps_per_epoch)]

    def _loss(self, logits: Tensor, batch: Batch) -> Tensor:
        loss = self.loss_fn(logits, batch)
        if self._share.workers == 1:
            return loss
        whole = self._batch_sizes()[self.steps_done % self.steps_per_epoch]
        return loss * self._share.scale(len(batch.indices), whole)

    def _step_seed(self, step: int) -> int:
        seed = mix_seed(self.settings.seed, _STEPS, step)
        return seed if self._share.is_first else mix_seed(seed, self._share.rank)

    def _view(self, epoch: int) -> int:
        """Return the number of the view of an epoch, counted from 0."""
        if self._views is not None:
            return self._views[epoch % len(self._views)]
        return epoch + 1 if self.transfer_set.views else 0

    def _set_learning_rate(self) -> float:
        rate = self.settings.learning_rate_at(
            self.steps_done, steps=self.steps, steps_per_epoch=self.steps_per_epoch
        )
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        return rate

    def _end_epoch(self, learning_rate: float) -> Epoch:
        index = self.steps_done // self.steps_per_epoch
        is_due = index % self._measure_every == 0 or index == self.settings.epochs
        epoch = Epoch(
            index=index,
            mean_loss=self._epoch_losses / self.steps_per_epoch,
            learning_rate=learning_rate,
            train_seconds=self._epoch_seconds,
            measurements=self._measure(self.network) if self._measure and is_due else None,
        )
        self.history += (epoch,)
        self._epoch_losses, self._epoch_seconds = 0.0, 0.0
        return epoch

    def _save(self) -> None:
        if self._checkpoint is None or not self._share.is_first:
            return
        state = {
            "steps_done": self.steps_done,
            "precision": self.precision,
            "epoch_losses": self._epoch_losses,
            "epoch_seconds": self._epoch_seconds,
            "history": [asdict(epoch) for epoch in self.history],
        }
        save_checkpoint(
            self._checkpoint, self.network, self._optimizer, run=self._identity, state=state
        )
        if self.steps_done == self.steps:
            remove_partials(self._checkpoint)

    def _restore(self, path: Path) -> None:
        state = load_checkpoint(path, self.network, self._optimizer, run=self._identity)
        self.steps_done = state["steps_done"]
        self.precision = state["precision"]  # "auto" may differ on this processor
        self._epoch_losses, self._epoch_seconds = state["epoch_losses"], state["epoch_seconds"]
        self.history = tuple(Epoch(**epoch) for epoch in state["history"])


def _check_views(views: Sequence[int]) -> tuple[int, ...]:
    if not views or min(views) < 0:
        raise AttarError(f"expected at least one view number, each >= 0, got {list(views)}")
    return tuple(views)
