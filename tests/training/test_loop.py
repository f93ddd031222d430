import copy
import itertools
import math
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn, optim

from attar import precision
from attar.data import Batch
from attar.errors import AttarError, DataError, DivergedError
from attar.models import MaxNormLinear, mlp
from attar.training import TrainingSettings, fit, hard_target_loss

EXAMPLES, INPUTS, CLASSES = 12, 5, 3


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make_network(dtype=torch.float32, **options):
    return mlp(INPUTS, [7], CLASSES, generator=generator(), **options).to(dtype)


def make_batches(count, dtype=torch.float32):
    draw = generator(1)
    for _ in range(count):
        inputs = torch.randn(EXAMPLES, INPUTS, generator=draw)
        hard_targets = (inputs[:, 0] > 0).long() + (inputs[:, 1] > 0).long()
        yield Batch(inputs.to(dtype), hard_targets, torch.arange(EXAMPLES))


def hard_loss(logits, batch):
    return nn.functional.cross_entropy(logits, batch.hard_targets)


def train(network, batches, optimizer, *, loss_fn=hard_loss, **options):
    options = {"step_seed": lambda step: step} | options
    return fit(network, batches, loss_fn, optimizer, **options)


def weights(network):
    return [parameter.detach().clone() for parameter in network.parameters()]


def assert_same(first, second):
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_the_loss_decreases():
    network = make_network()
    losses = list(train(network, make_batches(200), optim.SGD(network.parameters(), lr=0.1)))
    assert sum(losses[-20:]) < 0.4 * sum(losses[:20])


def reference_gradients(parameters, batch):
    """Differentiate a network of one hidden layer that is written out."""
    weight_1, bias_1, weight_2, bias_2 = parameters
    logits = (batch.inputs @ weight_1.T + bias_1).clamp(min=0) @ weight_2.T + bias_2
    log_q = logits - logits.exp().sum(dim=1, keepdim=True).log()
    loss = -log_q[torch.arange(EXAMPLES), batch.hard_targets].mean()
    return loss.item(), torch.autograd.grad(loss, parameters)


def clip(gradients, longest):
    norm = math.sqrt(sum(float((gradient**2).sum()) for gradient in gradients))
    return [gradient * min(1, longest / (norm + 1e-6)) for gradient in gradients]


def reference_sgd(parameters, batches, *, rate, momentum, decay, longest):
    """Sutskever et al. (2013) as torch writes it: v <- m v + g, w <- w - rate (g + m v)."""
    velocities, losses = [torch.zeros_like(parameter) for parameter in parameters], []
    for batch in batches:
        loss, gradients = reference_gradients(parameters, batch)
        losses.append(loss)
        for index, gradient in enumerate(clip(gradients, longest)):
            gradient = gradient + decay * parameters[index].detach()
            velocities[index] = momentum * velocities[index] + gradient
            step = rate * (gradient + momentum * velocities[index])
            parameters[index] = (parameters[index].detach() - step).requires_grad_()
    return losses


def reference_adamw(parameters, batches, *, rate, decay, longest):
    """Loshchilov & Hutter (2019), algorithm 2, with β = 0.9 and 0.999."""
    firsts = [torch.zeros_like(parameter) for parameter in parameters]
    seconds, losses = [torch.zeros_like(first) for first in firsts], []
    for count, batch in enumerate(batches, start=1):
        loss, gradients = reference_gradients(parameters, batch)
        losses.append(loss)
        for index, gradient in enumerate(clip(gradients, longest)):
            firsts[index] = 0.9 * firsts[index] + 0.1 * gradient
            seconds[index] = 0.999 * seconds[index] + 0.001 * gradient**2
            first, second = firsts[index] / (1 - 0.9**count), seconds[index] / (1 - 0.999**count)
            kept = parameters[index].detach() * (1 - rate * decay)
            step = rate * first / (second.sqrt() + 1e-8)
            parameters[index] = (kept - step).requires_grad_()
    return losses


