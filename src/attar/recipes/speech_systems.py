"""The networks of the speech experiment: baselines that make an ensemble, and its students."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from attar.cohorts import Cohort
from attar.data import TransferSet
from attar.recipes.speech_config import Config
from attar.recipes.speech_data import Part, Prepared
from attar.recipes.speech_scoring import Score, Scorer, frame_accuracy
from attar.recipes.speech_training import (
    NetworkShape,
    doing,
    label_frames,
    make_stage,
    students_loss,
)
from attar.recipes.stages import Progress, Stage, TrainedCohort, WorkMeter, train_cohort_stage
from attar.speech.frames import Distort, FrameSet
from attar.speech.graphs import Graph, cached_graph
from attar.speech.recognition import compute_log_posteriors
from attar.speech.recognizer import Recognizer
from attar.teachers.fingerprints import hash_network
from attar.training import LossFn, hard_target_loss

_MEASURED = 8  # every so many held-out frames is measured while training
_LABELING = 0.35  # of the work of an epoch of the same networks, which go forward only


@dataclass(frozen=True)
class Systems:
    """What was trained."""

    shape: NetworkShape
    teachers: Cohort
    students: Cohort  # one for each temperature
    wall_seconds: float


@dataclass(frozen=True, slots=True)
class Scores:
    """How well each system does."""

    baselines: tuple[Score, ...]
    ensemble: Score
    distilled: Score  # of the student that has the most held-out frames right
    chosen: int  # which one that is
    held_out_accuracies: tuple[float, ...]  # of all students, one for each temperature


def train_systems(
    config: Config, prepared: Prepared, folder: Path
) -> Generator[Progress, None, Systems]:
    """Train the ensemble, keep its soft targets, and train the students from them."""
    shape = make_shape(config, prepared)
    frames = transfer_set(config, prepared)
    temperatures = config.student_temperatures
    seeds = range(config.seeds)

    def stage(name: str, title: str, cohort_seeds: list[int], seed: int) -> Stage:
        return make_stage(
            name, title, lambda: shape.make_cohort(cohort_seeds), epochs=config.epochs,
            batch_size=config.batch_size, learning_rate=config.learning_rate, seed=seed,
        )  # fmt: skip

    teachers = stage("teachers", f"{config.seeds} networks together", list(seeds), 0)
    # All students start from the same weights, which no baseline has.
    students = stage(
        "students", f"students at T = {config.temperatures}",
        [config.seeds] * len(temperatures), 1,
    )  # fmt: skip
    work = [each.work(len(frames)) for each in (teachers, students)]
    labeling = work[0] / config.epochs * _LABELING * len(config.view_numbers)
    meter = WorkMeter(sum(work) + labeling)

    trained = yield from _train(config, prepared, teachers, frames, hard_target_loss, folder, meter)
    assert trained.cohort is not None
    loss = {
        "function": "attar.recipes.speech_training.students_loss",
        "teachers": hash_network(trained.cohort),
        "k": min(config.k, shape.states),
        "temperatures": list(temperatures),
        "soft_weight": config.soft_weight,
        "hard_weight": config.hard_weight,
    }
    loss_fn: LossFn = hard_target_loss
    if not (
        folder / f"{students.name}.json"
    ).exists():  # else the soft targets have done their work
        store = yield from label_frames(
            trained.cohort, frames, folder / "soft-targets",
            k=min(config.k, shape.states), views=config.view_numbers,
            start=meter.done / meter.total, end=(meter.done + labeling) / meter.total,
        )  # fmt: skip
        loss_fn = students_loss(
            store, temperatures, soft_weight=config.soft_weight, hard_weight=config.hard_weight
        )
    meter.add(labeling, by_earlier_run=True)
    taught = yield from _train(
        config, prepared, students, frames, loss_fn, folder, meter, loss=loss
    )
    assert taught.cohort is not None
    seconds = trained.wall_seconds + taught.wall_seconds
    return Systems(shape, trained.cohort, taught.cohort, seconds)


def score_systems(
    config: Config, prepared: Prepared, systems: Systems, folder: Path
) -> Generator[Progress, None, Scores]:
    """Decode with each network, and with the ensemble; each has weights that are chosen for it."""
    yield doing("building the decoding graph", 1.0)
    graph = make_graph(prepared, folder)
    scorer = Scorer(prepared, graph, folder / "scores")
    baselines: list[Score] = []
    for place, network in enumerate(systems.teachers.members()):
        score = yield from scorer.score(f"baseline-{place}", network)
        baselines.append(score)
    ensemble = yield from scorer.score("ensemble", systems.teachers)
    yield doing("choosing the temperature", 1.0)
    accuracies = [
        frame_accuracy(compute_log_posteriors(network, prepared.held_out.packed), prepared.held_out)
        for network in systems.students.members()
    ]
    chosen = accuracies.index(max(accuracies))
    distilled = yield from scorer.score("distilled", systems.students.member(chosen))
    return Scores(tuple(baselines), ensemble, distilled, chosen, tuple(accuracies))


def make_recognizer(
    prepared: Prepared, systems: Systems, scores: Scores, folder: Path
) -> Recognizer:
    """Put together what the distilled network needs to recognize words."""
    shape = systems.shape
    network = systems.students.member(scores.chosen).eval()
    assert isinstance(network, nn.Sequential)
    return Recognizer(
        network,
        (shape.states, shape.layers, shape.units, shape.inputs),
        tuple(prepared.log_priors.tolist()),
        prepared.corpus.filterbanks,
        prepared.tree,
        prepared.lexicon,
        make_graph(prepared, folder),
        scores.distilled.settings,
    )


def make_graph(prepared: Prepared, folder: Path) -> Graph:
    """Build the decoding graph, or take it from the folder."""
    return cached_graph(
        folder / "graphs", prepared.lexicon, prepared.language_model, prepared.tree,
        prepared.topology,
    )  # fmt: skip


def make_shape(config: Config, prepared: Prepared) -> NetworkShape:
    """Say what every network looks like."""
    return NetworkShape(
        states=prepared.tree.states,
        inputs=prepared.train.packed.window_dims,
        layers=config.layers,
        units=config.units,
        dropout=config.dropout,
    )


def transfer_set(config: Config, prepared: Prepared) -> FrameSet:
    """Make the set that every network learns from, with the views that it sees."""
    dims = prepared.train.packed.frames.shape[1]
    views = Distort(
        dims, shift=config.shift, frames=config.masked_frames, band=min(config.masked_band, dims)
    )
    return frame_set(prepared.train, prepared, views=views if config.views else None)


def frame_set(
    part: Part,
    prepared: Prepared,
    *,
    class_names: Sequence[str] | None = None,
    views: Distort | None = None,
) -> FrameSet:
    """Make a transfer set of a part of the corpus."""
    return FrameSet(
        part.packed, part.states, classes=prepared.tree.states, class_names=class_names, views=views
    )


def some_frames(part: Part, prepared: Prepared) -> TransferSet:
    """Choose every so many frames of a part, to measure networks on while they are trained."""
    whole = frame_set(part, prepared)
    return whole.subset(torch.arange(0, len(whole), _MEASURED))


def _train(
    config: Config, prepared: Prepared, stage: Stage, frames: FrameSet, loss_fn: LossFn,
    folder: Path, meter: WorkMeter, *, loss: Mapping[str, Any] | None = None,
) -> Generator[Progress, None, TrainedCohort]:  # fmt: skip
    return (
        yield from train_cohort_stage(
            stage, frames, loss_fn, folder=folder,
            test_set=some_frames(prepared.held_out, prepared), meter=meter,
            views=config.view_numbers, keeps_weights=True, loss=loss,
        )
    )  # fmt: skip
