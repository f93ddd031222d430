"""Students of three sizes at eleven temperatures: section 3 of Hinton, Vinyals & Dean (2015)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import stdev

from torch import Tensor

from attar.cohorts import Cohort
from attar.data import Batch, load_mnist
from attar.errors import AttarError, check_not_negative, check_positive
from attar.figures import Curve, draw_curves
from attar.losses import MemberWeights, member_distillation_loss
from attar.recipes import mnist
from attar.recipes.config import option, parse_numbers, parse_whole_numbers
from attar.recipes.folder import claim_folder, is_finished
from attar.recipes.made_of import MadeOf
from attar.recipes.stages import (
    Progress,
    Stage,
    TrainedCohort,
    WorkMeter,
    tell_machines,
    train_cohort_stage,
)
from attar.recipes.teachers import (
    TEACHERS_HELP,
    describe_teachers,
    first_teacher_logits,
    load_teachers,
    teacher_stage,
)
from attar.recipes.temperature_checks import PAPER as PAPER  # beside ours, as in every recipe
from attar.recipes.temperature_checks import (
    Check,
    check_best_temperatures,
    check_high_temperatures,
)
from attar.records import ExperimentResult, ResultRow, this_machine
from attar.training import LossFn, TrainingSettings

EXPERIMENT = "temperature"
LARGE = 300  # units


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One teacher, and students that differ by size, temperature and seed.

    The students of a size and a seed are a cohort: they start from the same weights, see the same
    batches, and differ by the temperature alone. All of them learn from the teacher of seed 0.
    """

    seeds: int = option(5, "Number of students per size and temperature.")
    teachers: str = option("", TEACHERS_HELP)
    teacher_units: int = option(
        1200, "Units in each hidden layer of a teacher that is trained here."
    )
    teacher_epochs: int = option(
        mnist.Config().teacher_epochs, "Passes of a teacher that is trained here."
    )
    student_units: str = option("30,300,800", "Units in each of a student's two hidden layers.")
    temperatures: str = option("1,2,2.5,3,4,6,8,12,16,20,30", "Temperatures of the soft targets.")
    distilled_epochs: str = option(
        "30,12,6", "Passes of the students per size (large ones need fewer), or one number."
    )
    learning_rate: float = option(0.003, "Peak learning rate of the students (AdamW).")
    batch_size: int = option(128, "Examples in a batch of the students.")
    soft_weight: float = option(1.0, "Weight of the soft targets' loss.")
    hard_weight: float = option(mnist.Config().hard_weight, "Weight of the hard targets' loss.")

    def __post_init__(self) -> None:
        """Check the values that networks, losses and settings do not check."""
        check_positive(seeds=self.seeds, soft_weight=self.soft_weight)
        check_not_negative(hard_weight=self.hard_weight)
        for name in ("student_units", "temperatures"):
            numbers = parse_numbers(name, getattr(self, name))
            if list(numbers) != sorted(set(numbers)):
                raise AttarError(f"expected {name} in ascending order, got {getattr(self, name)}")
        _ = self.epochs_of_units

    @property
    def epochs_of_units(self) -> dict[int, int]:
        """Passes of the students of each size."""
        sizes = parse_whole_numbers("student_units", self.student_units)
        epochs = parse_whole_numbers("distilled_epochs", self.distilled_epochs)
        if len(epochs) not in (1, len(sizes)):
            raise AttarError(
                f"expected one number of distilled_epochs or {len(sizes)}, as of student_units, "
                f"got {self.distilled_epochs}"
            )
        return dict(zip(sizes, epochs * (len(sizes) // len(epochs)), strict=True))


QUICK = replace(
    Config(), seeds=2, teacher_epochs=8, student_units="30", temperatures="1,3,8,20",
    distilled_epochs="6",
)  # fmt: skip


def run(config: Config, folder: Path, *, command: str) -> Iterator[Progress]:
    """Run the experiment in `folder`, or what is left of it; leaves a JSON file and two figures.

    Yields:
        How far it is.

    Raises:
        AttarError: If an option or the folder cannot be used, or a training diverges.
    """
    path = folder / f"{EXPERIMENT}.json"
    given = load_teachers(config.teachers)[:1]
    made_of = describe_teachers(given, config.teacher_units, config.teacher_epochs)
    if is_finished(path, config, made_of):
        return
    data = load_mnist()
    stages = [
        student_stage(config, units, seed)
        for units in config.epochs_of_units
        for seed in range(config.seeds)
    ]
    teacher = teacher_stage(config.teacher_units, config.teacher_epochs, seed=0, seeds=1)
    all_stages = stages if given else [teacher, *stages]
    meter = WorkMeter(sum(stage.work(len(data.train)) for stage in all_stages))
    with claim_folder(folder, EXPERIMENT, asdict(config), may_grow="seeds"):
        logits = yield from first_teacher_logits(
            given, teacher, data.train, data.test, folder=folder, meter=meter
        )
        loss_fn = sweep_loss(config, logits.values)
        loss = {
            "function": "attar.losses.member_distillation_loss",
            "teacher": logits.teacher,
            "members": [asdict(member) for member in sweep_members(config)],
        }
        trained = {}
        for stage in stages:
            trained[stage.name] = yield from train_cohort_stage(
                stage,
                data.train,
                loss_fn,
                folder=folder,
                test_set=data.test,
                meter=meter,
                loss=loss,
            )
        result = _result(config, trained, made_of, command)
        _draw(config, result, folder)
        result.write(path)


def student_stage(config: Config, units: int, seed: int) -> Stage:
    """Describe the students of a size and a seed, one for each temperature."""
    count = len(parse_numbers("temperatures", config.temperatures))

    def make() -> Cohort:
        of_size = mnist.Config(student_units=units)
        return Cohort([mnist.make_student(of_size, seed) for _ in range(count)])

    settings = TrainingSettings(
        epochs=config.epochs_of_units[units],
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        optimizer="adamw",
        warmup_epochs=1,
        seed=seed,
    )
    title = f"{count} students of 2×{units}, seed {seed + 1} of {config.seeds}"
    return Stage(f"students-{units}-{seed}", title, make, settings)


def sweep_loss(config: Config, teacher_logits: Tensor) -> LossFn:
    """Make the loss of a cohort, each member with its temperature."""
    members = sweep_members(config)

    def loss_fn(logits: Tensor, batch: Batch) -> Tensor:
        v = teacher_logits[batch.indices]
        losses = member_distillation_loss(logits, v, batch.hard_targets, members)
        return losses.mean(dim=1).sum()

    return loss_fn


def sweep_members(config: Config) -> list[MemberWeights]:
    """Return what each member of a cohort learns with."""
    return [
        MemberWeights(
            temperature=temperature,
            soft_weight=config.soft_weight,
            hard_weight=config.hard_weight,
        )
        for temperature in parse_numbers("temperatures", config.temperatures)
    ]


def _errors(
    config: Config, trained: dict[str, TrainedCohort], units: int
) -> dict[float, list[float]]:
    """Return temperature -> errors, one a seed."""
    return {
        temperature: [
            float(trained[f"students-{units}-{seed}"].evaluations[place].errors)
            for seed in range(config.seeds)
        ]
        for place, temperature in enumerate(parse_numbers("temperatures", config.temperatures))
    }


def check_statements(errors: Mapping[int, Mapping[float, Sequence[float]]]) -> list[Check]:
    """Hold the paper's two statements against students: units -> temperature -> errors by seed."""
    return [
        (check_high_temperatures if units >= LARGE else check_best_temperatures)(of_size, units)
        for units, of_size in errors.items()
    ]


def _result(
    config: Config, trained: dict[str, TrainedCohort], made_of: MadeOf, command: str
) -> ExperimentResult:
    errors = {units: _errors(config, trained, units) for units in config.epochs_of_units}
    rows = [
        ResultRow.over_seeds(
            f"student 2×{units}, T = {temperature:g}", values, metric="test errors", paper=None
        )
        for units, of_size in errors.items()
        for temperature, values in of_size.items()
    ]
    checks = check_statements(errors)
    return ExperimentResult(
        experiment=EXPERIMENT,
        command=command,
        rows=tuple(rows),
        config=asdict(config),
        machine=this_machine(),
        wall_seconds=sum(each.wall_seconds for each in trained.values()),
        details={
            "notes": [str(check) for check in checks],
            "checks": [asdict(check) for check in checks],
            "nll": {
                name: [evaluation.nll for evaluation in each.evaluations]
                for name, each in trained.items()
            },
            "made_of": dict(made_of),
            "trained by": tell_machines(trained),
        },
    )


def _draw(config: Config, result: ExperimentResult, folder: Path) -> None:
    temperatures = parse_numbers("temperatures", config.temperatures)
    sizes = list(config.epochs_of_units)
    panels = []
    for place in range(len(sizes)):
        rows = result.rows[place * len(temperatures) : (place + 1) * len(temperatures)]
        means = tuple(row.mean for row in rows)
        bars = tuple(stdev(row.values) if row.seeds > 1 else 0.0 for row in rows)
        panels.append([Curve("test errors", temperatures, means, bars)])
    for suffix in ("png", "svg"):
        draw_curves(
            folder / f"{EXPERIMENT}.{suffix}",
            panels,
            titles=[f"2×{units} units" for units in sizes],
            x_label="temperature",
            y_label=f"test errors, mean ± sd of {config.seeds} seed(s)",
        )
