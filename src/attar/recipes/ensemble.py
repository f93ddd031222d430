"""Ten teachers distilled into one student: sections 1 and 3 of Hinton, Vinyals & Dean (2015)."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean

import torch
from jaxtyping import Float
from torch import Tensor

from attar.cohorts import Cohort
from attar.data import Batch, Jitter, Mnist, load_mnist
from attar.errors import AttarError, check_not_negative, check_positive
from attar.evaluation import Evaluation, compute_logits, measure_logits
from attar.losses import MemberWeights, mean_logits, member_distillation_loss
from attar.recipes import mnist
from attar.recipes.config import option
from attar.recipes.folder import claim_folder, is_finished
from attar.recipes.stages import (
    Progress,
    Stage,
    TrainedCohort,
    WorkMeter,
    kept_logits,
    tell_machines,
    train_cohort_stage,
)
from attar.recipes.teachers import describe_teachers, load_teachers, teacher_stage
from attar.records import ExperimentResult, ResultRow, this_machine
from attar.training import LossFn, TrainingSettings, hard_target_loss

EXPERIMENT = "ensemble"
KINDS = ("arithmetic", "geometric", "single")  # whose soft targets: of a mean, of one member


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Teachers as those of `attar reproduce mnist`; students of three kinds, alike but for them.

    The teachers are a cohort: trained together, each with its own weights and dropout, on the same
    jittered images. Of the students of a single teacher, seed s learns from teacher number s, over
    and over, so that their spread is one over teachers too. The paper distills an ensemble for
    speech; on MNIST it has one teacher.
    """

    seeds: int = option(5, "Number of students of each kind.")
    kinds: str = option(",".join(KINDS), "Sources of the soft targets: a mean, or single teachers.")
    teachers: str = option(
        "",
        "Folder of a run of `attar reproduce mnist` whose teachers form the ensemble, instead of "
        "new ones.",
    )
    members: int = option(10, "Number of teachers, if they are trained here.")
    teacher_units: int = option(1200, "Units in each of a teacher's two hidden layers.")
    teacher_epochs: int = option(mnist.Config().teacher_epochs, "Passes of the teachers.")
    student_units: int = option(800, "Units in each of a student's two hidden layers.")
    distilled_epochs: int = option(mnist.Config().distilled_epochs, "Passes of the students.")
    learning_rate: float = option(
        mnist.Config().distilled_learning_rate, "Peak learning rate of the students (SGD)."
    )
    batch_size: int = option(
        mnist.Config().student_batch_size, "Examples in a batch of the students."
    )
    temperature: float = option(mnist.Config().temperature, "Temperature of the soft targets.")
    soft_weight: float = option(1.0, "Weight of the soft targets' loss.")
    hard_weight: float = option(0.0, "Weight of the hard targets' loss.")
    views: int = option(
        0,
        "Jittered views for the students, one per epoch in turn, besides the plain one.",
    )

    def __post_init__(self) -> None:
        """Check the values that networks, losses and settings do not check."""
        check_positive(seeds=self.seeds, members=self.members, batch_size=self.batch_size)
        check_not_negative(views=self.views)
        _ = self.member_weights
        kinds = set(self.kinds_made)
        if not kinds <= set(KINDS) or len(kinds) < len(self.kinds_made):
            raise AttarError(f"expected kinds among {', '.join(KINDS)}, got {self.kinds!r}")

    @property
    def kinds_made(self) -> list[str]:
        """Names of the kinds of students."""
        return self.kinds.split(",")

    @property
    def member_weights(self) -> MemberWeights:
        """What each student learns with."""
        return MemberWeights(
            temperature=self.temperature,
            soft_weight=self.soft_weight,
            hard_weight=self.hard_weight,
        )


QUICK = replace(
    Config(), seeds=1, members=3, teacher_epochs=6, student_units=300, distilled_epochs=6
)

PAPER: dict[str, float] = {}  # it has no MNIST ensemble, and no student of soft targets alone


