import base64
import gzip

import numpy as np
import pytest
import torch
from torch import nn

from attar.data import TransferSet
from attar.errors import AttarError, ShapeError
from attar.evaluation import compute_logits
from attar.explorer import ExampleSet, Exploration, Model
from attar.explorer.packing import linear_layers, pack, pack_inputs, pack_network
from attar.models import mlp
from explorer.explorations import make_network


def test_a_packed_array_is_its_bytes_by_significance():
    numbers = np.array([[1.5, -2.0], [3.25, 0.0]], dtype=np.float32)
    packed = pack(numbers)
    planes = np.frombuffer(gzip.decompress(base64.b64decode(packed["data"])), np.uint8)
    restored = planes.reshape(4, -1).T.copy().view("<f4").reshape(packed["shape"])
    assert packed["dtype"] == "float32"
    np.testing.assert_array_equal(restored, numbers)
    assert pack(numbers) == packed  # the same bytes, whatever the time


def test_layers_are_found_in_networks_of_ours_alone():
    generator = torch.Generator().manual_seed(0)
    ours = mlp(6, [5, 4], 3, generator=generator, input_dropout=0.1, hidden_dropout=0.2, max_norm=2)
    assert [layer.out_features for layer in linear_layers(ours)] == [5, 4, 3]
    assert [layer.out_features for layer in linear_layers(mlp(6, [], 3, generator=generator))] == [
        3
    ]
    for other in (
        None,
        nn.Linear(6, 3),
        nn.Sequential(),
        nn.Sequential(nn.Linear(6, 3), nn.Tanh(), nn.Linear(3, 3)),
        nn.Sequential(nn.Linear(6, 3), nn.ReLU()),
        nn.Sequential(nn.Linear(6, 3, bias=False)),
        nn.Sequential(nn.Linear(6, 3), nn.Linear(3, 3)),
    ):
        assert linear_layers(other) is None


def test_a_network_is_as_exact_as_the_room_allows_and_its_deviation_is_measured(few_digits):
    network, examples = make_network(784, 10, seed=0), few_digits.test
    logits = compute_logits(network, examples)
    exact = pack_network(network, examples, logits, room=10**6)
    assert (exact.storage, exact.deviation, exact.changed) == ("float32", 0, 0)
    half = pack_network(network, examples, logits, room=exact.size - 1)
    bytes_ = pack_network(network, examples, logits, room=half.size - 1)
    assert (half.storage, bytes_.storage) == ("float16", "int8")
    assert 0 < half.deviation < bytes_.deviation < 1
    assert pack_network(network, examples, logits, room=bytes_.size - 1) is None
    assert torch.equal(compute_logits(network, examples), logits)  # left as it was


@pytest.mark.parametrize(
    ("inputs", "kind", "shape"),
    [
        (torch.zeros(2, 3, 4, dtype=torch.uint8), "image", [2, 3, 4, 1]),
        (torch.zeros(2, 3, 4, 5), "image", [2, 4, 5, 3]),
        (torch.zeros(2, 1, 4, 5), "image", [2, 4, 5, 1]),
        (torch.zeros(2, 4, 5, 3), "image", [2, 4, 5, 3]),
        (torch.zeros(2, 7), "curve", [2, 7]),
        (torch.zeros(2, 7, dtype=torch.int64), "tokens", [2, 7]),
    ],
)
def test_inputs_are_packed_as_what_can_be_shown(inputs, kind, shape):
    packed = pack_inputs(inputs)
    assert (packed["kind"], packed["shape"]) == (kind, shape)


def test_inputs_that_show_nothing_are_left_out():
    assert pack_inputs(torch.zeros(2, 3, 4, 5, 6)) is None


def test_what_does_not_fit_together_is_told():
    examples = TransferSet(torch.zeros(2, 3), torch.tensor([0, 1]))
    shown = ExampleSet("test", examples, {"a": torch.zeros(2, 2), "b": torch.zeros(2, 2)})
    options = {"title": "t", "teacher": Model("a"), "sets": (shown,), "temperature": 2.0}
    Exploration(students=(Model("b"),), **options)
    with pytest.raises(ShapeError, match=r"expected logits \[2, 2\] of 'c' on 'test', got None"):
        Exploration(students=(Model("c"),), **options)
    with pytest.raises(AttarError, match="a name of its own for each model"):
        Exploration(students=(Model("a"),), **options)
    with pytest.raises(AttarError, match="temperature > 0"):
        Exploration(students=(Model("b"),), **{**options, "temperature": 0.0})
