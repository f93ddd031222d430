"""Soft targets as regularizers: section 6 and table 5 of Hinton, Vinyals & Dean (2015)."""

import copy
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from attar.data import Batch, TransferSet
from attar.errors import AttarError, FolderError, check_positive
from attar.evaluation import evaluate
from attar.losses import SparseTargets, sparse_distillation_loss
from attar.modes import evaluation_mode
from attar.recipes.config import option, restore_config
from attar.recipes.folder import claim_folder, is_finished
from attar.recipes.speech_config import Config as SpeechConfig
from attar.recipes.speech_data import Part, Prepared, prepare
from attar.recipes.speech_results import EXPERIMENT as SPEECH
from attar.recipes.speech_systems import make_shape, some_frames, transfer_set
from attar.recipes.speech_training import doing, make_stage
from attar.recipes.stages import Progress, Stage, WorkMeter
from attar.records import (
    ExperimentResult,
    ResultRow,
    read_sealed_json,
    this_machine,
    write_sealed_json,
)
from attar.targets import SoftTargets
from attar.teachers.fingerprints import hash_value
from attar.training import LossFn, TrainingRun, hard_target_loss, load_weights

EXPERIMENT = "speech-regularizer"

_EVERY = 10  # of all training frames, these are measured
_BATCH = 1024  # frames

