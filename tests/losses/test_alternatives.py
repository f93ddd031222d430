import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr

from attar.errors import AttarError, ShapeError
from attar.losses import (
    correlation_distance,
    decoupled_divergence,
    kl_divergence_with_teacher_logits,
    soft_cross_entropy_with_teacher_logits,
    standardize_logits,
    standardized_kl_divergence,
    transformed_teacher_divergence,
)

temperatures, seeds, scales = st.floats(0.5, 20), st.integers(0, 2**32), st.floats(0.1, 10)
HARD = torch.tensor([0, 3, 1, -1, 2, 4])


def dkd(z, v, *, temperature, target_weight=1.0, other_weight=8.0):
    return decoupled_divergence(
        z, v, HARD, temperature=temperature, target_weight=target_weight, other_weight=other_weight
    )


dist = partial(correlation_distance, inter_weight=1.0, intra_weight=1.0)
wttm = partial(transformed_teacher_divergence, weighted=True)
ttm = partial(transformed_teacher_divergence, weighted=False)
LOSSES = {"standardized": standardized_kl_divergence, "dkd": dkd, "dist": dist, "wttm": wttm}
each_loss = pytest.mark.parametrize("loss_fn", LOSSES.values(), ids=LOSSES.keys())


def draw(seed, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(2, 6, 5, generator=generator, dtype=torch.float64)  # z, v


# What holds for all of them


@each_loss
def test_gradient_agrees_with_finite_differences(loss_fn):
    z, v = draw(1)
    assert torch.autograd.gradcheck(
        lambda z: loss_fn(z, v, temperature=3.0), z.clone().requires_grad_()
    )


@each_loss
@given(seed=seeds, scale=scales, temperature=temperatures)
def test_nothing_is_lost_by_agreeing_and_never_less_than_nothing(loss_fn, seed, scale, temperature):
    z, v = draw(seed, scale)
    assert (loss_fn(z, v, temperature=temperature) > -1e-9).all()
    if loss_fn is not wttm:
        agreeing = loss_fn(v + 7.0, v, temperature=temperature)  # a shift changes no probability
        assert agreeing.abs().max() < 1e-8 * max(1.0, temperature**2)
    else:
        assert loss_fn(v / temperature, v, temperature=temperature).abs().max() < 1e-9


@each_loss
def test_half_precision_is_computed_in_float32(loss_fn):
    z, v = draw(2)
    got = loss_fn(z.half(), v.half(), temperature=2.0)
    assert got.dtype == torch.float32
    expected = loss_fn(z.half().double(), v.half().double(), temperature=2.0)
    torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-4)


@each_loss
def test_the_teacher_is_a_constant(loss_fn):
    z, v = draw(3)
    v.requires_grad_()
    loss_fn(z.requires_grad_(), v, temperature=2.0).sum().backward()
    assert v.grad is None
    assert z.grad.abs().sum() > 0


@each_loss
def test_logits_of_ten_thousand_are_finite(loss_fn):
    z = torch.tensor([[1e4, 0.0, -1e4, 5.0, 1.0]] * 6, requires_grad=True)
    loss = loss_fn(z, -z.detach(), temperature=1.0)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert z.grad.isfinite().all()


@each_loss
def test_wrong_arguments_are_named(loss_fn, shape_hints_off):
    z, v = draw(4)
    with pytest.raises(ShapeError, match=r"\[6, 5\].*\[6, 4\]"):
        loss_fn(z, v[:, :4], temperature=1.0)
    with pytest.raises(AttarError, match="expected temperature > 0 and finite, got 0"):
        loss_fn(z, v, temperature=0.0)
    with pytest.raises(AttarError, match="expected floating-point"):
        loss_fn(z.long(), v.long(), temperature=1.0)


# Logit standardization


@given(seeds, scales, st.floats(-20, 20))
def test_shift_and_scale_of_a_row_are_taken_out(seed, scale, shift):
    z, v = draw(seed)
    got = standardize_logits(z)
    torch.testing.assert_close(standardize_logits(scale * z + shift), got)
    reference = (z.numpy() - z.numpy().mean(1, keepdims=True)) / z.numpy().std(1, keepdims=True)
    np.testing.assert_allclose(got.numpy(), reference, rtol=1e-7)
    moved = standardized_kl_divergence(scale * z + shift, v, temperature=2.0)
    torch.testing.assert_close(moved, standardized_kl_divergence(z, v, temperature=2.0))


def test_it_is_the_kl_divergence_of_standardized_logits():
    z, v = draw(5)
    expected = 9 * kl_divergence_with_teacher_logits(
        standardize_logits(z), standardize_logits(v), temperature=3.0
    )
    torch.testing.assert_close(standardized_kl_divergence(z, v, temperature=3.0), expected)


def test_a_row_of_equal_logits_becomes_zeros():
    z = torch.full((1, 4), 3.0, requires_grad=True)
    got = standardize_logits(z)
    got.sum().backward()
    assert got.tolist() == [[0.0] * 4]
    assert z.grad.isfinite().all()


# Decoupled


@given(seeds, scales, temperatures)
def test_with_the_teachers_own_weight_it_is_the_kl_divergence(seed, scale, temperature):
    # Its eq. 6: KL = TCKD + (1 - p of the true class) · NCKD.
    z, v = draw(seed, scale)
    apart = [
        dkd(z, v, temperature=temperature, target_weight=a, other_weight=b)
        for a, b in ((1.0, 0.0), (0.0, 1.0))
    ]
    others = 1 - (v / temperature).softmax(1).gather(1, HARD.clamp(min=0)[:, None]).squeeze(1)
    plain = temperature**2 * kl_divergence_with_teacher_logits(z, v, temperature=temperature)
    together = torch.where(HARD == -1, plain, apart[0] + others * apart[1])
    torch.testing.assert_close(together, plain, rtol=1e-6, atol=1e-7)


