"""Digits that the student never sees: section 3 of Hinton, Vinyals & Dean (2015), its end."""

from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attar.data import Mnist, TransferSet, load_mnist
from attar.errors import AttarError, check_not_negative, check_positive
from attar.evaluation import compute_logits
from attar.metrics import is_error
from attar.recipes import mnist
from attar.recipes.config import option
from attar.recipes.folder import claim_folder, is_finished
from attar.recipes.made_of import MadeOf
from attar.recipes.stages import (
    Progress,
    Stage,
    TeacherLogits,
    Trained,
    WorkMeter,
    kept_logits,
    tell_machines,
    train_stage,
)
from attar.recipes.teachers import (
    TEACHERS_HELP,
    describe_teachers,
    load_teachers,
    teacher_stage,
    train_teacher,
)
from attar.records import ExperimentResult, ResultRow, this_machine
from attar.training import TrainingSettings

EXPERIMENT = "missing-digits"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Two transfer sets: all digits but the 3, and nothing but 7 and 8.

    The student learns from soft targets alone. The last training examples are kept from it: on
    them the shift of the biases is chosen, where the paper chose it on the test set.
    """

    seeds: int = option(5, "Number of runs with different random seeds.")
    teachers: str = option("", TEACHERS_HELP)
    teacher_units: int = option(
        1200, "Units in each hidden layer of a teacher that is trained here."
    )
    teacher_epochs: int = option(
        mnist.Config().teacher_epochs, "Passes of a teacher that is trained here."
    )
    student_units: int = option(800, "Units in each of the student's two hidden layers.")
    distilled_epochs: int = option(
        20, "Passes of the students over all digits; as many updates with fewer digits."
    )
    learning_rate: float = option(0.05, "Peak learning rate of the students (SGD).")
    batch_size: int = option(128, "Examples in a batch.")
    temperature: float = option(20.0, "Temperature of the soft targets.")
    validation: int = option(10_000, "Training examples for choosing the shift of the biases.")

    def __post_init__(self) -> None:
        """Check the values that networks, losses and settings do not check."""
        check_positive(seeds=self.seeds, temperature=self.temperature, validation=self.validation)
        check_not_negative(teacher_epochs=self.teacher_epochs)


QUICK = replace(Config(), seeds=1, teacher_epochs=8, distilled_epochs=10)


@dataclass(frozen=True, slots=True)
class Errors:
    """Test errors of a student whose biases are shifted."""

    errors: float | None  # None, here and below: the paper has no such number
    watched_errors: float | None  # on the digits that the case watches
    shift: float | None  # nats


NONE = Errors(None, None, None)  # the paper chooses the shift on the test set alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A transfer set that lacks digits."""

    name: str  # of its files
    title: str
    seen: tuple[int, ...]  # digits of the transfer set
    shifted: tuple[int, ...]  # classes whose biases are shifted
    watched: tuple[int, ...]  # digits whose errors are counted on their own
    watched_title: str
    paper: dict[str, Errors]  # by the names of an outcome; of 10,000 test examples


