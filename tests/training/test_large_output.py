from dataclasses import replace
from functools import partial

import pytest
import torch

from attar.data import TransferSet
from attar.evaluation import evaluate
from attar.losses import distillation_loss
from attar.models import conv_net
from attar.training import (
    LargeOutput,
    TrainingRun,
    TrainingSettings,
    hard_target_loss,
    through_output_layer,
)

SETTINGS = TrainingSettings(
    epochs=2, batch_size=10, learning_rate=0.01, seed=0, optimizer="sgd", precision="float32"
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make_network():
    return conv_net(8, 30, generator=generator(), channels=(4, 6), features=5)


@pytest.fixture(scope="module")
def images():
    pixels = torch.rand(40, 8, 8, generator=generator(1))
    return TransferSet(pixels, torch.arange(40) % 30, classes=30)


def soft_loss(logits, batch, teacher_logits):
    v = teacher_logits[batch.indices]
    weights = {"temperature": 2.0, "soft_weight": 1.0, "hard_weight": 0.5}
    return distillation_loss(logits, v, batch.hard_targets, **weights).mean()


TEACHER = torch.randn(40, 30, generator=generator(2))
LOSSES = {"hard": hard_target_loss, "soft": partial(soft_loss, teacher_logits=TEACHER)}


# In bfloat16, which has three digits, the plain layer is multiplied in it and ours in float32.
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-4), ("bfloat16", 1e-2)])
@pytest.mark.parametrize("name", LOSSES)
def test_training_ends_with_the_weights_of_plain_training(
    images, name, precision, tolerance, monkeypatch
):
    monkeypatch.setattr("attar.losses.output_layer._BLOCK", 90)  # 3 rows at a time
    settings = replace(SETTINGS, precision=precision)
    plain, ours = make_network(), make_network()
    for _ in TrainingRun(plain, images, LOSSES[name], settings):
        pass
    loss_fn = through_output_layer(ours.output, LOSSES[name])
    run = TrainingRun(LargeOutput(ours.trunk, ours.output), images, loss_fn, settings)
    steps = list(run)
    assert steps[-1].loss > 0
    for got, expected in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(got, expected, atol=tolerance, rtol=10 * tolerance)


def test_features_in_training_and_logits_in_evaluation(images):
    whole = make_network()
    network = LargeOutput(whole.trunk, whole.output)
    batch = images.batch(torch.arange(4)).inputs
    assert network.train()(batch).shape == (4, 5)
    assert network.eval()(batch).shape == (4, 30)
    assert evaluate(network, images) == evaluate(whole, images)


def test_weights_have_the_names_of_the_whole_network():
    whole = make_network()
    assert list(LargeOutput(whole.trunk, whole.output).state_dict()) == list(whole.state_dict())