# Train and test frame accuracy, in percent: Hinton et al. (2015), table 5.
PAPER = {"all, hard": (63.4, 58.9), "part, hard": (67.3, 44.5), "part, soft": (65.4, 57.0)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Networks that see 3 % of the frames, with hard targets or with soft ones.

    Whole utterances are drawn, other ones for each seed. The soft targets are those of a finished
    run of `attar reproduce speech`, whose baselines are also the networks that saw everything.
    """

    run: str = option("runs/speech", "Folder of a finished run of `attar reproduce speech`.")
    seeds: int = option(3, "Number of networks of each kind; each seed draws other frames.")
    share: float = option(0.03, "Share of the training frames.")
    epochs: int = option(25, "Passes over these frames.")
    temperature: float = option(2.0, "Temperature of the soft targets.")
    hard_weight: float = option(
        0.0, "Weight of the hard targets' loss; that of the soft targets is 1."
    )

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_positive(seeds=self.seeds, share=self.share, epochs=self.epochs)
        if self.share >= 1 or self.temperature < 1:
            found = f"got share {self.share}, temperature {self.temperature}"
            raise AttarError(f"expected share < 1 and temperature >= 1, {found}")


QUICK = replace(Config(), run="runs/speech-quick", seeds=2, epochs=10)


@dataclass(frozen=True, slots=True)
class Kind:
    """Networks that learn from the same thing."""

    name: str
    title: str
    stops_early: bool


HARD = Kind("hard", "hard targets, early stopping", stops_early=True)
SOFT = Kind("soft", "soft targets", stops_early=False)


@dataclass(frozen=True, slots=True)
class Kept:
    """How well a network does, at the end or where it stopped."""

    train: float  # frame accuracy on what it learned from
    test: float
    epochs: int  # after which it was taken
    frames: int  # that it learned from
    wall_seconds: float  # of the training steps


def run(config: Config, folder: Path, *, command: str) -> Iterator[Progress]:
    """Run the experiment in `folder`; the result goes to `speech-regularizer.json`.

    Yields:
        How far it is.

    Raises:
        AttarError: If an option, the run or the folder cannot be used, or a training diverges.
    """
    path = folder / f"{EXPERIMENT}.json"
    if is_finished(path, config):
        return
    speech = Path(config.run)
    finished = speech / f"{SPEECH}.json"
    if not finished.exists():
        found = f"expected a finished run of `attar reproduce {SPEECH}` in {speech}"
        raise FolderError(f"{found}, got no {finished.name}; say with --run where one is")
    of_speech = restore_config(SpeechConfig, ExperimentResult.read(finished).config, finished)
    with claim_folder(folder, EXPERIMENT, asdict(config), may_grow=""):
        prepared = yield from prepare(of_speech, speech)
        store = SoftTargets.open(speech / "soft-targets")
        everything = transfer_set(of_speech, prepared)
        store.check_made_for(data=everything.fingerprint(), class_names=everything.class_names)
        parts = [
            everything.subset(draw_utterances(prepared.train, config.share, seed=seed))
            for seed in range(config.seeds)
        ]
        work = sum(_stage(config, of_speech, prepared, HARD, 0).work(len(part)) for part in parts)
        meter = WorkMeter(2 * work)
        others = [
            (each.packed.frames, each.packed.offsets, each.states)
            for each in (prepared.held_out, prepared.test)
        ]
        kept: dict[str, list[Kept]] = {HARD.name: [], SOFT.name: []}
        for seed, part in enumerate(parts):
            made_of = hash_value([part.fingerprint(), store.fingerprint(), *others])
            train = partial(_train, config, of_speech, prepared, part, made_of, folder, meter)
            soft = soft_loss(store, part.example_ids, config)
            kept[HARD.name].append((yield from train(HARD, seed, hard_target_loss)))
            kept[SOFT.name].append((yield from train(SOFT, seed, soft)))
        yield doing("measuring the networks that saw everything", 1.0)
        all_hard = _measure_teachers(of_speech, prepared, speech)
        _result(config, of_speech, prepared, all_hard, kept, command).write(path)


def draw_utterances(part: Part, share: float, *, seed: int) -> Int64[Tensor, " frames"]:
    """Draw whole utterances until they have this share of the frames, and return their frames."""
    offsets = part.packed.offsets
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(part.utterances), generator=generator).tolist()
    chosen, frames = [], 0
    for place in order:
        if frames >= share * len(part.packed):
            break
        chosen.append(place)
        frames += int(offsets[place + 1] - offsets[place])
    return torch.cat([part.packed.utterance(place) for place in sorted(chosen)])


def soft_loss(store: SoftTargets, ids: Int64[Tensor, " frames"], config: Config) -> LossFn:
    """Make the loss of networks that learn from kept soft targets of some frames."""

    def loss_fn(logits: Tensor, batch: Batch) -> Tensor:
        targets = store.batch(ids[batch.indices], batch.view)
        assert isinstance(targets, SparseTargets)
        return sparse_distillation_loss(
            logits,
            targets,
            batch.hard_targets,
            temperature=config.temperature,
            soft_weight=1.0,
            hard_weight=config.hard_weight,
        ).mean()

    return loss_fn


def _train(
    config: Config,
    of_speech: SpeechConfig,
    prepared: Prepared,
    part: TransferSet,
    made_of: str,
    folder: Path,
    meter: WorkMeter,
    kind: Kind,
    seed: int,
    loss_fn: LossFn,
) -> Generator[Progress, None, Kept]:
    """Train a network of a kind; with early stopping it is taken after its best epoch."""
    stage = _stage(config, of_speech, prepared, kind, seed)
    path = folder / f"{stage.name}.json"
    work = stage.work(len(part))
    measured = some_frames(prepared.held_out, prepared)
    if path.exists():
        meter.add(work, by_earlier_run=True)
        return _read_kept(path, made_of)
    network = stage.make_network()
    run = TrainingRun(network, part, loss_fn, stage.settings, views=of_speech.view_numbers)
    best, taken, epochs = -1.0, network, config.epochs
    for step in run:
        meter.add(work / run.steps)
        yield doing(f"{stage.title} · {step}", meter.done / meter.total)
        if step.epoch is None or not kind.stops_early:
            continue
        accuracy = evaluate(network, measured).accuracy
        if accuracy > best:
            best, taken, epochs = accuracy, copy.deepcopy(network), step.epoch.index
    kept = Kept(
        _accuracy(taken, prepared.train, part.example_ids),
        _accuracy(taken, prepared.test),
        epochs,
        len(part),
        sum(epoch.train_seconds for epoch in run.history),
    )
    write_sealed_json(path, asdict(kept) | {"made_of": made_of})
    return kept


def _stage(
    config: Config, of_speech: SpeechConfig, prepared: Prepared, kind: Kind, seed: int
) -> Stage:
    shape = make_shape(of_speech, prepared)
    return make_stage(
        f"{kind.name}-{seed}", f"{kind.title}, seed {seed}", lambda: shape.make(seed),
        epochs=config.epochs, batch_size=of_speech.batch_size,
        learning_rate=of_speech.learning_rate, seed=seed,
    )  # fmt: skip


def _measure_teachers(of_speech: SpeechConfig, prepared: Prepared, speech: Path) -> list[Kept]:
    """Measure the networks of the speech run that saw every frame with its hard target."""
    cohort = make_shape(of_speech, prepared).make_cohort(range(of_speech.seeds))
    load_weights(speech / "teachers.safetensors", cohort)
    frames = len(prepared.train.packed)
    some = torch.arange(0, frames, _EVERY)
    return [
        Kept(
            _accuracy(each, prepared.train, some),
            _accuracy(each, prepared.test),
            of_speech.epochs,
            frames,
            0.0,  # they were trained by another run
        )
        for each in cohort.members()
    ]


def _accuracy(network: nn.Module, part: Part, frames: Tensor | None = None) -> float:
    """Return the fraction of the plain frames of a part, or of some, whose state is right."""
    chosen = torch.arange(len(part.packed)) if frames is None else frames
    right = 0
    with evaluation_mode(network), torch.inference_mode():
        for indices in chosen.split(_BATCH):
            answer = network(part.packed.windows(indices)).argmax(dim=1)
            right += int((answer == part.states[indices]).sum())
    return right / len(chosen)


def _read_kept(path: Path, made_of: str) -> Kept:
    content = read_sealed_json(path)
    if content.pop("made_of", None) != made_of:
        raise FolderError(
            f"{path} was made from another speech run than the one that is there now; "
            "choose another folder with --out"
        )
    try:
        return Kept(**content)
    except TypeError as error:
        raise FolderError(f"{path} is damaged ({error}); remove it to train again") from error


def _result(
    config: Config,
    of_speech: SpeechConfig,
    prepared: Prepared,
    all_hard: list[Kept],
    kept: dict[str, list[Kept]],
    command: str,
) -> ExperimentResult:
    frames = [each.frames for each in kept[HARD.name]]
    share = fmean(frames) / len(prepared.train.packed)
    of_kinds = {
        "all, hard": ("all frames, hard targets", all_hard),
        "part, hard": (f"{share:.1%}, {HARD.title}", kept[HARD.name]),
        "part, soft": (f"{share:.1%}, {SOFT.title}, T = {config.temperature:g}", kept[SOFT.name]),
    }
    rows = [
        ResultRow.over_seeds(
            name,
            [100 * (each.train if where == "train" else each.test) for each in found],
            metric=f"{where} frame accuracy, %",
            paper=PAPER[kind][place],
        )
        for place, where in enumerate(("train", "test"))
        for kind, (name, found) in of_kinds.items()
    ]
    return ExperimentResult(
        experiment=EXPERIMENT,
        command=command,
        rows=tuple(rows),
        config=asdict(config),
        machine=this_machine(),
        wall_seconds=sum(each.wall_seconds for found in kept.values() for each in found),
        details={
            "speech": asdict(of_speech),
            "corpus": prepared.describe(),
            "frames": frames,
            "epochs": {name: [each.epochs for each in found] for name, found in kept.items()},
            "notes": [
                f"{share:.1%} of the frames with soft targets: {rows[5].mean:.1f} % test frame "
                f"accuracy, with hard ones {rows[4].mean:.1f} %, all of them {rows[3].mean:.1f} % "
                "(the paper: 57.0, 44.5 and 58.9)",
                "each seed has other utterances, first weights and order; the teacher is the same "
                "for all, so ± does not contain what another one would change",
                "train frame accuracy is measured on the plain frames that a network learned from; "
                f"of all frames, on every {_EVERY}th",
            ],
        },
    )