@given(seeds, temperatures)
def test_the_others_term_does_not_see_the_true_class(seed, temperature):
    z, v = draw(seed)
    options = {"temperature": temperature, "target_weight": 0.0, "other_weight": 1.0}
    before = dkd(z, v, **options)
    for row, hard_target in enumerate(HARD.tolist()):
        z[row, hard_target] += 5.0
    known = HARD != -1
    torch.testing.assert_close(dkd(z, v, **options)[known], before[known], rtol=1e-6, atol=1e-9)


def test_three_classes_by_hand():
    q, p = torch.tensor([[0.5, 0.3, 0.2]]), torch.tensor([[0.6, 0.1, 0.3]])
    got = decoupled_divergence(
        q.log(), p.log(), torch.tensor([0]), temperature=1.0, target_weight=2.0, other_weight=3.0
    )
    of_target = 0.6 * math.log(0.6 / 0.5) + 0.4 * math.log(0.4 / 0.5)
    of_others = 0.25 * math.log(0.25 / 0.6) + 0.75 * math.log(0.75 / 0.4)
    assert got.item() == pytest.approx(2 * of_target + 3 * of_others, rel=1e-5)


def test_one_class_has_no_others(shape_hints_off):
    options = {"temperature": 1.0, "target_weight": 1.0, "other_weight": 1.0}
    with pytest.raises(ShapeError, match="at least two classes"):
        decoupled_divergence(torch.zeros(1, 1), torch.zeros(1, 1), torch.tensor([0]), **options)
    with pytest.raises(AttarError, match="other_weight >= 0"):
        dkd(*draw(0), temperature=1.0, other_weight=-1.0)


# Correlation


@given(seeds, scales, temperatures)
def test_correlations_are_pearsons(seed, scale, temperature):
    z, v = draw(seed, scale)
    q, p = ((each / temperature).softmax(1).numpy() for each in (z, v))
    rows = [1 - pearsonr(a, b).statistic for a, b in zip(q, p, strict=True)]
    columns = [1 - pearsonr(a, b).statistic for a, b in zip(q.T, p.T, strict=True)]
    for inter, intra in ((1.0, 0.0), (0.0, 1.0)):
        got = correlation_distance(
            z, v, temperature=temperature, inter_weight=inter, intra_weight=intra
        )
        expected = inter * np.array(rows) + intra * np.mean(columns)
        np.testing.assert_allclose(got.numpy() / temperature**2, expected, rtol=1e-5, atol=1e-7)


def test_probabilities_that_are_a_linear_function_of_the_teachers_cost_nothing():
    p = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], dtype=torch.float64)
    q = 0.5 * p + 0.5 / 3  # softer, in the same proportions of differences
    assert dist(q.log(), p.log(), temperature=1.0).abs().max() < 1e-12
    kl = kl_divergence_with_teacher_logits(q.log(), p.log(), temperature=1.0)
    assert kl.min() > 0.05


def test_what_has_no_correlation_costs_one():
    v = torch.tensor([[0.0, 1.0, 2.0]])  # one example: no class varies
    got = dist(torch.zeros(1, 3), v, temperature=1.0)
    assert got.tolist() == [2.0]
    with pytest.raises(ShapeError, match=r"\[batch, classes\]"):
        dist(torch.zeros(2, 2, 3), torch.zeros(2, 2, 3), temperature=1.0)


# Transformed teacher


@given(seeds, scales)
def test_at_temperature_one_it_is_the_kl_divergence(seed, scale):
    z, v = draw(seed, scale)
    expected = kl_divergence_with_teacher_logits(z, v, temperature=1.0)
    for loss_fn in (ttm, wttm):
        torch.testing.assert_close(loss_fn(z, v, temperature=1.0), expected)


@given(seeds, scales, st.floats(1.1, 20))
def test_hintons_loss_is_this_one_and_a_renyi_entropy(seed, scale, temperature):
    # H(p_T, q_T) = γ H(p_T, q) + (1 - γ) H_γ(q), γ = 1/T, Rényi's H_γ = log Σ q^γ / (1 - γ).
    z, v = draw(seed, scale)
    order = 1 / temperature
    p = (v / temperature).softmax(1)
    entropy = -(p * p.log()).nan_to_num().sum(1)
    renyi = (order * z.log_softmax(1)).logsumexp(1) / (1 - order)
    together = order * (ttm(z, v, temperature=temperature) + entropy) + (1 - order) * renyi
    hintons = soft_cross_entropy_with_teacher_logits(z, v, temperature=temperature)
    torch.testing.assert_close(together, hintons)


@given(seeds, scales, st.floats(1.1, 20))
def test_the_weight_is_the_power_sum_and_grows_with_softness(seed, scale, temperature):
    z, v = draw(seed, scale)
    ratio = wttm(z, v, temperature=temperature) / ttm(z, v, temperature=temperature)
    powers = (v.softmax(1) ** (1 / temperature)).sum(1)
    torch.testing.assert_close(ratio, powers, rtol=1e-5, atol=1e-5)
    assert (powers >= 1 - 1e-9).all()
    assert (powers <= 5 ** (1 - 1 / temperature) + 1e-9).all()  # of a teacher that knows nothing