CASES = (
    Case(
        name="no-3",
        title="no 3 in the transfer set",
        seen=(0, 1, 2, 4, 5, 6, 7, 8, 9),
        shifted=(3,),
        watched=(3,),
        watched_title="threes",
        paper={
            "as_trained": Errors(206, 133, 0),
            "validated": NONE,
            "tuned": Errors(109, 14, 3.5),
        },
    ),
    Case(
        name="only-7-8",
        title="only 7 and 8 in it",
        seen=(7, 8),
        shifted=(7, 8),
        watched=(0, 1, 2, 3, 4, 5, 6, 9),
        watched_title="the digits never seen",
        paper={
            "as_trained": Errors(4730, None, 0),
            "validated": NONE,
            "tuned": Errors(1320, None, -7.6),
        },
    ),
)
KINDS = {  # of outcomes: their name, and what a row says of them
    "as_trained": "",
    "validated": ", biases shifted as validation says",
    "tuned": ", biases shifted as the test set says",  # as in the paper
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """A student's errors: as trained, and with the shifts that two sets of examples choose."""

    errors: dict[str, Errors]  # by the names in KINDS
    wall_seconds: float
    trained: Trained


def run(config: Config, folder: Path, *, command: str) -> Iterator[Progress]:
    """Run the experiment in `folder`, or what is left of it.

    Yields:
        How far it is.

    Raises:
        AttarError: If an option or the folder cannot be used, or a training diverges.
    """
    path = folder / f"{EXPERIMENT}.json"
    given = given_teachers(config)
    made_of = describe_teachers(given, config.teacher_units, config.teacher_epochs)
    if is_finished(path, config, made_of):
        return
    data = load_mnist()
    if config.validation >= len(data.train):
        found = f"{len(data.train)} training examples, got {config.validation}"
        raise AttarError(f"expected validation below the {found}")
    work = 0.0 if given else make_teacher_stage(config, 0).work(len(data.train))
    for case in CASES:
        seen = transfer_set(config, case, data.train)
        work += student_stage(config, case, 0, data.train).work(len(seen))
    meter = WorkMeter(config.seeds * work)
    with claim_folder(folder, EXPERIMENT, asdict(config), may_grow="seeds"):
        outcomes: dict[str, list[Outcome]] = {case.name: [] for case in CASES}
        for seed in range(config.seeds):
            if given:
                teacher = given[seed]
            else:
                trained = yield from train_teacher(
                    make_teacher_stage(config, seed),
                    data.train,
                    data.test,
                    folder=folder,
                    meter=meter,
                )
                teacher = trained.network
            kept = folder / f"teacher-{seed}.logits.safetensors"
            logits = kept_logits(kept, teacher, data.train)
            for case in CASES:
                outcome = yield from _one(config, case, seed, logits, data, folder, meter)
                outcomes[case.name].append(outcome)
        _result(config, outcomes, made_of, command).write(path)


def given_teachers(config: Config) -> list[nn.Module]:
    """Load the teacher of each seed from an earlier run; none if they are trained here."""
    given = load_teachers(config.teachers)
    return [given[seed % len(given)] for seed in range(config.seeds)] if given else []


def make_teacher_stage(config: Config, seed: int) -> Stage:
    """Describe the teacher of a seed, if it is trained here."""
    return teacher_stage(config.teacher_units, config.teacher_epochs, seed=seed, seeds=config.seeds)


def transfer_set(config: Config, case: Case, train_set: TransferSet) -> TransferSet:
    """Take the examples that the student sees: of the case's digits, without the last ones."""
    digits = train_set.hard_targets[: -config.validation]
    return train_set.subset(torch.isin(digits, torch.tensor(case.seen)).nonzero().squeeze(1))


def student_stage(config: Config, case: Case, seed: int, train_set: TransferSet) -> Stage:
    """Describe the student of a case and a seed; those of all cases make as many updates."""
    seen = len(transfer_set(config, case, train_set))
    passes = config.distilled_epochs * (len(train_set) - config.validation) / seen

    def make() -> nn.Module:
        return mnist.make_student(mnist.Config(student_units=config.student_units), seed)

    settings = TrainingSettings(
        epochs=round(passes),
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        warmup_epochs=1,
        seed=seed,
    )
    title = f"student, {case.title}, seed {seed + 1} of {config.seeds}"
    return Stage(f"{case.name}-{seed}", title, make, settings)


def _one(
    config: Config,
    case: Case,
    seed: int,
    logits: TeacherLogits,
    data: Mnist,
    folder: Path,
    meter: WorkMeter,
) -> Generator[Progress, None, Outcome]:
    mnist_config = mnist.Config(temperature=config.temperature)
    seen = transfer_set(config, case, data.train)
    trained = yield from train_stage(
        student_stage(config, case, seed, data.train),
        seen,
        mnist.soft_loss(mnist_config, logits.values[seen.example_ids], hard_weight=0.0),
        folder=folder,
        test_set=data.test,
        meter=meter,
        loss=mnist.describe_soft_loss(mnist_config, logits.teacher, hard_weight=0.0),
    )
    everything = torch.arange(len(data.train))
    validation_set = data.train.subset(everything[-config.validation :])
    validation = compute_logits(trained.network, validation_set)
    test, hard_targets = compute_logits(trained.network, data.test), data.test.hard_targets
    watched = torch.isin(hard_targets, torch.tensor(case.watched))

    def count(shift: float) -> Errors:
        wrong = is_error(shift_bias(test, case.shifted, by=shift), hard_targets)
        return Errors(int(wrong.sum()), int(wrong[watched].sum()), shift)

    errors = {
        "as_trained": count(0.0),
        "validated": count(best_shift(validation, validation_set.hard_targets, case.shifted)),
        "tuned": count(best_shift(test, hard_targets, case.shifted)),
    }
    return Outcome(errors, trained.wall_seconds, trained)


def shift_bias(
    logits: Float[Tensor, "batch classes"], classes: tuple[int, ...], *, by: float
) -> Float[Tensor, "batch classes"]:
    """Return the logits that the network would have with the biases of `classes` raised by `by`."""
    shifted = logits.clone()
    shifted[:, list(classes)] += by
    return shifted


def best_shift(
    logits: Float[Tensor, "batch all_classes"],
    hard_targets: Int[Tensor, " batch"],
    classes: tuple[int, ...],
    *,
    largest: float = 20.0,
    step: float = 0.1,
) -> float:
    """Find the shift of the biases of `classes` that makes the fewest errors.

    Of several that are alike it is the middle one: errors are about flat near their minimum.

    Args:
        logits: Of the examples to choose on, shape `[batch, all classes]`, in nats.
        hard_targets: Their true classes, shape `[batch]`.
        classes: Those whose biases are shifted, all by the same.
        largest: Shifts from −largest to +largest are tried, in nats.
        step: From one to the next, in nats.

    Source: Hinton et al. (2015), sec. 3, which chooses it on the test set.
    """
    steps = round(largest / step)
    shifts = [place * step for place in range(-steps, steps + 1)]
    errors = torch.tensor(
        [int(is_error(shift_bias(logits, classes, by=by), hard_targets).sum()) for by in shifts]
    )  # [shifts]
    best = (errors == errors.min()).nonzero().squeeze(1)
    return round(shifts[int(best[len(best) // 2])], 6)


def _result(
    config: Config, outcomes: dict[str, list[Outcome]], made_of: MadeOf, command: str
) -> ExperimentResult:
    rows = []
    for case in CASES:
        metrics = {
            "errors": "test errors",
            "watched_errors": f"test errors on {case.watched_title}",
            "shift": "shift of the biases",
        }
        for kind, text in KINDS.items():
            for name, metric in metrics.items():
                if (kind, name) == ("as_trained", "shift"):
                    continue
                values = [float(getattr(one.errors[kind], name)) for one in outcomes[case.name]]
                paper = getattr(case.paper[kind], name)
                title = case.title + text
                rows.append(ResultRow.over_seeds(title, values, metric=metric, paper=paper))
    return ExperimentResult(
        experiment=EXPERIMENT,
        command=command,
        rows=tuple(rows),
        config=asdict(config),
        machine=this_machine(),
        wall_seconds=sum(one.wall_seconds for of_case in outcomes.values() for one in of_case),
        details={
            **{
                name: [
                    {
                        "errors": {kind: asdict(each) for kind, each in one.errors.items()},
                        "wall_seconds": one.wall_seconds,
                    }
                    for one in of_case
                ]
                for name, of_case in outcomes.items()
            },
            "made_of": dict(made_of),
            "trained by": tell_machines(
                {
                    f"{name}-{seed}": one.trained
                    for name, of_case in outcomes.items()
                    for seed, one in enumerate(of_case)
                }
            ),
        },
    )
