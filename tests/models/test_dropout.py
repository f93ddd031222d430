import math
import random

import numpy as np
import pytest
import torch

from attar.errors import AttarError
from attar.models import Dropout

UNITS = 1_000_000


@pytest.fixture(autouse=True)
def seeded():
    """Seed torch's default generator for the test, and give it back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def spread(probability, count):
    """Standard deviation of the fraction of `count` units that are kept."""
    return math.sqrt(probability * (1 - probability) / count)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dropped", [26 / 256, 0.25, 0.5, 0.75, 255 / 256])
def test_the_fraction_kept_is_one_minus_the_probability(dropped, dtype):
    kept = (Dropout(dropped)(torch.ones(UNITS, dtype=dtype)) != 0).double().mean().item()
    assert kept == pytest.approx(1 - dropped, abs=5 * spread(dropped, UNITS))


@pytest.mark.parametrize("dropped", [0.1, 0.2, 0.5, 0.7])
def test_the_expected_value_does_not_change(dropped):
    outputs = Dropout(dropped)(torch.ones(UNITS, dtype=torch.float32)).double()
    bound = 5 * spread(dropped, UNITS) / (1 - dropped)
    assert outputs.mean().item() == pytest.approx(1, abs=bound)


@pytest.mark.parametrize("dropped", [0.1, 0.2, 0.5, 0.7])
def test_the_expected_value_does_not_change_in_bfloat16(dropped):
    outputs = Dropout(dropped)(torch.ones(UNITS, dtype=torch.bfloat16)).double()
    # Whatever is kept is one number, correctly rounded: off by half a unit in the last place.
    rounding = torch.finfo(torch.bfloat16).eps / 2
    bound = 5 * spread(dropped, UNITS) / (1 - dropped) + rounding
    assert outputs.mean().item() == pytest.approx(1, abs=bound)


@pytest.mark.parametrize(
    ("asked", "given"),
    [(0.1, 26 / 256), (0.5, 0.5), (0.2, 51 / 256), (0.999, 255 / 256), (0.003, 1 / 256)],
)
def test_the_probability_is_rounded_to_a_256th_and_the_scale_with_it(asked, given):
    outputs = Dropout(asked)(torch.ones(UNITS))
    values = outputs.unique().tolist()
    assert values == pytest.approx([0, 1 / (1 - given)])
    kept = (outputs != 0).double().mean().item()
    assert kept == pytest.approx(1 - given, abs=5 * spread(given, UNITS))


def test_every_unit_is_kept_or_dropped_whatever_its_value():
    inputs = torch.randn(1000)
    outputs = Dropout(0.25)(inputs)
    kept = outputs != 0
    torch.testing.assert_close(outputs[kept], inputs[kept] / 0.75)


def test_calls_are_independent():
    dropout, ones = Dropout(0.5), torch.ones(UNITS)
    first, second = dropout(ones) != 0, dropout(ones) != 0
    both = (first & second).double().mean().item()
    assert both == pytest.approx(0.25, abs=5 * spread(0.25, UNITS))


@pytest.mark.parametrize("distance", [1, 2, 3, 4, 7, 8, 9, 64, 1000])
def test_units_are_independent(distance):  # eight of them share a random word
    kept = Dropout(0.5)(torch.ones(UNITS)) != 0
    both = (kept[distance:] & kept[:-distance]).double().mean().item()
    assert both == pytest.approx(0.25, abs=5 * spread(0.25, UNITS))


def test_examples_of_a_batch_are_independent():
    kept = (Dropout(0.5)(torch.ones(2000, 500)) != 0).double()
    of_units, of_examples = kept.mean(dim=0), kept.mean(dim=1)
    # Means over 2000 and 500 coins spread as coins do, no more and no less.
    assert of_units.std().item() == pytest.approx(spread(0.5, 2000), rel=0.2)
    assert of_examples.std().item() == pytest.approx(spread(0.5, 500), rel=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_gradient_has_the_mask_of_the_outputs(dtype):
    inputs = torch.ones(1000, dtype=dtype, requires_grad=True)
    outputs = Dropout(0.25)(inputs)
    outputs.sum().backward()
    assert inputs.grad.dtype == dtype
    assert torch.equal(inputs.grad, outputs.detach())  # inputs are 1


def test_evaluation_mode_returns_the_inputs_themselves():
    dropout, inputs = Dropout(0.5).eval(), torch.randn(10)
    before = torch.get_rng_state()
    assert dropout(inputs) is inputs
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("probability", [0.0, 0.001])  # nearer to 0 than to 1/256
def test_probability_zero_drops_nothing(probability):
    inputs = torch.randn(10_000)
    assert torch.equal(Dropout(probability)(inputs), inputs)


def test_the_inputs_are_not_changed():
    inputs = torch.ones(1000)
    Dropout(0.5)(inputs)
    assert (inputs == 1).all()


def test_the_same_seed_gives_the_same_mask_and_another_one_another():
    dropout, ones = Dropout(0.5), torch.ones(1000)
    torch.manual_seed(7)
    first = dropout(ones)
    torch.manual_seed(7)
    assert torch.equal(dropout(ones), first)
    torch.manual_seed(8)
    assert not torch.equal(dropout(ones), first)


def test_only_torchs_default_generator_moves():
    theirs = torch.Generator().manual_seed(3)
    before = random.getstate(), np.random.get_state(), theirs.get_state()  # noqa: NPY002
    default = torch.get_rng_state()
    Dropout(0.5)(torch.ones(1000))
    assert not torch.equal(torch.get_rng_state(), default)
    after = random.getstate(), np.random.get_state(), theirs.get_state()  # noqa: NPY002
    assert after[0] == before[0]
    assert (after[1][1] == before[1][1]).all() and after[1][2:] == before[1][2:]
    assert torch.equal(after[2], before[2])


@pytest.mark.parametrize("shape", [[], [1], [7], [3, 5], [2, 3, 5, 7], [0], [4, 0]])
def test_every_shape_is_kept(shape):
    assert Dropout(0.5)(torch.ones(shape)).shape == torch.Size(shape)


def test_inputs_need_not_be_contiguous():
    inputs = torch.arange(1.0, 601.0).view(20, 30).T
    outputs = Dropout(0.5)(inputs)
    kept = outputs != 0
    assert torch.equal(outputs[kept], 2 * inputs[kept])
    assert 200 < kept.sum() < 400


@pytest.mark.parametrize("probability", [-0.1, 1.0, 1.5, math.nan, math.inf])
def test_a_probability_out_of_range_is_named(probability):
    with pytest.raises(AttarError, match=rf"dropout probability in \[0, 1\), got {probability}"):
        Dropout(probability)


def test_the_probability_shows():
    assert repr(Dropout(0.1)) == "Dropout(probability=0.1)"
