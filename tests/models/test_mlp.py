import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from attar.errors import AttarError
from attar.models import Dropout, MaxNormLinear, apply_max_norm, mlp


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def weights(network):
    return {name: parameter.clone() for name, parameter in network.state_dict().items()}


@pytest.mark.parametrize(("units", "parameters"), [(1200, 2_395_210), (800, 1_276_810)])
def test_the_papers_networks_have_their_sizes(units, parameters):
    network = mlp(784, [units, units], 10, generator=generator())
    by_hand = 784 * units + units + units * units + units + units * 10 + 10
    assert sum(parameter.numel() for parameter in network.parameters()) == by_hand == parameters


def test_layers_stand_in_order():
    network = mlp(4, [5, 6], 3, generator=generator(), input_dropout=0.1, hidden_dropout=0.5)
    kinds = [nn.Flatten, Dropout, nn.Linear, nn.ReLU, Dropout, nn.Linear, nn.ReLU]
    assert [type(module) for module in network] == [*kinds, Dropout, nn.Linear]
    dropouts = [module.probability for module in network if isinstance(module, Dropout)]
    assert dropouts == [0.1, 0.5, 0.5]
    sizes = [tuple(module.weight.shape) for module in network if isinstance(module, nn.Linear)]
    assert sizes == [(5, 4), (6, 5), (3, 6)]


def test_without_dropout_there_are_no_such_layers():
    network = mlp(4, [5, 6], 3, generator=generator())
    assert not any(isinstance(module, Dropout) for module in network.modules())


def test_logits_by_hand():
    network = mlp(2, [2], 2, generator=generator())
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
        network[3].weight.copy_(torch.tensor([[2.0, 0.0], [1.0, 3.0]]))
        network[3].bias.copy_(torch.tensor([0.5, 0.0]))
    logits = network(torch.tensor([[1.0, 2.0]]))  # hidden: 3, and -1 cut off at 0
    assert logits.tolist() == [[6.5, 3.0]]


@pytest.mark.parametrize("shape", [[784], [28, 28], [1, 28, 28]])
def test_inputs_of_any_shape_are_flattened(shape):
    network = mlp(784, [8], 10, generator=generator())
    inputs = torch.randn(3, 784, generator=generator(1))
    assert torch.equal(network(inputs.view(3, *shape)), network(inputs))


def test_there_may_be_no_hidden_layer():
    network = mlp(4, [], 3, generator=generator(), input_dropout=0.5, max_norm=1.0)
    assert [type(module) for module in network] == [nn.Flatten, Dropout, MaxNormLinear]


def test_one_generator_gives_one_set_of_weights():
    first, second = (weights(mlp(20, [10, 10], 3, generator=generator(5))) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    third = weights(mlp(20, [10, 10], 3, generator=generator(6)))
    assert not torch.equal(first["1.weight"], third["1.weight"])


def test_dropout_and_max_norm_do_not_change_the_first_weights():
    plain = [*mlp(20, [10], 3, generator=generator()).parameters()]
    options = {"input_dropout": 0.1, "hidden_dropout": 0.5, "max_norm": 9.0}
    bounded = [*mlp(20, [10], 3, generator=generator(), **options).parameters()]
    assert all(torch.equal(one, other) for one, other in zip(plain, bounded, strict=True))


def test_nothing_is_drawn_from_the_default_generator():
    before = torch.get_rng_state()
    options = {"input_dropout": 0.1, "hidden_dropout": 0.5, "max_norm": 1.0}
    made = weights(mlp(20, [10], 3, generator=generator(), **options))
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        again = weights(mlp(20, [10], 3, generator=generator(), **options))
    assert all(torch.equal(made[name], again[name]) for name in made)


def test_first_weights_spread_as_he_et_al_say_and_biases_are_zero():
    network = mlp(500, [400, 300], 200, generator=generator())
    for layer in (module for module in network if isinstance(module, nn.Linear)):
        assert layer.weight.std().item() == pytest.approx(
            math.sqrt(2 / layer.in_features), rel=0.02
        )
        assert layer.weight.mean().item() == pytest.approx(0, abs=0.001)
        assert not layer.bias.any()


def test_first_weights_can_be_scaled():
    plain = mlp(20, [10], 3, generator=generator())
    small = mlp(20, [10], 3, generator=generator(), initial_scale=0.25)
    for before, after in zip(plain.parameters(), small.parameters(), strict=True):
        assert torch.equal(after, 0.25 * before)
        assert after.requires_grad


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan])
def test_a_scale_must_be_positive(scale):
    with pytest.raises(AttarError, match=f"expected initial_scale > 0 and finite, got {scale}"):
        mlp(20, [10], 3, generator=generator(), initial_scale=scale)