def run(config: Config, folder: Path, *, command: str) -> Iterator[Progress]:
    """Run the experiment in `folder`, or what is left of it; the result goes to `ensemble.json`.

    Yields:
        How far it is.

    Raises:
        AttarError: If an option or the folder cannot be used, or a training diverges.
    """
    path = folder / f"{EXPERIMENT}.json"
    given = load_teachers(config.teachers)
    made_of = describe_teachers(given, config.teacher_units, config.teacher_epochs)
    if is_finished(path, config, made_of):
        return
    data = load_mnist()
    teachers = teachers_stage(config)
    students = [students_stage(config, seed) for seed in range(config.seeds)]
    examples = len(data.train)
    work = sum(stage.work(examples) for stage in students)
    meter = WorkMeter(work if given else work + teachers.work(examples))
    jittered = data.train.with_views(Jitter(pixels=mnist.Config().jitter, seed=0))
    stages: dict[str, TrainedCohort] = {}
    with claim_folder(folder, EXPERIMENT, asdict(config), may_grow="seeds"):
        if given:
            cohort, seconds = Cohort(given), 0.0
        else:
            trained = yield from train_cohort_stage(
                teachers, jittered, hard_target_loss,
                folder=folder, test_set=data.test, meter=meter, keeps_weights=True,
            )  # fmt: skip
            assert trained.cohort is not None
            cohort, seconds = trained.cohort, trained.wall_seconds
            stages |= {teachers.name: trained}
        views = range(config.views + 1)
        logits = [
            kept_logits(folder / f"logits-{view}.safetensors", cohort, jittered, view=view)
            for view in views
        ]
        of_seeds = []
        for seed, stage in enumerate(students):
            targets = [targets_of_kinds(config, each.values, seed) for each in logits]
            of_seed = yield from train_cohort_stage(
                stage,
                jittered,
                students_loss(config, targets),
                folder=folder,
                test_set=data.test,
                meter=meter,
                views=views,
                keeps_weights=True,
                loss={
                    "function": "attar.losses.member_distillation_loss",
                    "teachers": logits[0].teacher,
                    "kinds": [_tell_kind(kind, seed, len(cohort)) for kind in config.kinds_made],
                    "weights": asdict(config.member_weights),
                },
            )
            of_seeds.append(of_seed)
            stages |= {stage.name: of_seed}
        result = _result(config, cohort, of_seeds, data, command)
        result.details.update({"made_of": made_of, "trained by": tell_machines(stages)})
        replace(result, wall_seconds=result.wall_seconds + seconds).write(path)


def teachers_stage(config: Config) -> Stage:
    """Describe the ensemble: members as the teachers of `attar reproduce mnist`, a seed each."""
    units, epochs, count = config.teacher_units, config.teacher_epochs, config.members
    stages = [teacher_stage(units, epochs, seed=seed, seeds=count) for seed in range(count)]

    def make() -> Cohort:
        return Cohort([stage.make_network() for stage in stages])

    return Stage("teachers", f"{count} teachers together", make, stages[0].settings)


def students_stage(config: Config, seed: int) -> Stage:
    """Describe the students of a seed, one of each kind, which start from the same weights."""

    def make() -> Cohort:
        of_size = mnist.Config(student_units=config.student_units)
        return Cohort([mnist.make_student(of_size, seed) for _ in config.kinds_made])

    settings = TrainingSettings(
        epochs=config.distilled_epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        warmup_epochs=1,
        seed=seed,
    )
    title = f"students ({config.kinds}), seed {seed + 1} of {config.seeds}"
    return Stage(f"students-{seed}", title, make, settings)


def targets_of_kinds(
    config: Config, logits: Float[Tensor, "members examples classes"], seed: int
) -> Float[Tensor, "kinds examples classes"]:
    """Return logits whose softmax at the temperature is that of each kind of soft target.

    The arithmetic mean is that of the members' probabilities at this temperature.
    """
    make = {
        "arithmetic": lambda: mean_logits(
            logits, mean="arithmetic", temperature=config.temperature
        ),
        "geometric": lambda: mean_logits(logits, mean="geometric"),
        "single": lambda: logits[seed % len(logits)],
    }
    return torch.stack([make[kind]() for kind in config.kinds_made])


