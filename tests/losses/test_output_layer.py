import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from attar.errors import ShapeError
from attar.losses import (
    distillation_loss,
    output_layer_loss,
    soft_cross_entropy_with_teacher_logits,
    sparse_distillation_loss,
)
from attar.targets.encoding import Sparse, decode, encode

BATCH, FEATURES, CLASSES = 7, 4, 11


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def layer(dtype=torch.float64):
    features, weight = draw(BATCH, FEATURES, dtype=dtype), draw(CLASSES, FEATURES, dtype=dtype)
    return [each.requires_grad_() for each in (features, weight, draw(CLASSES, dtype=dtype))]


HARD = torch.arange(BATCH) % CLASSES
TEACHER = draw(BATCH, CLASSES, seed=1).float()
SPARSE = decode(encode(TEACHER, Sparse(k=3), np.random.default_rng(0)), Sparse(k=3), CLASSES)
DRAWN = decode(
    encode(TEACHER, Sparse(k=2, draws=2), np.random.default_rng(0)), Sparse(k=2, draws=2), CLASSES
)
WEIGHTS = {"temperature": 2.0, "soft_weight": 0.7, "hard_weight": 0.3}
LOSSES = {
    "hard": lambda z, rows: nn.functional.cross_entropy(z, HARD[rows], reduction="none"),
    "dense": lambda z, rows: distillation_loss(z, TEACHER[rows], HARD[rows], **WEIGHTS),
    "sparse": lambda z, rows: sparse_distillation_loss(z, SPARSE.rows(rows), HARD[rows], **WEIGHTS),
    "draws": lambda z, rows: sparse_distillation_loss(z, DRAWN.rows(rows), HARD[rows], **WEIGHTS),
}


def gradients(losses, tensors):
    weights = torch.arange(1, BATCH + 1, dtype=losses.dtype)  # the caller weighs them
    return torch.autograd.grad((losses * weights).sum(), tensors)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("rows", [1, 3, 7, 100, None])
def test_losses_and_gradients_are_those_of_the_plain_layer(name, rows):
    loss_fn, tensors = LOSSES[name], layer()
    features, weight, bias = tensors
    plain = loss_fn(nn.functional.linear(features, weight, bias), slice(0, BATCH))
    found = output_layer_loss(features, weight, bias, loss_fn, rows=rows)
    torch.testing.assert_close(found, plain)
    for got, expected in zip(gradients(found, tensors), gradients(plain, tensors), strict=True):
        torch.testing.assert_close(got, expected)


def test_two_classes_by_hand():
    features, weight = torch.ones(1, 1), torch.tensor([[0.0], [math.log(3.0)]])

    def loss_fn(logits, rows):
        return nn.functional.cross_entropy(logits, torch.tensor([0])[rows], reduction="none")

    weight.requires_grad_()
    loss = output_layer_loss(features, weight, torch.zeros(2), loss_fn)
    assert loss.item() == pytest.approx(math.log(4))  # softmax: 1/4, 3/4
    loss.sum().backward()
    torch.testing.assert_close(weight.grad, torch.tensor([[-0.75], [0.75]]))  # eq. 2, T = 1


@given(st.integers(1, 20), st.floats(1, 10))
def test_how_many_rows_are_done_at_once_changes_nothing(rows, temperature):
    whole = partial(soft_cross_entropy_with_teacher_logits, temperature=temperature)
    features, weight, bias = layer()
    losses = [
        output_layer_loss(
            features, weight, bias, lambda z, r: whole(z, TEACHER[r].double()), rows=n
        )
        for n in (rows, BATCH)
    ]
    torch.testing.assert_close(*losses)


def test_only_one_matrix_of_batch_times_classes_is_ever_there():
    batch, classes = 64, 5000
    features = draw(batch, 3, dtype=torch.float32).requires_grad_()
    weight, bias = draw(classes, 3, dtype=torch.float32), torch.zeros(classes)
    hard_targets = torch.arange(batch)

    def loss_fn(z, rows):
        return nn.functional.cross_entropy(z, hard_targets[rows], reduction="none")

    def peak(run):
        with torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
        ) as profile:
            run().sum().backward()
        now = most = 0
        for event in sorted(profile.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
            if event.name() == "[memory]":
                now += event.nbytes()
                most = max(most, now)
        return most / (batch * classes * 4)

    ours = peak(lambda: output_layer_loss(features, weight, bias, loss_fn, rows=4))
    plain = peak(lambda: loss_fn(nn.functional.linear(features, weight, bias), slice(0, batch)))
    assert ours < 1.5
    assert plain > 1.9


def test_nothing_is_kept_where_no_gradient_is_asked():
    features, weight, bias = (each.detach() for each in layer())
    found = output_layer_loss(features, weight, bias, LOSSES["hard"])
    assert not found.requires_grad


def test_a_frozen_layer_gets_no_gradient():
    features, weight, bias = layer()
    found = output_layer_loss(features, weight.detach(), bias.detach(), LOSSES["hard"])
    found.sum().backward()
    assert features.grad is not None
    assert weight.grad is None


def test_a_second_backward_is_refused():
    found = output_layer_loss(*layer(), LOSSES["hard"]).sum()
    found.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="goes backward once"):
        found.backward()


def test_tensors_that_do_not_fit_are_told(shape_hints_off):
    features, weight, bias = layer()
    with pytest.raises(ShapeError, match=r"got \[7, 3\], \[11, 4\], \[11\]"):
        output_layer_loss(features[:, :3], weight, bias, LOSSES["hard"])
    with pytest.raises(ShapeError, match=r"one loss for each of 7 rows, got \[\]"):
        output_layer_loss(features, weight, bias, lambda z, rows: z.sum(), rows=7)


def test_it_works_under_the_callers_autocast():
    # Once, backward multiplied bfloat16 by float32, and failed.
    plain, cast = layer(torch.float32), layer(torch.float32)
    expected = output_layer_loss(*plain, LOSSES["hard"])
    expected.sum().backward()
    with torch.autocast("cpu", torch.bfloat16):
        found = output_layer_loss(*cast, LOSSES["hard"])
        found.sum().backward()
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)
    for one, other in zip(cast, plain, strict=True):
        torch.testing.assert_close(one.grad, other.grad)
