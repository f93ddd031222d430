import math
from dataclasses import FrozenInstanceError, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn, optim

from attar.errors import AttarError
from attar.training import TrainingSettings

SETTINGS = TrainingSettings(epochs=2, batch_size=8, learning_rate=0.8, seed=0)


def rates(settings, *, steps_per_epoch):
    steps = settings.epochs * steps_per_epoch
    return [
        settings.learning_rate_at(step, steps=steps, steps_per_epoch=steps_per_epoch)
        for step in range(steps)
    ]


def test_a_constant_rate_stays():
    assert rates(replace(SETTINGS, schedule="constant"), steps_per_epoch=2) == [0.8] * 4


def test_a_linear_rate_falls_by_equal_steps():
    found = rates(replace(SETTINGS, schedule="linear"), steps_per_epoch=2)
    assert found == pytest.approx([0.8, 0.6, 0.4, 0.2])


def test_a_cosine_rate_by_hand():
    found = rates(replace(SETTINGS, schedule="cosine"), steps_per_epoch=2)
    factors = [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]  # 0, 45, 90, 135 °
    assert found == pytest.approx([0.8 * factor for factor in factors])


def test_the_rate_climbs_in_a_straight_line_while_warming_up():
    settings = replace(SETTINGS, schedule="constant", warmup_epochs=1.0)
    found = rates(settings, steps_per_epoch=4)
    assert found == pytest.approx([0.2, 0.4, 0.6, 0.8] + [0.8] * 4)


def test_warming_up_may_take_a_part_of_an_epoch():
    settings = replace(SETTINGS, schedule="constant", warmup_epochs=0.5)
    found = rates(settings, steps_per_epoch=5)  # 2.5 steps
    assert found == pytest.approx([0.32, 0.64] + [0.8] * 8)


def test_warm_up_and_schedule_multiply():
    settings = replace(SETTINGS, schedule="linear", warmup_epochs=1.0)
    expected = [0.8 / 2 * 1, 0.8 * 0.75, 0.8 * 0.5, 0.8 * 0.25]
    assert rates(settings, steps_per_epoch=2) == pytest.approx(expected)


@given(
    st.sampled_from(["constant", "linear", "cosine"]),
    st.integers(1, 5),
    st.integers(1, 20),
    st.floats(0, 3),
)
def test_the_rate_is_above_zero_and_never_above_its_highest(schedule, epochs, length, warmup):
    settings = replace(SETTINGS, schedule=schedule, epochs=epochs, warmup_epochs=warmup)
    found = rates(settings, steps_per_epoch=length)
    assert all(0 < rate <= 0.8 for rate in found)


def parameters():
    return [nn.Parameter(torch.ones(3))]


def test_sgd_has_nesterov_momentum():
    made = replace(SETTINGS, momentum=0.7, weight_decay=0.01).make_optimizer(parameters())
    assert isinstance(made, optim.SGD)
    found = {name: made.defaults[name] for name in ("lr", "momentum", "nesterov", "weight_decay")}
    assert found == {"lr": 0.8, "momentum": 0.7, "nesterov": True, "weight_decay": 0.01}


def test_sgd_without_momentum_is_plain():
    made = replace(SETTINGS, momentum=0.0).make_optimizer(parameters())
    assert (made.defaults["momentum"], made.defaults["nesterov"]) == (0.0, False)


def test_adamw_has_its_weight_decay_and_nothing_hidden():
    made = replace(SETTINGS, optimizer="adamw").make_optimizer(parameters())
    assert isinstance(made, optim.AdamW)
    assert (made.defaults["lr"], made.defaults["weight_decay"]) == (0.8, 0.0)  # torch's is 0.01
    decayed = replace(SETTINGS, optimizer="adamw", weight_decay=0.1).make_optimizer(parameters())
    assert decayed.defaults["weight_decay"] == 0.1


def test_settings_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        SETTINGS.epochs = 3


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("epochs", 0, "epochs > 0 and finite, got 0"),
        ("epochs", -1, "epochs > 0 and finite, got -1"),
        ("batch_size", 0, "batch_size > 0 and finite, got 0"),
        ("learning_rate", 0.0, "learning_rate > 0 and finite, got 0.0"),
        ("learning_rate", math.nan, "learning_rate > 0 and finite, got nan"),
        ("learning_rate", math.inf, "learning_rate > 0 and finite, got inf"),
        ("seed", -1, "seed >= 0 and finite, got -1"),
        ("seed", 2**63, "seed"),
        ("momentum", 1.0, r"momentum in \[0, 1\), got 1.0"),
        ("momentum", -0.1, r"momentum in \[0, 1\), got -0.1"),
        ("momentum", math.nan, r"momentum in \[0, 1\), got nan"),
        ("weight_decay", -0.1, "weight_decay >= 0 and finite, got -0.1"),
        ("warmup_epochs", -1.0, "warmup_epochs >= 0 and finite, got -1.0"),
        ("warmup_epochs", math.nan, "warmup_epochs >= 0 and finite, got nan"),
        ("clip_norm", 0.0, "clip_norm > 0 and finite, got 0.0"),
        ("optimizer", "adam", "optimizer to be one of sgd, adamw; got 'adam'"),
        ("schedule", "step", "schedule to be one of constant, linear, cosine; got 'step'"),
        ("precision", "fp16", "precision to be one of auto, float32, bfloat16; got 'fp16'"),
    ],
)
def test_a_field_out_of_range_is_named(shape_hints_off, field, value, expected):
    with pytest.raises(AttarError, match=f"expected {expected}"):
        replace(SETTINGS, **{field: value})
