import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attar.errors import AttarError, ShapeError
from attar.losses import (
    SparseTargets,
    distillation_loss,
    interpolate_tail,
    soft_cross_entropy,
    soft_cross_entropy_with_teacher_logits,
    sparse_distillation_loss,
    sparse_soft_cross_entropy,
    to_probabilities,
)
from attar.targets.encoding import Sparse, decode, encode
from attar.testing import DISTILLATION_LOSS_CHECKS

temperatures = st.floats(1, 20)
SOFT_ONLY = {"temperature": 2.0, "soft_weight": 1.0, "hard_weight": 0.0}


def sparse(v, k, *, seed=0, **options):
    """Encode logits as a store does; what it keeps in float16 is kept so."""
    encoding = Sparse(k=k, **options)
    return decode(encode(v, encoding, np.random.default_rng(seed)), encoding, v.shape[-1])


def exact(v):
    """All classes, nothing rounded."""
    v = v.to(torch.promote_types(v.dtype, torch.float32))
    top = v.topk(v.shape[-1], dim=-1)
    none = v.new_zeros((*v.shape[:-1], 0))
    relative = top.values - top.values[..., :1]
    return SparseTargets(top.indices, relative, none, none, (), v.shape[-1])


def random_logits(*shape, seed=0, scale=3.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, *shape, generator=generator, dtype=torch.float64).mul(scale).to(dtype)


def gradient(loss_fn, z, *arguments, **options):
    z = z.clone().requires_grad_()
    loss_fn(z, *arguments, **options).sum().backward()
    return z.grad


def exact_tail(v, k, temperature):
    return v.sort(descending=True).values[:, k:].div(temperature).logsumexp(-1)


# The tail


@given(st.integers(0, 2**32), st.floats(0.1, 15), st.sampled_from([1, 2, 4, 8]))
def test_the_tail_is_exact_at_its_knots(seed, scale, temperature):
    v = random_logits(3, 50, seed=seed, scale=scale)[0]
    v = v - v.amax(-1, keepdim=True)
    got = interpolate_tail(sparse(v, 5), temperature=float(temperature))
    expected = exact_tail(v, 5, temperature).float()
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@given(st.integers(0, 2**32), st.floats(0.1, 10))
def test_the_tail_is_convex_and_falls(seed, scale):
    targets = sparse(random_logits(3, 50, seed=seed, scale=scale)[0], 5)
    betas = np.linspace(0.02, 1, 50)
    tail = np.stack([interpolate_tail(targets, temperature=1 / b).double().numpy() for b in betas])
    slopes = np.diff(tail, axis=0) / np.diff(betas)[:, None]
    noise = 1e-4 * (1 + abs(slopes).max())  # float32, float16
    assert (np.diff(slopes, axis=0) > -30 * noise).all()
    assert (slopes < noise).all()


def test_a_tail_of_equal_logits_is_exact_everywhere():
    v = torch.full((1, 1000), -8.0)
    v[0, 3] = 0
    for temperature in (1.0, 1.3, 3.0, 6.5, 17.0, 1000.0):
        got = interpolate_tail(sparse(v, 1), temperature=temperature).item()
        assert got == pytest.approx(math.log(999) - 8 / temperature, rel=1e-5)


@given(st.integers(0, 2**32), temperatures, st.sampled_from([1.0, 3.0, 6.0]))
def test_the_tails_probability_is_right_within_half_a_percent(seed, temperature, scale):
    v = random_logits(4, 1000, seed=seed, scale=scale)[0]
    got = to_probabilities(sparse(v, 32), temperature=temperature)
    p = torch.softmax(v / temperature, -1).sort(descending=True).values
    torch.testing.assert_close(got.tail.double(), p[:, 32:].sum(-1), atol=0.005, rtol=0)
    total = got.largest.sum(-1) + got.tail
    torch.testing.assert_close(total, torch.ones(4))


def test_below_temperature_1_the_store_says_nothing():
    targets = sparse(random_logits(1, 10)[0], 3)
    with pytest.raises(AttarError, match=r"temperature >= 1 .* got 0.9; label with a dense store"):
        interpolate_tail(targets, temperature=0.9)


# The loss


def test_three_classes_by_hand():  # teacher 1/2; 1/4 + 1/4. student 1/4; 1/2 + 1/4
    v, z = torch.tensor([[math.log(2), 0.0, 0.0]]), torch.tensor([[0.0, math.log(2), 0.0]])
    loss = sparse_soft_cross_entropy(z, sparse(v, 1), temperature=1.0)
    assert loss.item() == pytest.approx(-0.5 * math.log(1 / 4) - 0.5 * math.log(3 / 4), abs=1e-3)


def all_classes(z, v, hard_targets, **options):
    return sparse_distillation_loss(z, exact(v), hard_targets, **options)


@pytest.mark.parametrize("check", DISTILLATION_LOSS_CHECKS, ids=lambda check: check.__name__)
def test_with_every_class_kept_it_obeys_the_laws(check):
    if check.__name__ == "classes_ruled_out_give_no_nan":
        pytest.skip("a store holds finite logits alone")
    check(all_classes)