@pytest.mark.parametrize("longest", [math.inf, 0.3], ids=["unclipped", "clipped"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_steps_are_what_the_papers_formulas_give_in_float64(optimizer, longest):
    network = make_network(torch.float64)
    expected = [weight.requires_grad_() for weight in weights(network)]
    batches = list(make_batches(6, torch.float64))
    settings = TrainingSettings(
        epochs=1, batch_size=1, learning_rate=0.05, seed=0, optimizer=optimizer, weight_decay=0.02
    )
    if optimizer == "sgd":
        losses = reference_sgd(
            expected, batches, rate=0.05, momentum=0.9, decay=0.02, longest=longest
        )
    else:
        losses = reference_adamw(expected, batches, rate=0.05, decay=0.02, longest=longest)
    clip_norm = None if longest == math.inf else longest
    made = settings.make_optimizer(network.parameters())
    found = list(train(network, batches, made, clip_norm=clip_norm))
    assert found == pytest.approx(losses, rel=1e-9)
    for one, other in zip(weights(network), expected, strict=True):
        torch.testing.assert_close(one, other.detach(), rtol=1e-9, atol=1e-10)


def test_a_gradient_shorter_than_the_bound_is_left_alone():
    bounded, free = make_network(), make_network()
    for network, clip_norm in ((bounded, 1e6), (free, None)):
        list(train(network, make_batches(3), optim.SGD(network.parameters()), clip_norm=clip_norm))
    assert_same(weights(bounded), weights(free))


def test_the_yielded_loss_is_that_before_the_update():
    network, batch = make_network(), next(make_batches(1))
    expected = hard_loss(network(batch.inputs), batch).item()
    losses = train(network, [batch], optim.SGD(network.parameters(), lr=1.0), precision="float32")
    assert next(losses) == expected


def test_nothing_is_done_before_it_is_asked_for():
    network = make_network()
    before = weights(network)
    batches = make_batches(3)
    losses = train(network, batches, optim.SGD(network.parameters(), lr=0.1))
    assert_same(weights(network), before)
    next(losses)
    after = weights(network)
    losses.close()
    assert_same(weights(network), after)
    assert len(list(batches)) == 2  # untouched


def test_the_caller_may_change_the_learning_rate_between_steps():
    network = make_network()
    optimizer = optim.SGD(network.parameters(), lr=0.1)
    losses = train(network, make_batches(2), optimizer)
    next(losses)
    before = weights(network)
    optimizer.param_groups[0]["lr"] = 0.0
    next(losses)
    assert_same(weights(network), before)


def test_the_caller_may_evaluate_between_steps():
    quiet, busy = (make_network(hidden_dropout=0.5) for _ in range(2))
    list(train(quiet, make_batches(3), optim.SGD(quiet.parameters(), lr=0.1)))
    for _ in train(busy, make_batches(3), optim.SGD(busy.parameters(), lr=0.1)):
        assert busy.training
        busy.eval()
        torch.rand(5)
    assert_same(weights(quiet), weights(busy))


def test_the_default_generator_is_given_back_as_it_was():
    network = make_network(hidden_dropout=0.5)
    before = torch.get_rng_state()
    for _ in train(network, make_batches(2), optim.SGD(network.parameters(), lr=0.1)):
        assert torch.equal(torch.get_rng_state(), before)


def test_the_default_generator_is_given_back_after_an_error():
    def fail(logits, batch):
        raise LookupError("no targets")

    network = make_network(hidden_dropout=0.5)
    before = torch.get_rng_state()
    with pytest.raises(LookupError):
        list(train(network, make_batches(1), optim.SGD(network.parameters()), loss_fn=fail))
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_depends_on_the_seed_of_the_step_alone():
    def run(step_seed):
        network = make_network(hidden_dropout=0.5)
        torch.rand(3)  # moves the default generator, which must not matter
        optimizer = optim.SGD(network.parameters(), lr=0.1)
        list(train(network, make_batches(3), optimizer, step_seed=step_seed))
        return weights(network)

    assert_same(run(lambda step: step), run(lambda step: step))
    others = zip(run(lambda step: step), run(lambda step: step + 100), strict=True)
    assert not all(torch.equal(one, other) for one, other in others)


def test_steps_are_numbered_from_the_first():
    network, asked = make_network(), []
    list(
        train(
            network,
            make_batches(3),
            optim.SGD(network.parameters()),
            step_seed=lambda step: asked.append(step) or step,
            first_step=41,
        )
    )
    assert asked == [41, 42, 43]


def test_frozen_weights_stay():
    network = make_network()
    network[1].requires_grad_(False)
    before = weights(network)
    optimizer = optim.SGD(network.parameters(), lr=0.1, weight_decay=0.1)
    list(train(network, make_batches(2), optimizer, clip_norm=0.1))
    after = weights(network)
    assert_same(after[:2], before[:2])
    assert not torch.equal(after[2], before[2])


def test_weights_are_bounded_after_every_step():
    network = make_network(max_norm=0.5)
    layer = next(module for module in network if isinstance(module, MaxNormLinear))
    for _ in train(network, make_batches(5), optim.SGD(network.parameters(), lr=5.0)):
        assert layer.weight.detach().norm(dim=1).max() <= 0.5 * (1 + 1e-6)


@pytest.mark.parametrize(
    ("quick", "chosen", "expected"),
    [
        (True, "auto", torch.bfloat16),
        (False, "auto", torch.float32),
        (True, "float32", torch.float32),
        (False, "bfloat16", torch.bfloat16),
    ],
)
def test_products_are_bfloat16_only_where_that_is_quick_or_asked_for(
    monkeypatch, quick, chosen, expected
):
    monkeypatch.delenv("ATTAR_PRECISION", raising=False)
    monkeypatch.setattr(precision, "cpu_multiplies_bfloat16", lambda: quick)
    network, products, seen = make_network(), [], []
    network.register_forward_hook(lambda module, inputs, logits: products.append(logits.dtype))

    def loss_fn(logits, batch):
        seen.append(logits.dtype)
        return hard_loss(logits, batch)

    optimizer = optim.SGD(network.parameters(), lr=0.1)
    list(train(network, make_batches(1), optimizer, loss_fn=loss_fn, precision=chosen))
    assert (products, seen) == ([expected], [torch.float32])
    kept = [*network.parameters(), *(parameter.grad for parameter in network.parameters())]
    assert {tensor.dtype for tensor in kept} == {torch.float32}


@pytest.mark.parametrize("chosen", ["auto", "bfloat16"])
def test_a_float64_network_stays_float64(monkeypatch, chosen):
    monkeypatch.delenv("ATTAR_PRECISION", raising=False)
    monkeypatch.setattr(precision, "cpu_multiplies_bfloat16", lambda: True)
    network, seen = make_network(torch.float64), []

    def loss_fn(logits, batch):
        seen.append(logits.dtype)
        return hard_loss(logits, batch)

    optimizer = optim.SGD(network.parameters(), lr=0.1)
    batches = make_batches(1, torch.float64)
    list(train(network, batches, optimizer, loss_fn=loss_fn, precision=chosen))
    assert seen == [torch.float64]


def infinite_slope(logits, batch):
    return (logits - logits.detach()).abs().sqrt().sum() + 1.0  # the square root of 0: slope inf


def times(factor):
    return lambda logits, batch: logits.mean() * 0 + factor


@pytest.mark.parametrize(
    ("loss_fn", "what"),
    [
        (times(math.nan), "loss is nan"),
        (times(math.inf), "loss is inf"),
        (times(-math.inf), "loss is -inf"),
        (infinite_slope, "gradient's norm is (nan|inf)"),
    ],
    ids=["nan", "inf", "-inf", "gradient"],
)
def test_a_diverging_step_is_named_and_leaves_the_weights(loss_fn, what):
    network = make_network(max_norm=0.1)  # would be projected, too
    optimizer = optim.SGD(network.parameters(), lr=0.125, momentum=0.9)
    batches, count = make_batches(3), itertools.count(1)

    def diverge_at_the_second(logits, batch):
        return (hard_loss if next(count) == 1 else loss_fn)(logits, batch)

    losses = train(
        network, batches, optimizer, loss_fn=diverge_at_the_second, first_step=7, clip_norm=1.0
    )
    next(losses)
    before, state = weights(network), copy.deepcopy(optimizer.state_dict())
    with pytest.raises(DivergedError) as caught:
        next(losses)
    expected = (
        rf"step 8: the {what} at learning rate 0\.125, expected a finite number; "
        "try a lower learning rate, warm-up epochs or clip_norm"
    )
    assert re.fullmatch(expected, str(caught.value))
    assert_same(weights(network), before)
    for index, slots in state["state"].items():
        after = optimizer.state_dict()["state"][index]
        assert torch.equal(after["momentum_buffer"], slots["momentum_buffer"])


def test_the_hard_loss_of_a_cohort_is_the_sum_of_its_members():
    targets = torch.arange(8) % CLASSES
    batch = Batch(torch.zeros(8, INPUTS), targets, torch.arange(8), 0)
    logits = torch.randn(3, 8, CLASSES, generator=generator())
    alone = sum(hard_target_loss(each, batch) for each in logits)
    torch.testing.assert_close(hard_target_loss(logits, batch), alone)


# What the reviews found


def with_norm():
    torch.manual_seed(0)
    return nn.Sequential(nn.BatchNorm1d(INPUTS), nn.Dropout(0.5), nn.Linear(INPUTS, CLASSES))


def test_a_frozen_layer_stays_in_evaluation_mode():
    # Once, each step put all layers into training mode, and frozen statistics moved.
    network = with_norm()
    network[0].eval()
    before = network[0].running_mean.clone()
    for _ in train(network, make_batches(3), optim.SGD(network.parameters(), lr=0.1)):
        assert [layer.training for layer in network] == [False, True, True]
        network.eval()  # the caller evaluates between the steps
    assert torch.equal(network[0].running_mean, before)


def test_a_network_given_in_evaluation_mode_is_trained_as_a_whole():
    network = with_norm().eval()  # as `from_pretrained` returns it
    before = network[0].running_mean.clone()
    for _ in train(network, make_batches(2), optim.SGD(network.parameters(), lr=0.1)):
        assert all(layer.training for layer in network)
    assert not torch.equal(network[0].running_mean, before)


class Answering(nn.Module):
    def __init__(self, wrap):
        super().__init__()
        self.network, self.wrap = make_network(), wrap

    def forward(self, inputs):
        return self.wrap(self.network(inputs))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda logits: SimpleNamespace(logits=logits, loss=None),
        lambda logits: {"logits": logits, "hidden": logits.sum()},
        lambda logits: (logits, logits.sum(dim=1)),
    ],
    ids=["object", "mapping", "tuple"],
)
def test_a_student_may_answer_what_a_teacher_may(wrap):
    plain, wrapped = make_network(), Answering(wrap)
    for network in (plain, wrapped):
        list(train(network, make_batches(3), optim.SGD(network.parameters(), lr=0.1)))
    assert_same(weights(plain), weights(wrapped.network))