rows = arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 8)),
    elements=st.floats(-(2.0**40), 2.0**40, width=32),
)


@given(rows, st.floats(1e-3, 1e3))
def test_projection_shortens_the_long_weights_and_leaves_the_short_ones(before, max_norm):
    layer = MaxNormLinear(before.shape[1], before.shape[0], max_norm=max_norm)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(before))
    layer.project()
    after = layer.weight.detach().double().numpy()
    exact = before.astype(np.float64)
    lengths = np.linalg.norm(exact, axis=1, keepdims=True)
    expected = exact * np.minimum(1, max_norm / np.maximum(lengths, 1e-300))
    np.testing.assert_allclose(after, expected, rtol=1e-5, atol=1e-30)
    assert np.linalg.norm(after, axis=1).max() <= max_norm * (1 + 1e-5)
    short = lengths[:, 0] < max_norm * (1 - 1e-5)
    assert (layer.weight.detach().numpy()[short] == before[short]).all()  # to the bit


def test_projection_leaves_the_biases():
    layer = MaxNormLinear(2, 2, max_norm=1.0)
    nn.init.constant_(layer.bias, 100.0)
    layer.project()
    assert (layer.bias == 100).all()


def test_hidden_and_output_units_are_bounded_if_a_bound_is_given():
    network = mlp(4, [5, 6], 3, generator=generator(), max_norm=0.5)
    free = mlp(4, [5, 6], 3, generator=generator())
    for parameter in [*network.parameters(), *free.parameters()]:
        nn.init.constant_(parameter, 10.0)
    apply_max_norm(network)
    apply_max_norm(free)
    layers = [module for module in network if isinstance(module, nn.Linear)]
    assert [type(layer) for layer in layers] == [MaxNormLinear] * 3
    for layer in layers:
        lengths = layer.weight.detach().norm(dim=1)
        torch.testing.assert_close(lengths, torch.full_like(lengths, 0.5))
    assert all((parameter == 10).all() for parameter in free.parameters())


def test_networks_within_networks_are_bounded_too():
    inner = MaxNormLinear(3, 3, max_norm=1.0)
    nn.init.constant_(inner.weight, 10.0)
    apply_max_norm(nn.Sequential(nn.Sequential(nn.ReLU(), inner)))
    torch.testing.assert_close(inner.weight.detach().norm(dim=1), torch.ones(3))


@pytest.mark.parametrize(
    ("inputs", "hidden", "classes"), [(0, [5], 3), (4, [5, 0], 3), (4, [-5], 3), (4, [5], 0)]
)
def test_sizes_below_one_are_named(inputs, hidden, classes):
    sizes = [inputs, *hidden, classes]
    with pytest.raises(AttarError, match=f"at least 1, got \\[{str(sizes)[1:-1]}\\] for inputs"):
        mlp(inputs, hidden, classes, generator=generator())


@pytest.mark.parametrize("name", ["input_dropout", "hidden_dropout"])
@pytest.mark.parametrize("probability", [1.0, -0.5, math.nan])
def test_probabilities_out_of_range_are_named(name, probability):
    with pytest.raises(AttarError, match=rf"\[0, 1\), got {probability}"):
        mlp(4, [5], 3, generator=generator(), **{name: probability})


@pytest.mark.parametrize("max_norm", [0.0, -1.0, math.nan, math.inf])
def test_a_bound_must_be_positive(max_norm):
    with pytest.raises(AttarError, match=f"expected max_norm > 0 and finite, got {max_norm}"):
        mlp(4, [5], 3, generator=generator(), max_norm=max_norm)


def test_a_network_is_made_on_the_default_device():
    torch.set_default_device("meta")
    try:
        network = mlp(4, [3], 2, generator=torch.Generator("cpu").manual_seed(0))
    finally:
        torch.set_default_device("cpu")
    assert {parameter.device.type for parameter in network.parameters()} == {"meta"}