@given(st.integers(0, 2**32), temperatures)
def test_with_every_class_kept_it_is_the_dense_loss(seed, temperature):
    z, v = random_logits(5, 20, seed=seed)
    options = {"temperature": temperature, "soft_weight": 0.7, "hard_weight": 0.4}
    hard = torch.tensor([0, 19, -1, 3, 4])
    got = sparse_distillation_loss(z, exact(v), hard, **options)
    torch.testing.assert_close(got, distillation_loss(z, v, hard, **options))
    got = gradient(sparse_distillation_loss, z, exact(v), hard, **options)
    torch.testing.assert_close(got, gradient(distillation_loss, z, v, hard, **options))


@given(st.integers(0, 2**32), temperatures)
def test_without_draws_it_is_the_dense_loss_of_the_tail_shared_out_as_the_student_does(
    seed, temperature
):
    z, v = random_logits(5, 50, seed=seed)
    targets = sparse(v, 6)
    kept = to_probabilities(targets, temperature=temperature)
    q = torch.softmax(z / temperature, -1)
    rest = q.scatter(-1, targets.indices, 0.0)
    shared = rest / rest.sum(-1, keepdim=True) * kept.tail[:, None]
    p = shared.scatter(-1, targets.indices, kept.largest.double())
    expected = gradient(soft_cross_entropy, z, p, temperature=temperature)
    got = gradient(sparse_soft_cross_entropy, z, targets, temperature=temperature)
    torch.testing.assert_close(got, expected, atol=1e-7, rtol=1e-5)


@given(st.integers(0, 2**32), st.sampled_from([1.0, 2.0, 3.0, 10.0]))
def test_the_loss_of_fewer_classes_is_no_higher(seed, temperature):  # the log-sum inequality
    z, v = random_logits(5, 50, seed=seed)
    few, many = (
        sparse_soft_cross_entropy(z, sparse(v, k), temperature=temperature) for k in (4, 20)
    )
    dense = soft_cross_entropy_with_teacher_logits(z, v, temperature=temperature)
    assert (few <= many + 0.02).all()  # float16, and the tail's interpolation
    assert (many <= dense + 0.02).all()


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
@pytest.mark.parametrize("k", [0, 3])
def test_draws_are_right_on_average(k, temperature):
    z, v = (x[:1].float() for x in random_logits(1, 20, scale=2.0))
    repeated = v.expand(4000, -1)
    targets = sparse(repeated, k, draws=8, draw_temperature=2.0)
    options = {"temperature": temperature}
    got = gradient(sparse_soft_cross_entropy, z.expand(4000, -1), targets, **options)
    expected = gradient(soft_cross_entropy_with_teacher_logits, z, v, **options)
    error = got.std(0) / math.sqrt(4000)
    assert ((got.mean(0) - expected[0]).abs() < 5 * error + 1e-3).all()
    kept = to_probabilities(targets, temperature=temperature)
    assert kept.draws.sum(-1).mean().item() == pytest.approx(kept.tail.mean().item(), rel=0.05)


@pytest.mark.parametrize("draws", [0, 5])
def test_finite_differences_and_a_second_backward(draws):
    z, v = random_logits(3, 20)
    targets = sparse(v, 4, draws=draws)
    z.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z: sparse_soft_cross_entropy(z, targets, temperature=3.0), z, atol=1e-4
    )
    loss = sparse_soft_cross_entropy(z, targets, temperature=3.0).sum()
    first = torch.autograd.grad(loss, z, retain_graph=True)[0].clone()
    second = torch.autograd.grad(loss, z)[0]
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize("draws", [0, 5])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_promoted(dtype, draws):
    z, v = random_logits(4, 50, dtype=dtype)
    targets = sparse(v, 5, draws=draws)
    got = sparse_soft_cross_entropy(z, targets, temperature=3.0)
    assert torch.equal(got, sparse_soft_cross_entropy(z.float(), targets, temperature=3.0))
    assert gradient(sparse_soft_cross_entropy, z, targets, temperature=3.0).dtype == dtype


def test_logits_of_ten_thousand_and_no_example():
    v = torch.tensor([[1e4, 0.0, -1e4]])
    z = torch.tensor([[0.0, 1e4, 0.0]])
    assert sparse_soft_cross_entropy(z, sparse(v, 1), temperature=1.0).item() == 1e4
    grad = gradient(sparse_soft_cross_entropy, z, sparse(v, 1), temperature=1.0)
    assert grad.tolist() == [[-1, 1, 0]]
    assert gradient(sparse_soft_cross_entropy, v, sparse(v, 1), temperature=1.0).norm() == 0
    empty = sparse(torch.zeros(0, 5), 2)
    assert sparse_soft_cross_entropy(torch.zeros(0, 5), empty, temperature=2.0).shape == (0,)


