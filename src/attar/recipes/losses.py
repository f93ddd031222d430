"""Soft-target losses at equal budget, each with tuned settings, on digits or glyphs."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import nn

from attar.cohorts import Cohort
from attar.comparison import Comparison, compare
from attar.data import TransferSet, load_mnist, mix_seed
from attar.errors import AttarError, check_not_negative, check_positive
from attar.models import mlp
from attar.recipes import mnist
from attar.recipes.config import choice_seed, option, parse_numbers
from attar.recipes.folder import COMPARISON, claim_folder, is_finished
from attar.recipes.generalist import load_generalist
from attar.recipes.loss_examples import Examples, take_digits, take_glyphs
from attar.recipes.soft_losses import (
    HARD,
    HINTON,
    SOFT_LOSSES,
    Candidate,
    cohort_loss,
    describe_cohort_loss,
)
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
from attar.records import ExperimentResult, ResultRow, this_machine
from attar.training import TrainingSettings

EXPERIMENT = "losses"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Small students of one teacher, without dropout or jitter, that differ by their loss alone.

    They learn MNIST, or the classes of a folder of glyphs. Each loss gets the temperature and the
    weight with which its student made the fewest errors on held-out training examples, trained on
    the others. Then students of all losses and seeds are trained on all of them; those of a seed
    start from the same weights and see the same batches, which are not those of the students that
    settings were chosen by. The hard targets' loss has weight 1 for all.
    """

    seeds: int = option(5, "Number of students per loss.")
    data: str = option("", "Folder of glyphs to use instead of MNIST; needs --generalist.")
    generalist: str = option(
        "", "Folder of a finished `attar reproduce generalist`, the teacher for glyphs."
    )
    classes: int = option(1000, "Number of glyph classes to use; 0 for all.")
    held_out_faces: int = option(12, "Glyph faces of the training set held out to choose settings.")
    teachers: str = option("", TEACHERS_HELP)
    teacher_units: int = option(
        1200, "Units in each hidden layer of a teacher that is trained here."
    )
    teacher_epochs: int = option(
        mnist.Config().teacher_epochs, "Passes of a teacher that is trained here."
    )
    student_units: int = option(30, "Units in each of a student's two hidden layers.")
    temperatures: str = option("1,2,4", "Candidate temperatures; one is chosen per loss.")
    soft_weights: str = option("1,8", "Candidate soft weights; one is chosen per loss.")
    choice_epochs: int = option(6, "Passes of the students that choose settings.")
    epochs: int = option(15, "Passes of the students that are compared.")
    learning_rate: float = option(0.003, "Peak learning rate of the students (AdamW).")
    batch_size: int = option(256, "Examples in a batch of the students.")
    held_out: int = option(10_000, "MNIST training examples held out to choose settings.")

    def __post_init__(self) -> None:
        """Check the values that networks, losses and settings do not check."""
        check_positive(seeds=self.seeds, held_out=self.held_out, held_out_faces=self.held_out_faces)
        check_not_negative(teacher_epochs=self.teacher_epochs, classes=self.classes)
        if bool(self.data) != bool(self.generalist):
            raise AttarError(
                "expected --data and --generalist together, the glyphs and the network that teaches"
                f" them, got {self.data or self.generalist!r} alone; "
                "`attar reproduce generalist` trains one"
            )
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
    examples = take_examples(config)
    train_set = examples.train_set
    given = load_given(config, train_set)
    made_of = describe_sources(config, given, examples)
    if is_finished(path, config, made_of):
        return
    choosing = choice_stage(config, train_set)
    finals = [final_stage(config, train_set, seed) for seed in range(config.seeds)]
    teacher = teacher_stage(config.teacher_units, config.teacher_epochs, seed=0, seeds=1)
    work = choosing.work(len(examples.first)) + sum(stage.work(len(train_set)) for stage in finals)
    meter = WorkMeter(work if given else work + teacher.work(len(train_set)))
    with claim_folder(folder, EXPERIMENT, asdict(config), may_grow="seeds"):
        logits = yield from first_teacher_logits(
            given, teacher, train_set, examples.test_set, folder=folder, meter=meter
        )
        train = partial(train_cohort_stage, folder=folder, meter=meter)
        candidates = [None, *config.candidates]
        tried = yield from train(
            choosing,
            train_set.subset(examples.first),
            cohort_loss(candidates, logits.values[examples.first]),
            test_set=train_set.subset(examples.held_out),
            loss=describe_cohort_loss(candidates, logits.teacher),
        )
        chosen = choose(config, tried)
        trained = []
        for stage in finals:
            members = [None, *chosen]
            of_seed = yield from train(
                stage,
                train_set,
                cohort_loss(members, logits.values),
                test_set=examples.test_set,
                keeps_weights=True,
                loss=describe_cohort_loss(members, logits.teacher),
            )
            trained.append(of_seed)
        found = replace(_compare(trained, examples.test_set), command=command)
        found.save(folder / COMPARISON)
        result = _result(config, tried, chosen, trained, found, examples, command)
        result.details["made_of"] = made_of
        result.write(path)