def _tell_kind(kind: str, seed: int, members: int) -> str:
    """Say whose soft targets a student of a seed learns from."""
    return f"teacher {seed % members}" if kind == "single" else f"{kind} mean"


def students_loss(config: Config, targets: list[Tensor]) -> LossFn:
    """Make the loss of a cohort of students, each kind with its soft targets."""
    weights = [config.member_weights] * len(config.kinds_made)

    def loss_fn(logits: Tensor, batch: Batch) -> Tensor:
        v = targets[batch.view][:, batch.indices]  # [kinds, batch, classes]
        return member_distillation_loss(logits, v, batch.hard_targets, weights).mean(dim=1).sum()

    return loss_fn


def _result(
    config: Config, teachers: Cohort, of_seeds: list[TrainedCohort], data: Mnist, command: str
) -> ExperimentResult:
    logits = compute_logits(teachers, data.test)  # [members, examples, classes]
    members = [measure_logits(each, data.test.hard_targets) for each in logits]
    means = {
        mean: measure_logits(mean_logits(logits, mean=mean), data.test.hard_targets)
        for mean in ("arithmetic", "geometric")
    }

    def row(name: str, evaluations: list[Evaluation], paper: float | None = None) -> ResultRow:
        errors = [float(each.errors) for each in evaluations]
        return ResultRow.over_seeds(name, errors, metric="test errors", paper=paper)

    count = len(members)
    rows = [row(f"a teacher 2×{config.teacher_units}, of {count}", members)]
    rows += [row(f"{mean} mean of {count} teachers", [one]) for mean, one in means.items()]
    students: dict[str, list[Evaluation]] = {
        kind: [of_seed.evaluations[place] for of_seed in of_seeds]
        for place, kind in enumerate(config.kinds_made)
    }
    for kind, evaluations in students.items():
        source = "single teachers" if kind == "single" else f"{kind} mean of {count} teachers"
        name = f"student 2×{config.student_units} of {source}"
        rows.append(row(name, evaluations, PAPER.get(kind)))
    return ExperimentResult(
        experiment=EXPERIMENT,
        command=command,
        rows=tuple(rows),
        config=asdict(config),
        machine=this_machine(),
        wall_seconds=sum(each.wall_seconds for each in of_seeds),
        details={
            "members": [asdict(each) for each in members],
            "means": {mean: asdict(one) for mean, one in means.items()},
            "students": {kind: [asdict(one) for one in each] for kind, each in students.items()},
            "notes": [
                _compare(mean, students[mean], students["single"])
                for mean in means
                if mean in students and "single" in students
            ],
        },
    )


def _compare(mean: str, ours: list[Evaluation], theirs: list[Evaluation]) -> str:
    """Say how the students of a mean do against those of single teachers."""
    difference = fmean(one.errors - other.errors for one, other in zip(ours, theirs, strict=True))
    p = paired_p(ours, theirs)
    by_chance = "one seed or no spread: not tested" if p is None else f"paired t-test, p = {p:.2g}"
    return (
        f"students of the {mean} mean make {difference:+.1f} errors against students of single "
        f"teachers, seed s with teacher s ({by_chance}, over {len(ours)} seed(s); the ensemble is "
        "one draw of teachers)"
    )


def paired_p(ours: list[Evaluation], theirs: list[Evaluation]) -> float | None:
    """Return the two-sided p of a paired t-test over seeds; None where it has none."""
    pairs = [(one.errors, other.errors) for one, other in zip(ours, theirs, strict=True)]
    if len(pairs) < 2 or len({one - other for one, other in pairs}) == 1:
        return None
    from scipy.stats import ttest_rel  # here: importing it takes a second

    return float(ttest_rel(*zip(*pairs, strict=True)).pvalue)
