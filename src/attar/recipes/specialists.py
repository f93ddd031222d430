"""Specialists for the classes that a generalist confuses: section 5 of Hinton et al. (2015)."""

import copy
from collections.abc import Generator, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from attar.data import TransferSet, mix_seed
from attar.distillation import soft_target_loss
from attar.errors import AttarError
from attar.models import ConvNet
from attar.recipes import generalist as generalists
from attar.recipes.folder import claim_folder, is_finished
from attar.recipes.soft_targets import label_in_pieces
from attar.recipes.specialist_config import EXPERIMENT as EXPERIMENT
from attar.recipes.specialist_config import PAPER as PAPER
from attar.recipes.specialist_config import QUICK as QUICK
from attar.recipes.specialist_config import Config as Config
from attar.recipes.specialist_parts import (
    Groups,
    find_groups,
    read_train_seconds,
    specialist_work,
    train_all,
)
from attar.recipes.specialist_tables import (
    Answers,
    ask,
    make_rows,
    table_2,
    table_4,
    tell,
    tell_kept,
)
from attar.recipes.stages import Progress, Stage, Trained, WorkMeter, train_stage
from attar.records import ExperimentResult, ResultRow, this_machine
from attar.specialists import SpecialistEnsemble
from attar.training import LossFn, TrainingSettings, hard_target_loss

_BATCH, _SHARD = 256, 4096  # examples


def run(config: Config, folder: Path, *, command: str) -> Iterator[Progress]:
    """Run the experiment in `folder`, or what is left of it; the result: `specialists.json`.

    Leaves the groups, a file for each specialist, the soft targets of all together and the network
    that they were distilled into.

    Yields:
        How far it is.

    Raises:
        AttarError: If an option, the data or the folder cannot be used, or a training diverges.
    """
    path = folder / f"{EXPERIMENT}.json"
    if is_finished(path, config):
        return
    train_set, test_set = generalists.load_sets(generalist_config(config))
    check_classes(config, train_set.classes)
    given = None
    if config.generalist:
        given = generalists.load_generalist(config.generalist, train_set)
    meter = WorkMeter(_work(config, train_set, test_set, is_given=given is not None))
    with claim_folder(folder, EXPERIMENT, asdict(config), may_grow=""):
        network, seconds = given, 0.0
        if network is None:
            trained = yield from _train_generalist(config, train_set, test_set, folder, meter)
            assert isinstance(trained.network, ConvNet)
            network, seconds = trained.network.eval(), trained.wall_seconds
        groups = yield from find_groups(config, network, train_set, folder, meter)
        ensemble = yield from train_all(config, network, groups, train_set, folder, meter)
        answers = yield from ask(ensemble, test_set, meter)
        students: dict[str, Trained] = {}
        if config.distilled_examples:
            distill = partial(_distill, config, network, ensemble, train_set, test_set)
            students = yield from distill(folder, meter)
        result = _result(config, ensemble, groups, answers, students, train_set, command)
        seconds += read_train_seconds(folder) + result.wall_seconds
        replace(result, wall_seconds=seconds).write(path)


def generalist_config(config: Config) -> generalists.Config:
    """Return the settings of the generalist that is trained here."""
    return generalists.Config(
        data=config.data,
        classes=config.classes,
        epochs=config.generalist_epochs,
        seed=config.seed,
        held_out=config.held_out,
    )


def check_classes(config: Config, classes: int) -> None:
    """Raise `AttarError` unless the groups fit the classes and leave some for the dustbin."""
    if config.special_classes >= classes or config.specialists > classes:
        raise AttarError(
            f"expected specialists of fewer than {classes} classes, and no more than as many, got "
            f"{config.specialists} of {config.special_classes}; lower --special-classes"
        )


def _work(
    config: Config, train_set: TransferSet, test_set: TransferSet, *, is_given: bool
) -> float:
    """Estimate all of it, in examples that the generalist answers."""
    work = float(min(config.sketch_examples, len(train_set)) + 2 * len(test_set))
    work += config.specialists * specialist_work(config, train_set)
    if not is_given:
        work += 3 * config.generalist_epochs * len(train_set)
    if config.distilled_examples:
        count = min(config.distilled_examples, len(train_set))
        work += 2 * count + 2 * 3 * count * config.distilled_epochs
    return work


def _train_generalist(
    config: Config, train_set: TransferSet, test_set: TransferSet, folder: Path, meter: WorkMeter
) -> Generator[Progress, None, Trained]:
    its = generalist_config(config)
    scale = _Scaled(meter, generalists.generalist_stage(its, train_set), train_set)
    return (yield from generalists.train_generalist(its, train_set, test_set, folder, scale))


