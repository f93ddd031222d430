"""A whole training: epochs, views, learning rate, evaluations, checkpoints."""

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
_SAVING_SHARE = 20  # how much longer than writing a checkpoint the time between two is

Measure = Callable[[nn.Module], dict[str, float]]


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the transfer set."""

    index: int  # from 1
    mean_loss: float  # over the epoch's steps
    learning_rate: float  # at its last step
    train_seconds: float  # spent in its steps, evaluation not counted
    measurements: dict[str, float] | None = None  # where it was measured


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
        """How much of the run is done."""
        return self.index / self.steps

    def __str__(self) -> str:
        """Say it for people."""
        number = -(-self.index * self.epochs // self.steps)  # rounded up
        return f"training · epoch {number} of {self.epochs} · loss {self.loss:.4g}"


class TrainingRun:
    """Trains a network when iterated over; yields each `Step`.

    Epoch number e shows view e of every example once, in an order of its own. Order, views and
    dropout are pure functions of the seed and the step's number: a run that was stopped and goes on
    from its checkpoint ends with the same weights, bit for bit, as one that never was.

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
        """Prepare the run; go on from the checkpoint if it is there.

        Args:
            network: Maps inputs to logits, or is a classifier of `transformers`; trained in place.
            transfer_set: What it is trained on.
            loss_fn: Logits and batch -> the scalar to be minimised.
            settings: How long, how fast, with which seed.
            checkpoint: Checkpoint file, written periodically and at the end. It belongs to this
                run alone: one of another initial network, loss, data, views or settings is refused,
                and the network is then unchanged.
            checkpoint_seconds: Shortest time between checkpoints; a checkpoint that takes long to
                write is written less often, so that writing takes 5 % of the time at most. 0 is
                for one after every step.
            identity: Further settings that affect the weights, by the name that an error gives
                them. A `loss` among them stands for the loss instead of its code and the values
                that it uses.
            views: Numbers of the views to show, an epoch each, over and over; by default epoch e
                shows view e of a set that has views, and the plain examples of one that has none.
            measure: Measures the network at the ends of some epochs, of the last one always.
            measurements: About how many times.
            share: What this process does of each batch, if several train the network; by default
                all of it.

        Raises:
            AttarError: If `measurements` is not positive, `views` has no number, or a batch has
                fewer examples than there are processes.
            DataError: If there is a checkpoint and the set's views or the loss don't say what they
                do.
            FolderError: If the checkpoint is damaged, or of another run.
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
                f"expected a batch_size of {self._share.workers} at least, an example for each of "
                f"the processes, got {settings.batch_size} for {len(transfer_set)} examples"
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
        """Return what decides the final weights, by name; the network is still as it was given."""
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
                    "expected a loss whose code and values can be identified in a checkpoint, got "
                    f"one that uses what cannot ({error.__cause__ or 'no stable state'}); give "
                    'identity={"loss": "a name"}, which you change whenever the loss changes'
                ) from error
        return known

    def __iter__(self) -> Iterator[Step]:
        """Do the steps that are left.

        Raises:
            DivergedError: If a loss or a gradient is not finite.
            FolderError: If a checkpoint cannot be written.
        """
        if self.steps_done == self.steps:
            return
        keep_freed_memory()
        rate = self._set_learning_rate()
        network = self._share.wrap(self._asked)
        move_state(self._optimizer)  # the wrapping may have moved the network to another device
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
        """Yield the batches of the steps left; an epoch's differ by one example at most."""
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
        """Return how many examples each batch of an epoch has."""
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
        """Return the number of the view that an epoch shows, the first epoch being 0."""
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
        self.precision = state["precision"]  # "auto" may mean another one on this processor
        self._epoch_losses, self._epoch_seconds = state["epoch_losses"], state["epoch_seconds"]
        self.history = tuple(Epoch(**epoch) for epoch in state["history"])


def _check_views(views: Sequence[int]) -> tuple[int, ...]:
    if not views or min(views) < 0:
        raise AttarError(f"expected views of one number or more, each >= 0, got {list(views)}")
    return tuple(views)