def take_examples(config: Config) -> Examples:
    """Take digits or glyphs; raise `AttarError` if they are not there or too few."""
    if config.data:
        return take_glyphs(config.data, config.classes, config.held_out_faces)
    return take_digits(load_mnist(), config.held_out)


def load_given(config: Config, train_set: TransferSet) -> list[nn.Module]:
    """Load the teacher of an earlier run, in a list; none if one is to be trained here."""
    if config.data:
        return [load_generalist(config.generalist, train_set)]
    return load_teachers(config.teachers)[:1]


def describe_sources(
    config: Config, given: Sequence[nn.Module], examples: Examples
) -> dict[str, Any]:
    """Say what the result depends on beside the configuration: teacher, and glyphs if any."""
    teachers = describe_teachers(given, config.teacher_units, config.teacher_epochs)
    if not config.data:
        return teachers  # MNIST is the same everywhere
    sets = {"train data": examples.train_set, "test data": examples.test_set}
    return teachers | {name: each.fingerprint() for name, each in sets.items()}


def choice_stage(config: Config, train_set: TransferSet) -> Stage:
    """Describe the students by which settings are chosen: one on hard targets, then all others.

    They are the same for any number of final seeds.
    """
    count, seed = 1 + len(config.candidates), choice_seed(0)
    title = f"{count} students to choose settings by"
    make = partial(make_students, config, train_set, count, seed)
    return Stage("choice", title, make, _settings(config, config.choice_epochs, seed))


def final_stage(config: Config, train_set: TransferSet, seed: int) -> Stage:
    """Describe the students of a seed that are compared."""
    count = 1 + len(SOFT_LOSSES)
    title = f"{count} losses, seed {seed + 1} of {config.seeds}"
    make = partial(make_students, config, train_set, count, seed)
    return Stage(f"students-{seed}", title, make, _settings(config, config.epochs, seed))


def make_students(config: Config, train_set: TransferSet, count: int, seed: int) -> Cohort:
    """Make so many untrained students for a set's images and classes, all with the same weights."""

    def make() -> nn.Module:
        return mlp(
            train_set.batch(torch.tensor([0])).inputs.numel(),
            [config.student_units] * 2,
            train_set.classes,
            generator=torch.Generator().manual_seed(mix_seed(seed, 1)),
            initial_scale=mnist.Config().initial_scale,
        )

    return Cohort([make() for _ in range(count)])


def _settings(config: Config, epochs: int, seed: int) -> TrainingSettings:
    return TrainingSettings(
        epochs=epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        optimizer="adamw",
        warmup_epochs=min(1.0, epochs / 10),
        seed=seed,
    )


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
    examples: Examples,
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
            "examples": {
                name: len(each)
                for name, each in (
                    ("train", examples.train_set),
                    ("held out of these to choose on", examples.held_out),
                    ("test", examples.test_set),
                )
            },
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
            "trained by": tell_machines(
                {"choice": tried}
                | {f"students-{seed}": of_seed for seed, of_seed in enumerate(trained)}
            ),
        },
    )


def _compare(trained: list[TrainedCohort], test_set: TransferSet) -> Comparison:
    names = [HARD, *SOFT_LOSSES]
    cohorts = [each.cohort for each in trained]
    assert all(each is not None for each in cohorts)
    members = [each.members() for each in cohorts if each is not None]
    models = {name: [one[place] for one in members] for place, name in enumerate(names)}
    pairs = [(name, HINTON) for name in names if name != HINTON]
    return compare(models, test_set, pairs=pairs, latency=False)


def _tell_all(found: Comparison) -> str:
    """Say in one sentence whether another loss helps."""
    of = [found.verdict(name, HINTON) for name in SOFT_LOSSES if name != HINTON]
    better = [each.model for each in of if each and each.outcome == "better"]
    losses = f"of {len(of)} losses other than Hinton's"
    if not better:
        return f"{losses}, none makes significantly fewer errors"
    make = "makes" if len(better) == 1 else "make"
    return f"{losses}, {len(better)} {make} significantly fewer errors: {', '.join(better)}"


def _tell(found: Comparison, name: str) -> str:
    verdict = next(each for each in found.verdicts if each.model == name)
    ours, hintons = (
        fmean(each.errors for each in found.model(which).networks) for which in (name, HINTON)
    )
    said = f"{verdict.outcome} (p = {verdict.p_value:.2g})"
    return f"{name}: {ours - hintons:+.1f} errors against Hinton's, {said}"