def test_an_answer_of_two_heads_is_refused():
    network = Answering(lambda logits: (logits, -logits))
    with pytest.raises(DataError, match="the network Answering, got several of the same shape"):
        list(train(network, make_batches(1), optim.SGD(network.parameters(), lr=0.1)))


def test_examples_without_a_hard_target_count_as_nothing():
    (batch,) = make_batches(1)
    logits = torch.randn(EXAMPLES, CLASSES, generator=generator(2))
    each = nn.functional.cross_entropy(logits, batch.hard_targets, reduction="none")
    targets = batch.hard_targets.clone()
    targets[::3] = -1
    found = hard_target_loss(logits, replace(batch, hard_targets=targets))
    torch.testing.assert_close(found, torch.where(targets >= 0, each, 0.0).mean())
    none = replace(batch, hard_targets=torch.full_like(targets, -1))
    assert hard_target_loss(logits, none) == 0


def test_a_class_that_the_logits_lack_is_our_error():
    (batch,) = make_batches(1)
    with pytest.raises(AttarError, match="expected hard_targets from 0 to 1, got 0 to 2"):
        hard_target_loss(torch.zeros(EXAMPLES, 2), batch)


def test_a_batch_goes_where_the_network_is():
    moved = []

    class Elsewhere(Batch):
        def to(self, device):
            moved.append(device)
            return self

    network = make_network()
    batches = (Elsewhere(b.inputs, b.hard_targets, b.indices) for b in make_batches(2))
    list(train(network, batches, optim.SGD(network.parameters(), lr=0.1)))
    assert moved == [torch.device("cpu")] * 2
    (batch,) = make_batches(1)
    there = batch.to(torch.device("meta"))
    assert {there.inputs.device.type, there.hard_targets.device.type} == {"meta"}
    assert there.indices.device.type == "meta"


def test_a_step_seeds_the_generators_that_it_uses_alone(monkeypatch):
    # Once, each step called torch.manual_seed, which seeds every backend there is: 0.2 ms.
    def fail(seed):
        raise AssertionError("all generators seeded")

    monkeypatch.setattr(torch, "manual_seed", fail)
    network = make_network(hidden_dropout=0.5)
    list(train(network, make_batches(2), optim.SGD(network.parameters(), lr=0.1)))
