"""Soft-target losses on MNIST, at equal budget, each with the settings that suit it."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean

import torch

from attar.cohorts import Cohort
from attar.comparison import Comparison, compare
from attar.data import Mnist, load_mnist
from attar.errors import AttarError, check_not_negative, check_positive
from attar.recipes import mnist
from attar.recipes.config import option, parse_numbers
from attar.recipes.folder import COMPARISON, claim_folder, is_finished
from attar.recipes.soft_losses import HARD, HINTON, SOFT_LOSSES, Candidate, cohort_loss
from attar.recipes.stages import (
    Progress,
    Stage,
    TrainedCohort,
    WorkMeter,
    train_cohort_stage,
)
from attar.recipes.teachers import (
    TEACHERS_HELP,
    first_teacher_logits,
    load_teachers,
    teacher_stage,
)
from attar.records import ExperimentResult, ResultRow, this_machine, write_json
from attar.training import TrainingSettings

EXPERIMENT = "losses"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Small students of one teacher, without dropout or jitter, that differ by their loss alone.

    Each loss gets the temperature and the weight with which its student made the fewest errors on
    the last 10,000 training examples, trained on the others. Then students of all losses and seeds
    are trained on all of them; those of a seed start from the same weights and see the same
    batches. The hard targets' loss has weight 1 for all.
    """

    seeds: int = option(5, "Students of each loss.")
    teachers: str = option("", TEACHERS_HELP)
    teacher_units: int = option(1200, "Units in each of its hidden layers, if it is trained here.")
    teacher_epochs: int = option(
        mnist.Config().teacher_epochs, "Passes of the teacher, if it is trained here."
    )
    student_units: int = option(30, "Units in each of a student's two hidden layers.")
    temperatures: str = option("1,2,4", "From which each loss gets its own.")
    soft_weights: str = option("1,8", "From which each loss gets the soft targets' weight.")
    choice_epochs: int = option(6, "Passes of the students by which these are chosen.")
    epochs: int = option(15, "Passes of the students that are compared.")
    learning_rate: float = option(0.003, "Their highest learning rate (AdamW).")
    batch_size: int = option(256, "Examples in a batch of theirs.")
    held_out: int = option(10_000, "Training examples to choose on.")

    def __post_init__(self) -> None:
        """Check what the networks, losses and settings made from it do not."""
        check_positive(seeds=self.seeds, held_out=self.held_out)
        check_not_negative(teacher_epochs=self.teacher_epochs)
        _ = self.candidates

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """The settings to choose from, those of a loss together."""
        temperatures = parse_numbers("temperatures", self.temperatures)
        weights = parse_numbers("soft_weights", self.soft_weights)
        return tuple(
            Candidate(loss, temperature, weight)
            for loss in SOFT_LOSSES
            for temperature in temperatures
            for weight in weights
        )


QUICK = replace(
    Config(), seeds=3, teacher_epochs=4, teacher_units=400, choice_epochs=1, epochs=2,
    temperatures="2,4",
)  # fmt: skip

PAPER: dict[str, float] = {}  # Hinton et al. have their own loss alone


def run(config: Config, folder: Path, *, command: str) -> Iterator[Progress]:
    """Run the experiment in `folder`, or what is left of it; the result goes to `losses.json`.

    Yields:
        How far it is.

    Raises:
        AttarError: If an option or the folder cannot be used, or a training diverges.
    """
    path = folder / f"{EXPERIMENT}.json"
    if is_finished(path, config):
        return
    data = load_mnist()
    kept = len(data.train) - config.held_out
    if kept < 1:
        raise AttarError(f"expected held_out below {len(data.train)}, got {config.held_out}")
    first, last = torch.arange(len(data.train)).split([kept, config.held_out])
    given = load_teachers(config.teachers)
    choosing = choice_stage(config)
    finals = [final_stage(config, seed) for seed in range(config.seeds)]
    teacher = teacher_stage(config.teacher_units, config.teacher_epochs, seed=0, seeds=1)
    work = choosing.work(kept) + sum(stage.work(len(data.train)) for stage in finals)
    meter = WorkMeter(work if given else work + teacher.work(len(data.train)))
    with claim_folder(folder, EXPERIMENT, asdict(config), may_grow="seeds"):
        logits = yield from first_teacher_logits(given, teacher, data, folder=folder, meter=meter)
        train = partial(train_cohort_stage, folder=folder, meter=meter)
        tried = yield from train(
            choosing,
            data.train.subset(first),
            cohort_loss([None, *config.candidates], logits),
            test_set=data.train.subset(last),
        )
        chosen = choose(config, tried)
        trained = []
        for stage in finals:
            loss_fn = cohort_loss([None, *chosen], logits)
            of_seed = yield from train(
                stage, data.train, loss_fn, test_set=data.test, keeps_weights=True
            )
            trained.append(of_seed)
        found = replace(_compare(trained, data), command=command)
        found.save(folder / COMPARISON)
        write_json(path, _result(config, tried, chosen, trained, found, command))