def as_buckets(z, targets, temperature):
    """The loss in float64 over k + 1 classes: the k largest, and the tail as one."""
    z = z.double()
    is_tail = torch.ones_like(z, dtype=torch.bool).scatter(-1, targets.indices, False)
    tail = (z / temperature).masked_fill(~is_tail, -math.inf).logsumexp(-1, keepdim=True)
    log_q = torch.cat([z.gather(-1, targets.indices) / temperature, tail], -1).log_softmax(-1)
    p = to_probabilities(targets, temperature=temperature)
    return -(torch.cat([p.largest, p.tail[..., None]], -1).double() * log_q).sum(-1)


@given(
    st.integers(0, 2**32),
    st.sampled_from([1e-2, 1.0, 30.0, 110.0, 1e3, 1e4]),
    st.sampled_from([1e-2, 1.0, 10.0, 100.0]),
    st.sampled_from([1.0, 1.5, 4.0]),
    st.sampled_from([1, 3, 8]),
)
def test_values_and_gradients_hold_for_any_gap_between_student_and_teacher(
    seed, student_scale, teacher_scale, temperature, k
):
    z, v = random_logits(4, 9, seed=seed, dtype=torch.float32)
    z = (z * student_scale / 3).clamp(-1e4, 1e4)
    targets = sparse(v * teacher_scale / 3, k)
    found = sparse_soft_cross_entropy(z, targets, temperature=temperature)
    expected = as_buckets(z, targets, temperature)
    torch.testing.assert_close(found.double(), expected, rtol=2e-6, atol=2e-6 * student_scale)
    grad = gradient(sparse_soft_cross_entropy, z, targets, temperature=temperature)
    expected = gradient(as_buckets, z.double(), targets, temperature=temperature)
    torch.testing.assert_close(grad.double(), expected, rtol=1e-4, atol=3e-6)


@pytest.mark.parametrize("gap", [80.0, 100.0, 110.0, 200.0, 1e4])
def test_the_tail_of_a_sure_student_keeps_its_gradient(gap):
    targets = sparse(torch.tensor([[0.0, -1.0, -1.0]]), 1)
    z = torch.tensor([[gap, 0.0, 0.0]])
    dense = {"teacher_logits": torch.tensor([[0.0, -1.0, -1.0]]), "temperature": 1.0}
    within_tail = torch.softmax(dense["teacher_logits"], -1)[0, 1:].sum() * math.log(2)
    torch.testing.assert_close(
        sparse_soft_cross_entropy(z, targets, temperature=1.0),
        soft_cross_entropy_with_teacher_logits(z, **dense) - within_tail,
        rtol=1e-3,
        atol=0,
    )
    torch.testing.assert_close(
        gradient(sparse_soft_cross_entropy, z, targets, temperature=1.0),
        gradient(soft_cross_entropy_with_teacher_logits, z, **dense),
        rtol=1e-3,
        atol=1e-6,
    )


def test_a_nan_is_never_hidden():
    z, v = random_logits(2, 9)
    z[0, 8] = math.nan
    for draws in (0, 3):
        loss = sparse_soft_cross_entropy(z, sparse(v, 2, draws=draws), temperature=2.0)
        assert loss.isnan().tolist() == [True, False]


def test_several_batch_axes():
    z, v = random_logits(6, 9)
    targets = sparse(v, 3)
    flat = sparse_soft_cross_entropy(z, targets, temperature=2.0)
    shaped = SparseTargets(
        targets.indices.reshape(2, 3, 3),
        targets.logits.reshape(2, 3, 3),
        targets.tail.reshape(2, 3, -1),
        targets.tail_slopes.reshape(2, 3, -1),
        targets.betas,
        targets.classes,
    )
    got = sparse_soft_cross_entropy(z.reshape(2, 3, 9), shaped, temperature=2.0)
    torch.testing.assert_close(got, flat.reshape(2, 3))


def test_wrong_arguments(shape_hints_off):
    targets, z = sparse(random_logits(2, 9)[1], 3), torch.zeros(2, 9)
    with pytest.raises(ShapeError, match=r"logits \[2, 9\] for these soft targets, got \[2, 8\]"):
        sparse_soft_cross_entropy(torch.zeros(2, 8), targets, temperature=2.0)
    with pytest.raises(AttarError, match="temperature > 0"):
        sparse_soft_cross_entropy(z, targets, temperature=0.0)
    for wrong, message in (({"soft_weight": 0.0}, "raise one"), ({"hard_weight": -1.0}, ">= 0")):
        with pytest.raises(AttarError, match=message):
            sparse_distillation_loss(z, targets, torch.tensor([0, 1]), **SOFT_ONLY | wrong)
    hard_only = SOFT_ONLY | {"soft_weight": 0.0, "hard_weight": 1.0}
    got = sparse_distillation_loss(z, targets, torch.tensor([0, -1]), **hard_only)
    torch.testing.assert_close(got, torch.tensor([math.log(9), 0.0]))