class _Scaled(WorkMeter):
    """Counts a stage's work, which is in weights, in examples that the generalist answers."""

    def __init__(self, meter: WorkMeter, stage: Stage, examples: TransferSet) -> None:
        super().__init__(meter.total)
        self._meter = meter
        self._factor = 3 * stage.settings.epochs * len(examples) / stage.work(len(examples))

    def add(self, work: float, *, by_earlier_run: bool = False) -> None:
        self._meter.add(work * self._factor, by_earlier_run=by_earlier_run)
        self.done = self._meter.done

    @property
    def seconds_left(self) -> float | None:
        return self._meter.seconds_left


def _distill(
    config: Config,
    network: ConvNet,
    ensemble: SpecialistEnsemble,
    train_set: TransferSet,
    test_set: TransferSet,
    folder: Path,
    meter: WorkMeter,
) -> Generator[Progress, None, dict[str, Trained]]:
    """Distill all of it into a network like the generalist; beside it, one without soft targets."""
    generator = torch.Generator().manual_seed(mix_seed(config.seed, 5))
    order = torch.randperm(len(train_set), generator=generator)
    transfer = train_set.subset(order[: config.distilled_examples].sort().values)
    store = yield from label_in_pieces(
        "what all say together",
        ensemble,
        transfer,
        folder / "targets",
        k=config.k,
        meter=meter,
        work_per_row=2,
        shard_examples=_SHARD,
    )
    soft = soft_target_loss(
        store,
        temperature=config.distilled_temperature,
        soft_weight=1.0,
        hard_weight=config.distilled_hard_weight,
    )
    settings = TrainingSettings(
        epochs=config.distilled_epochs,
        batch_size=_BATCH,
        learning_rate=config.distilled_learning_rate,
        optimizer="adamw",
        weight_decay=config.weight_decay,
        warmup_epochs=0.1,
        seed=config.seed,
    )

    def make_network() -> nn.Module:
        return copy.deepcopy(network)

    numbers = {
        "function": "attar.distillation.soft_target_loss",
        "targets": store.fingerprint(),
        "temperature": config.distilled_temperature,
        "hard_weight": config.distilled_hard_weight,
    }
    losses: dict[str, tuple[str, LossFn, dict[str, Any] | None]] = {
        "distilled": ("all distilled into one network", soft, numbers),
        "continued": ("the generalist trained on, hard targets", hard_target_loss, None),
    }
    students = {}
    for name, (title, loss_fn, loss) in losses.items():
        stage = Stage(name, title, make_network, settings)
        scaled = _Scaled(meter, stage, transfer)
        students[name] = yield from train_stage(
            stage, transfer, loss_fn, folder=folder, test_set=test_set, meter=scaled,
            measurements=1, loss=loss,
        )  # fmt: skip
    return students


def _result(
    config: Config,
    ensemble: SpecialistEnsemble,
    groups: Groups,
    answers: Answers,
    students: dict[str, Trained],
    train_set: TransferSet,
    command: str,
) -> ExperimentResult:
    rows = make_rows(answers, groups, train_set.classes)
    names = {
        "distilled": "one network, distilled from all",
        "continued": "one network, trained on as long without",
    }
    for name, trained in students.items():
        value = round(100 * trained.evaluation.accuracy, 2)
        row = ResultRow.over_seeds(names[name], [value], metric=rows[0].metric, paper=None)
        rows.insert(2 + (name == "continued"), row)
    shown = table_2(groups, train_set.class_names)
    notes = [f"classes of one specialist: {names}" for names in shown]
    details: dict[str, Any] = {
        "notes": [*tell(answers), *_tell_kept(answers, students), *notes],
        "table 2": shown,
        "table 4": dict(table_4(answers, groups, train_set.classes)),
        "difference": asdict(answers.judge()),
        "nll": {"generalist": answers.generalist_nll, "ensemble": answers.ensemble_nll},
        "parameters": sum(each.numel() for each in ensemble.parameters()),
        "most steps of the descent": answers.steps,
        "students": {name: asdict(each.evaluation) for name, each in students.items()},
        "measured on": "held-out faces" if config.held_out else "other fonts",
    }
    return ExperimentResult(
        experiment=EXPERIMENT,
        command=command,
        rows=tuple(rows),
        config=asdict(config),
        machine=this_machine(),
        wall_seconds=sum(each.wall_seconds for each in students.values()),
        details=details,
    )


def _tell_kept(answers: Answers, students: dict[str, Trained]) -> list[str]:
    if not students:
        return []
    before = float((answers.generalist == answers.hard_targets).double().mean())
    distilled, continued = (
        students[name].evaluation.accuracy - before for name in ("distilled", "continued")
    )
    return [tell_kept(answers.judge(), distilled=distilled, continued=continued)]
