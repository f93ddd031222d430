"""Soft targets as regularizers: section 6 of Hinton, Vinyals & Dean (2015), table 5."""

from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import nn

from attar.data import Distortion, TransferSet, draw_bits, mix_seed
from attar.distillation import soft_target_loss
from attar.errors import AttarError
from attar.evaluation import evaluate
from attar.models import ConvNet
from attar.recipes.early_stopping import train_to_the_best
from attar.recipes.folder import claim_folder, is_finished
from attar.recipes.generalist import Config as GeneralistConfig
from attar.recipes.generalist import (
    generalist_stage,
    load_generalist,
    load_sets,
    make_generalist,
    train_generalist,
)
from attar.recipes.regularizer_config import QUICK as QUICK  # beside `run`, as in every recipe
from attar.recipes.regularizer_config import Config as Config
from attar.recipes.soft_targets import label_in_pieces
from attar.recipes.stages import Progress, Stage, Trained, WorkMeter, train_stage
from attar.records import ExperimentResult, ResultRow, this_machine
from attar.training import TrainingSettings, hard_target_loss

EXPERIMENT = "regularizer"
_DESIGNS, _SHARE, _HELD_OUT = 0, 1, 2  # streams of seeds
PAPER = {  # frame accuracies of speech: on the examples trained on, and on the test set
    "all": (0.634, 0.589),
    "hard": (0.673, 0.445),
    "soft": (0.654, 0.570),
}


@dataclass(frozen=True, slots=True)
class SmallSet:
    """A few of the training examples."""

    name: str  # of its files
    title: str
    examples: TransferSet


def run(config: Config, folder: Path, *, command: str) -> Iterator[Progress]:
    """Run the experiment in `folder`, or what is left of it.

    Yields:
        How far it is.

    Raises:
        AttarError: If an option, the data or the folder cannot be used, or a training diverges.
    """
    path = folder / f"{EXPERIMENT}.json"
    if is_finished(path, config):
        return
    general = GeneralistConfig(
        data=config.data,
        classes=config.classes,
        epochs=config.generalist_epochs,
        seed=config.seed,
    )
    train_set, test_set = load_sets(general)
    teacher: nn.Module | None = None
    if config.generalist:
        teacher = load_generalist(config.generalist, train_set)
    small, held_out = choose_sets(config, train_set)
    stages = {
        (each.name, kind): _stage(config, each, kind) for each in small for kind in ("hard", "soft")
    }
    work = sum(stages[each.name, kind].work(len(each.examples)) for each, kind in _pairs(small))
    work += sum(_labeling_work(config, stages[each.name, "soft"], each) for each in small)
    if teacher is None:
        work += generalist_stage(general, train_set).work(len(train_set))
    meter = WorkMeter(work)
    with claim_folder(folder, EXPERIMENT, asdict(config), may_grow=""):
        seconds = 0.0
        if teacher is None:
            trained = yield from train_generalist(general, train_set, test_set, folder, meter)
            teacher, seconds = trained.network.eval(), trained.wall_seconds
        networks: dict[tuple[str, str], Trained] = {}
        for each, kind in _pairs(small):
            stage = stages[each.name, kind]
            if kind == "hard":
                networks[each.name, kind] = yield from train_to_the_best(
                    stage,
                    each.examples.with_views(Distortion(seed=config.seed)),
                    hard_target_loss,
                    held_out=held_out,
                    folder=folder,
                    test_set=test_set,
                    meter=meter,
                )
            else:
                networks[each.name, kind] = yield from _distill(
                    config, stage, each, teacher, test_set, folder, meter
                )
        result = _result(config, teacher, small, networks, train_set, test_set, command)
        seconds += sum(one.wall_seconds for one in networks.values())
        replace(result, wall_seconds=seconds).write(path)


def _pairs(small: list[SmallSet]) -> list[tuple[SmallSet, str]]:
    return [(each, kind) for each in small for kind in ("hard", "soft")]


def choose_sets(config: Config, train_set: TransferSet) -> tuple[list[SmallSet], TransferSet]:
    """Choose the two small sets by lot, and of the other examples those for the early stopping."""
    everything = torch.arange(len(train_set))
    lots = draw_bits(mix_seed(config.seed, _DESIGNS), 0, everything, draws=3)  # [examples, 3]
    order = lots[:, 0].argsort()
    targets = train_set.hard_targets[order]
    by_class = targets.argsort(stable=True)  # within a class still in the order of the lots
    sorted_targets = targets[by_class]
    starts = torch.ones(len(targets), dtype=torch.bool)
    starts[1:] = sorted_targets[1:] != sorted_targets[:-1]
    designs = order[by_class[starts]].sort().values
    count = max(1, round(config.share * len(train_set)))
    share = lots[:, 1].argsort()[:count].sort().values
    used = torch.isin(everything, torch.cat([designs, share]))
    rest = lots[:, 2].masked_fill(used, torch.iinfo(torch.int64).max).argsort()
    rest = rest[: min(config.held_out, int((~used).sum()))]
    if not len(rest):
        raise AttarError("expected examples in neither small set, got none; take a smaller share")
    per_class = len(train_set) / train_set.classes
    small = [
        SmallSet("designs", f"1 of {per_class:.0f} designs a class", train_set.subset(designs)),
        SmallSet("share", f"{config.share:.0%} of the examples", train_set.subset(share)),
    ]
    return small, train_set.subset(rest)