def choice_stage(config: Config) -> Stage:
    """Describe the students by which settings are chosen: one on hard targets, then all others."""
    count = 1 + len(config.candidates)
    title = f"{count} students to choose settings by"
    return _stage(config, "choice", title, count, config.choice_epochs, seed=config.seeds)


def final_stage(config: Config, seed: int) -> Stage:
    """Describe the students of a seed that are compared."""
    count = 1 + len(SOFT_LOSSES)
    title = f"{count} losses, seed {seed + 1} of {config.seeds}"
    return _stage(config, f"students-{seed}", title, count, config.epochs, seed=seed)


def _stage(config: Config, name: str, title: str, count: int, epochs: int, *, seed: int) -> Stage:
    def make() -> Cohort:
        of_size = mnist.Config(student_units=config.student_units)
        return Cohort([mnist.make_student(of_size, seed) for _ in range(count)])

    settings = TrainingSettings(
        epochs=epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        optimizer="adamw",
        warmup_epochs=min(1.0, epochs / 10),
        seed=seed,
    )
    return Stage(name, title, make, settings)


def choose(config: Config, tried: TrainedCohort) -> list[Candidate]:
    """Return, for each loss, the settings with the fewest held-out errors (then the lowest NLL)."""
    found = list(zip(config.candidates, tried.evaluations[1:], strict=True))
    chosen = []
    for loss in SOFT_LOSSES:
        own = [(each.errors, each.nll, place) for place, (_, each) in enumerate(found)]
        best = min(one for one in own if found[one[2]][0].loss == loss)
        chosen.append(found[best[2]][0])
    return chosen


def _result(
    config: Config,
    tried: TrainedCohort,
    chosen: list[Candidate],
    trained: list[TrainedCohort],
    found: Comparison,
    command: str,
) -> ExperimentResult:
    names = [HARD, *SOFT_LOSSES]
    rows = [
        ResultRow.over_seeds(
            name,
            [float(of_seed.evaluations[place].errors) for of_seed in trained],
            metric="test errors",
            paper=None,
        )
        for place, name in enumerate(names)
    ]
    return ExperimentResult(
        experiment=EXPERIMENT,
        command=command,
        rows=tuple(rows),
        config=asdict(config),
        machine=this_machine(),
        wall_seconds=tried.wall_seconds + sum(each.wall_seconds for each in trained),
        details={
            "notes": [_tell_all(found), *(_tell(found, name) for name in names if name != HINTON)],
            "chosen": [asdict(each) for each in chosen],
            "held-out errors": [
                {**asdict(candidate), "errors": evaluation.errors}
                for candidate, evaluation in zip(
                    config.candidates, tried.evaluations[1:], strict=True
                )
            ],
            "nll": {
                name: [each.evaluations[place].nll for each in trained]
                for place, name in enumerate(names)
            },
            "verdicts": [asdict(each) for each in found.verdicts],
        },
    )


def _compare(trained: list[TrainedCohort], data: Mnist) -> Comparison:
    names = [HARD, *SOFT_LOSSES]
    cohorts = [each.cohort for each in trained]
    assert all(each is not None for each in cohorts)
    members = [each.members() for each in cohorts if each is not None]
    models = {name: [one[place] for one in members] for place, name in enumerate(names)}
    pairs = [(name, HINTON) for name in names if name != HINTON]
    return compare(models, data.test, pairs=pairs, latency=False)


def _tell_all(found: Comparison) -> str:
    """Say in one sentence whether another loss helps."""
    of = [found.verdict(name, HINTON) for name in SOFT_LOSSES if name != HINTON]
    better = [each.model for each in of if each and each.outcome == "better"]
    said = f"makes fewer errors: {', '.join(better)}" if better else "surely makes fewer errors"
    return f"of {len(of)} losses beyond Hinton's, {len(better) or 'none'} {said}"


def _tell(found: Comparison, name: str) -> str:
    verdict = next(each for each in found.verdicts if each.model == name)
    ours, hintons = (
        fmean(each.errors for each in found.model(which).networks) for which in (name, HINTON)
    )
    said = f"{verdict.outcome} (p = {verdict.p_value:.2g})"
    return f"{name}: {ours - hintons:+.1f} errors against Hinton's, {said}"
