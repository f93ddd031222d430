"""What a stage left is used again only if it was made of the same, and no byte of it changed."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from attar.cohorts import Cohort
from attar.data import Jitter, TransferSet
from attar.errors import AttarError, FolderError
from attar.models import mlp
from attar.precision import VARIABLE
from attar.recipes import early_stopping, stages
from attar.recipes.early_stopping import train_to_the_best
from attar.recipes.stages import Stage, WorkMeter, load_network, train_cohort_stage, train_stage
from attar.training import TrainingRun, TrainingSettings, hard_target_loss, save_weights

SETTINGS = TrainingSettings(epochs=2, batch_size=50, learning_rate=0.1, seed=0)
LOSS = {"function": "scaled", "factor": 2.0}


def make_network(seed=0):
    return mlp(784, [5, 5], 10, generator=torch.Generator().manual_seed(seed))


def make_cohort():
    return Cohort([make_network(0), make_network(1)])


STAGE = Stage("student", "a student", make_network, SETTINGS)


def scaled(logits, batch):
    return 2.0 * hard_target_loss(logits, batch)


def finish(training):
    """Train to the end; return what the training returns."""
    while True:
        try:
            next(training)
        except StopIteration as ended:
            return ended.value


@pytest.fixture
def train(tmp_path, few_digits):
    """Make the function that trains a stage in one folder, with some arguments changed."""

    def run(stage=STAGE, transfer_set=few_digits.train, loss_fn=scaled, loss=LOSS, **options):
        kept = {"folder": tmp_path, "test_set": few_digits.test, "meter": WorkMeter(1e9)}
        return finish(train_stage(stage, transfer_set, loss_fn, loss=loss, **kept | options))

    return run


def changed_examples(examples):
    inputs = examples.batch(torch.arange(len(examples))).inputs.clone()
    inputs[0, 0, 0] += 0.5
    return TransferSet(inputs, examples.hard_targets, classes=10)


CHANGES = {
    "settings.learning_rate 0.1, now 0.2": lambda digits: {
        "stage": replace(STAGE, settings=replace(SETTINGS, learning_rate=0.2))
    },
    "settings.seed 0, now 3": lambda digits: {
        "stage": replace(STAGE, settings=replace(SETTINGS, seed=3))
    },
    "first weights [0-9a-f]{8}, now [0-9a-f]{8}": lambda digits: {
        "stage": replace(STAGE, make_network=partial(make_network, seed=1))
    },
    r"loss\.factor 2\.0, now 3\.0": lambda digits: {"loss": LOSS | {"factor": 3.0}},
    r"loss\.factor 2\.0, now absent": lambda digits: {"loss_fn": hard_target_loss, "loss": None},
    ": data [0-9a-f]{8}, now": lambda digits: {"transfer_set": changed_examples(digits.train)},
    "test data [0-9a-f]{8}, now": lambda digits: {"test_set": changed_examples(digits.test)},
    "maker of views null, now .*Jitter": lambda digits: {
        "transfer_set": digits.train.with_views(Jitter(pixels=1, seed=0))
    },
}


@pytest.mark.parametrize("cohort", [False, True])
@pytest.mark.parametrize(("found", "change"), CHANGES.items())
def test_a_finished_stage_that_was_made_of_anything_else_is_refused(
    tmp_path, few_digits, found, change, cohort
):
    def run(stage=STAGE, transfer_set=few_digits.train, loss_fn=scaled, loss=LOSS, **options):
        kept = {"folder": tmp_path, "test_set": few_digits.test, "meter": WorkMeter(1e9)}
        train = train_stage
        if cohort:
            first = stage.make_network
            train = train_cohort_stage
            stage = replace(stage, make_network=lambda: Cohort([first(), make_network(7)]))
        return finish(train(stage, transfer_set, loss_fn, loss=loss, **kept | options))

    before = run()
    after = run()  # is loaded
    assert after.wall_seconds == before.wall_seconds
    with pytest.raises(FolderError, match=f"student.json was made with other .*{found}.* --out"):
        run(**change(few_digits))


def test_a_stage_of_another_precision_is_refused(train, monkeypatch):
    """`auto` is another precision on another processor."""
    monkeypatch.setenv(VARIABLE, "bfloat16")
    train()
    monkeypatch.setenv(VARIABLE, "float32")
    message = r'precision "bfloat16", now "float32"; .* or set ATTAR_PRECISION=bfloat16 to use'
    with pytest.raises(FolderError, match=message):
        train()


def test_an_unfinished_stage_with_another_loss_is_refused(tmp_path, few_digits, monkeypatch):
    monkeypatch.setattr(stages, "TrainingRun", partial(TrainingRun, checkpoint_seconds=0.0))
    options = {"folder": tmp_path, "test_set": few_digits.test, "meter": WorkMeter(1e9)}
    started = train_stage(STAGE, few_digits.train, scaled, loss=LOSS, **options)
    next(started), next(started)
    started.close()
    with pytest.raises(FolderError, match=r"checkpoint of a run with different loss; choose"):
        next(train_stage(STAGE, few_digits.train, scaled, loss=LOSS | {"factor": 3.0}, **options))
    finish(train_stage(STAGE, few_digits.train, scaled, loss=LOSS, **options))


def test_a_loss_that_hides_its_numbers_is_refused(train):
    with pytest.raises(AttarError, match=r"pass loss=, the numbers on which .* depends"):
        train(loss_fn=lambda logits, batch: scaled(logits, batch), loss=None)


def test_weights_of_another_training_are_refused(train, tmp_path):
    train()
    save_weights(tmp_path / "student.safetensors", make_network(3))
    message = r"student\.safetensors is damaged or belongs to another training: .* student\.json"
    with pytest.raises(FolderError, match=message):
        train()
    with pytest.raises(FolderError, match=message):
        load_network(STAGE, tmp_path)


def test_a_checkpoint_left_by_a_process_that_was_killed_at_the_very_end_goes(train, tmp_path):
    train()
    (tmp_path / "student.checkpoint.safetensors").write_bytes(b"left")
    train()
    assert not (tmp_path / "student.checkpoint.safetensors").exists()


def test_early_stopping_does_not_end_with_weights_that_it_did_not_measure(
    tmp_path, few_digits, monkeypatch
):
    monkeypatch.setattr(early_stopping, "TrainingRun", partial(TrainingRun, checkpoint_seconds=0))
    training = train_to_the_best(
        STAGE, few_digits.train, hard_target_loss, held_out=few_digits.test, folder=tmp_path,
        test_set=few_digits.test, meter=WorkMeter(1e9),
    )  # fmt: skip
    for _ in range(12):  # all steps
        next(training)
    other = make_network(5)
    with torch.no_grad():
        for layer in other:
            if isinstance(layer, nn.Linear):
                layer.bias[0] += 100.0  # answers with one class
    save_weights(tmp_path / "student.best.safetensors", other)
    with pytest.raises(
        FolderError, match=r"student\.best\.safetensors is damaged or belongs to another"
    ):
        next(training)