def _stage(config: Config, small: SmallSet, kind: str) -> Stage:
    steps = config.hard_steps if kind == "hard" else config.soft_steps
    examples = small.examples
    steps_per_epoch = -(-len(examples) // config.batch_size)
    settings = TrainingSettings(
        epochs=max(1, round(steps / steps_per_epoch)),
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        optimizer="adamw",
        weight_decay=GeneralistConfig().weight_decay,
        warmup_epochs=1,
        seed=config.seed,
    )

    def make() -> ConvNet:
        return make_generalist(GeneralistConfig(seed=config.seed), examples)

    return Stage(f"{kind}-{small.name}", f"{kind} targets, {small.title}", make, settings)


def _labeling_work(config: Config, stage: Stage, small: SmallSet) -> float:
    """Estimate the labeling's cost in the stage's units; an update costs three answers."""
    per_epoch = stage.work(len(small.examples)) / stage.settings.epochs
    return per_epoch * config.views / 3


def _distill(
    config: Config,
    stage: Stage,
    small: SmallSet,
    teacher: nn.Module,
    test_set: TransferSet,
    folder: Path,
    meter: WorkMeter,
) -> Generator[Progress, None, Trained]:
    """Label some views of the small set, and train on their soft targets alone."""
    seen = small.examples.with_views(Distortion(seed=config.seed))
    views = range(1, config.views + 1)
    store = yield from label_in_pieces(
        f"what the generalist says, {small.title}",
        teacher,
        seen,
        folder / f"targets-{small.name}",
        k=config.k,
        meter=meter,
        work_per_row=_labeling_work(config, stage, small) / (len(seen) * len(views)),
        views=views,
    )
    loss_fn = soft_target_loss(
        store, temperature=config.temperature, soft_weight=1.0, hard_weight=0.0
    )
    return (
        yield from train_stage(
            stage,
            seen,
            loss_fn,
            folder=folder,
            test_set=test_set,
            meter=meter,
            measurements=1,
            views=views,
            loss={
                "function": "attar.distillation.soft_target_loss",
                "targets": store.fingerprint(),
                "temperature": config.temperature,
            },
        )
    )


def _result(
    config: Config,
    teacher: nn.Module,
    small: list[SmallSet],
    networks: dict[tuple[str, str], Trained],
    train_set: TransferSet,
    test_set: TransferSet,
    command: str,
) -> ExperimentResult:
    def row(name: str, metric: str, value: float, paper: float | None) -> ResultRow:
        return ResultRow.over_seeds(name, [value], metric=metric, paper=paper)

    on_trained, on_test = "accuracy on its examples", "accuracy on other fonts"
    whole = evaluate(teacher, test_set).accuracy
    rows = [row("all examples, hard targets", on_test, whole, PAPER["all"][1])]
    for each, kind in _pairs(small):
        # The paper's small set is 3 % of the examples; it has no other.
        papers = PAPER[kind] if each.name == "share" else (None, None)
        trained = networks[each.name, kind]
        name = f"{each.title}, {kind} targets"
        seen = evaluate(trained.network, each.examples).accuracy
        rows += [
            row(name, on_trained, seen, papers[0]),
            row(name, on_test, trained.evaluation.accuracy, papers[1]),
            row(
                name,
                "share of the whole data's accuracy",
                trained.evaluation.accuracy / whole,
                None if papers[1] is None else papers[1] / PAPER["all"][1],
            ),
        ]
    return ExperimentResult(
        experiment=EXPERIMENT,
        command=command,
        rows=tuple(rows),
        config=asdict(config),
        machine=this_machine(),
        wall_seconds=0.0,
        details={
            "examples": {each.name: len(each.examples) for each in small} | {"all": len(train_set)},
            "evaluations": {
                f"{kind}-{name}": asdict(one.evaluation) for (name, kind), one in networks.items()
            },
            "notes": [
                _tell_kept(small[-1].title, networks, whole),
                tell_trainings(config),
                "The paper's numbers are of frames of speech: compare the shares.",
            ],
        },
    )


def tell_trainings(config: Config) -> str:
    """Say in what the two trainings differ beside their targets."""
    return (
        f"one seed; with soft targets {config.soft_steps:,} steps on {config.views} views of each "
        "example, labeled by the network that learned from all examples, with hard targets the "
        f"best of at most {config.hard_steps:,} steps: the difference is of the two trainings, not "
        "of the targets alone"
    )


def _tell_kept(title: str, networks: dict[tuple[str, str], Trained], whole: float) -> str:
    """Say what either kind of target makes of the few examples that the paper has too."""
    hard, soft = (networks["share", kind].evaluation.accuracy / whole for kind in ("hard", "soft"))
    papers = [PAPER[kind][1] / PAPER["all"][1] for kind in ("hard", "soft")]
    return (
        f"with {title}, soft targets keep {soft:.0%} of the whole data's accuracy, hard targets "
        f"{hard:.0%} (the paper: {papers[1]:.0%} and {papers[0]:.0%})"
    )
