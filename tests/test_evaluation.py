import math

import pytest
import torch
from torch import nn

from attar import precision as precision_module
from attar.data import Jitter, TransferSet
from attar.errors import DataError
from attar.evaluation import compute_logits, evaluate
from attar.models import mlp


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def network():
    options = {"input_dropout": 0.5, "hidden_dropout": 0.5}
    return mlp(6, [9], 4, generator=generator(), **options)


@pytest.fixture
def transfer_set():  # longer than two batches of the evaluation
    inputs = torch.randn(2345, 6, generator=generator(1))
    return TransferSet(inputs, torch.randint(4, (2345,), generator=generator(2)))


def test_errors_accuracy_and_likelihood_by_hand():
    logits = torch.tensor([[0.0, math.log(3.0)]]).repeat(4, 1)  # softmax: 1/4, 3/4
    test_set = TransferSet(logits, torch.tensor([1, 1, 1, 0]))
    found = evaluate(nn.Identity(), test_set)
    assert (found.examples, found.errors, found.accuracy) == (4, 1, 0.75)
    assert found.nll == pytest.approx((3 * math.log(4 / 3) + math.log(4)) / 4)


def test_evaluation_is_what_plain_torch_finds(network, transfer_set):  # an independent reference
    found = evaluate(network, transfer_set)
    network.eval()
    logits = network(transfer_set.inputs).double()
    top = logits.max(dim=1).indices
    assert found.examples == 2345
    assert found.errors == int((top != transfer_set.hard_targets).sum())
    assert found.accuracy == pytest.approx((top == transfer_set.hard_targets).double().mean())
    nll = nn.functional.cross_entropy(logits, transfer_set.hard_targets)
    assert found.nll == pytest.approx(nll.item(), rel=1e-6)


def test_logits_come_in_the_order_of_the_examples(network, transfer_set):
    logits = compute_logits(network, transfer_set)
    assert logits.shape == (2345, 4)
    network.eval()
    torch.testing.assert_close(logits, network(transfer_set.inputs).detach())


def test_a_subset_has_the_logits_of_its_examples(network, transfer_set):
    kept = torch.tensor([2000, 3, 1500])
    expected = compute_logits(network, transfer_set)[kept]
    torch.testing.assert_close(compute_logits(network, transfer_set.subset(kept)), expected)


def test_examples_are_plain_even_if_the_set_has_views(few_digits):
    network = mlp(784, [5], 10, generator=generator())
    expected = compute_logits(network, few_digits.test)
    jittered = few_digits.test.with_views(Jitter(pixels=2))
    assert torch.equal(compute_logits(network, jittered), expected)


@pytest.mark.parametrize("mode", [True, False])
def test_dropout_is_off_and_the_mode_comes_back(network, transfer_set, mode):
    network.train(mode)
    first = compute_logits(network, transfer_set)
    assert torch.equal(compute_logits(network, transfer_set), first)
    assert network.training is mode


def test_a_layer_that_was_frozen_in_evaluation_mode_stays_so(transfer_set):
    network = nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 4))
    network.train()
    network[0].eval()
    compute_logits(network, transfer_set)
    assert [module.training for module in network.modules()] == [True, False, True]


def test_the_mode_comes_back_after_an_error(transfer_set):
    network = mlp(7, [], 4, generator=generator())  # of other inputs
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        compute_logits(network, transfer_set)
    assert network.training


def test_nothing_random_is_drawn(network, transfer_set):
    before = torch.get_rng_state()
    evaluate(network, transfer_set)
    assert torch.equal(torch.get_rng_state(), before)


def test_logits_can_be_used_in_training(network, transfer_set):  # no inference tensors
    logits = compute_logits(network, transfer_set)
    assert not logits.requires_grad
    (logits * torch.ones(4, requires_grad=True)).sum().backward()
    logits.add_(1)


@pytest.mark.parametrize(
    ("chosen", "is_rough"), [("float32", False), ("bfloat16", True), ("auto", True)]
)
def test_logits_are_float32_whatever_the_products(
    network, transfer_set, chosen, is_rough, monkeypatch
):
    monkeypatch.delenv("ATTAR_PRECISION", raising=False)
    monkeypatch.setattr(precision_module, "cpu_multiplies_bfloat16", lambda: True)
    exact = compute_logits(network.double(), transfer_set_of(transfer_set, torch.float64))
    logits = compute_logits(network.float(), transfer_set, precision=chosen)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits.double(), exact, rtol=0.05, atol=0.1)
    assert ((logits - exact).abs().max() > 1e-4) == is_rough


def transfer_set_of(transfer_set, dtype):
    return TransferSet(transfer_set.inputs.to(dtype), transfer_set.hard_targets)


@pytest.mark.parametrize("chosen", ["auto", "bfloat16"])
def test_a_float64_network_gives_float64_logits(network, transfer_set, chosen):
    exact = transfer_set_of(transfer_set, torch.float64)
    assert compute_logits(network.double(), exact, precision=chosen).dtype == torch.float64


def test_a_network_that_answers_nan_is_wrong_everywhere(transfer_set):
    network = mlp(6, [], 4, generator=generator())
    nn.init.constant_(network[1].bias, math.nan)
    found = evaluate(network, transfer_set)
    assert (found.errors, found.accuracy) == (2345, 0.0)
    assert math.isnan(found.nll)


def test_an_example_without_a_hard_target_is_named(network):
    test_set = TransferSet(torch.ones(3, 6), torch.tensor([1, 2, -1]))
    with pytest.raises(
        DataError, match="hard target for every test example, but example 2 has none"
    ):
        evaluate(network, test_set)


def test_a_class_that_the_network_lacks_is_our_error(network):
    test_set = TransferSet(torch.ones(3, 6), torch.tensor([1, 7, 2]))
    with pytest.raises(DataError, match=r"hard target.* 0\.\.3, .*7"):
        evaluate(network, test_set)


def test_a_network_may_answer_what_a_teacher_may(network, transfer_set):
    class Answering(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, inputs):
            return {"logits": self.network(inputs)}

    assert torch.equal(
        compute_logits(Answering(), transfer_set), compute_logits(network, transfer_set)
    )
    assert evaluate(Answering(), transfer_set) == evaluate(network, transfer_set)
