import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812

from attar.errors import AttarError, ShapeError
from attar.losses import (
    distillation_loss,
    kl_divergence,
    kl_divergence_with_teacher_logits,
    logit_matching,
    soft_cross_entropy,
    soft_cross_entropy_with_teacher_logits,
    softmax_with_temperature,
)

INF, LN3, LN4 = math.inf, math.log(3), math.log(4)
pairs = st.lists(st.tuples(*[st.floats(-30, 30)] * 2), min_size=1, max_size=6)  # z, v by class
temperatures = st.floats(0.5, 20)


def distilled(z, v, hard_targets, temperature=2.0, soft_weight=1.0, hard_weight=0.0):
    weights = {"soft_weight": soft_weight, "hard_weight": hard_weight}
    return distillation_loss(z, v, hard_targets, temperature=temperature, **weights)


def soft_term(z, v, *, temperature):
    return distilled(z, v, torch.zeros(z.shape[:-1]).long(), temperature) / temperature**2


def matching(z, v, *, temperature):
    return logit_matching(z, v)


BY_PROBABILITIES = [soft_cross_entropy, kl_divergence]
KLS = [kl_divergence, kl_divergence_with_teacher_logits]
CROSS_ENTROPIES = [soft_cross_entropy, soft_cross_entropy_with_teacher_logits, soft_term]
SOFT_LOSSES = CROSS_ENTROPIES + KLS


def run(loss_fn, z, v, temperature):
    if loss_fn in BY_PROBABILITIES:
        v = softmax_with_temperature(v, temperature=temperature)
    return loss_fn(z, v, temperature=temperature)


def gradient(loss_fn, z, *arguments):
    z = z.clone().requires_grad_()
    loss = distilled(z, *arguments) if loss_fn is distilled else run(loss_fn, z, *arguments)
    return torch.autograd.grad(loss.sum(), z)[0]


def row(*logits):
    return torch.tensor([logits])


def rows(pairs):
    return torch.tensor(pairs, dtype=torch.float64).T.unsqueeze(1)  # z and v [1, classes]


def random_logits(*shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, *shape, generator=generator, dtype=torch.float64).mul(3).to(dtype)


@given(pairs, temperatures)
def test_a_higher_temperature_makes_the_softmax_softer(pairs, temperature):
    z, _ = rows(pairs)
    sharp = softmax_with_temperature(z, temperature=temperature)
    soft = softmax_with_temperature(z, temperature=2 * temperature)
    assert torch.special.entr(soft).sum() >= torch.special.entr(sharp).sum() - 1e-12


@given(pairs, temperatures)
def test_softmax_equals_equation_1_term_by_term(pairs, temperature):
    powers = [math.exp(z / temperature) for z, _ in pairs]
    expected = torch.tensor([[power / math.fsum(powers) for power in powers]], dtype=torch.float64)
    z, _ = rows(pairs)
    torch.testing.assert_close(softmax_with_temperature(z, temperature=temperature), expected)


def test_softmax_by_hand_and_of_extreme_logits():
    p = softmax_with_temperature(row(0.0, 2 * LN3), temperature=2.0)
    torch.testing.assert_close(p, row(0.25, 0.75))
    assert softmax_with_temperature(row(1e4, -1e4, -INF), temperature=1.0).tolist() == [[1, 0, 0]]
    assert softmax_with_temperature(row(-7.0), temperature=3.0).item() == 1
    assert softmax_with_temperature(torch.zeros(0, 3), temperature=1.0).shape == (0, 3)


@pytest.mark.parametrize("loss_fn", SOFT_LOSSES)
def test_soft_losses_by_hand(loss_fn):
    z, v = row(0.0, 2 * LN3), row(0.0, 2 * LN4)  # at T = 2: 1/4, 3/4 and 1/5, 4/5
    entropy = 1 / 5 * math.log(5) + 4 / 5 * math.log(5 / 4) if loss_fn in KLS else 0
    by_hand = 1 / 5 * LN4 + 4 / 5 * math.log(4 / 3) - entropy
    assert run(loss_fn, z, v, 2.0).item() == pytest.approx(by_hand, rel=1e-5)  # the KL is small


@pytest.mark.parametrize("loss_fn", SOFT_LOSSES)
def test_gradient_is_q_minus_p_over_temperature(loss_fn):  # eq. 2
    z, v = random_logits(8, 10)
    expected = (torch.softmax(z / 4.0, dim=-1) - torch.softmax(v / 4.0, dim=-1)) / 4.0
    torch.testing.assert_close(gradient(loss_fn, z, v, 4.0), expected)


@pytest.mark.parametrize("loss_fn", SOFT_LOSSES)
@given(pairs=pairs, temperature=temperatures, shift=st.floats(-50, 50))
def test_a_constant_added_to_all_logits_changes_nothing(loss_fn, pairs, temperature, shift):
    z, v = rows(pairs)
    expected = run(loss_fn, z, v, temperature)
    for moved in (run(loss_fn, z + shift, v, temperature), run(loss_fn, z, v + shift, temperature)):
        torch.testing.assert_close(moved, expected, rtol=1e-9, atol=1e-9)


@given(pairs, temperatures)
def test_soft_cross_entropy_is_kl_plus_the_teachers_entropy(pairs, temperature):
    z, v = rows(pairs)
    entropy = torch.special.entr(softmax_with_temperature(v, temperature=temperature)).sum(dim=-1)
    for cross_entropy in CROSS_ENTROPIES:
        for kl in KLS:
            together = run(kl, z, v, temperature) + entropy
            torch.testing.assert_close(run(cross_entropy, z, v, temperature), together)


@pytest.mark.parametrize("kl", KLS)
@given(pairs=pairs, temperature=temperatures)
def test_kl_divergence_is_zero_between_equals_and_positive_elsewhere(kl, pairs, temperature):
    z, v = rows(pairs)
    q, p = (softmax_with_temperature(x, temperature=temperature) for x in (z, v))
    distance = (q - p).abs().sum().item()
    assert run(kl, z, v, temperature).item() >= distance**2 / 2 - 1e-12  # Pinsker's inequality
    assert run(kl, v, v, temperature).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("loss_fn", SOFT_LOSSES)
def test_soft_losses_agree_with_pytorchs_own_in_float64(loss_fn, dtype):
    z, v = random_logits(2, 15_000, dtype=dtype)
    log_p, log_q = (torch.log_softmax(x.double() / 3, dim=-1) for x in (v, z))
    expected = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=-1)
    if loss_fn not in KLS:
        expected = F.cross_entropy(z.double() / 3, log_p.exp(), reduction="none")
    torch.testing.assert_close(run(loss_fn, z, v, 3.0), expected.to(dtype))


@pytest.mark.parametrize("loss_fn", SOFT_LOSSES)
def test_a_class_that_both_rule_out_changes_nothing(loss_fn):  # 0 · log 0 = 0
    z, v = random_logits(3, 5)
    z_shut, v_shut = (F.pad(x, (0, 1), value=-INF) for x in (z, v))
    torch.testing.assert_close(run(loss_fn, z_shut, v_shut, 2.0), run(loss_fn, z, v, 2.0))
    got, expected = gradient(loss_fn, z_shut, v_shut, 2.0), gradient(loss_fn, z, v, 2.0)
    torch.testing.assert_close(got, F.pad(expected, (0, 1)))


@pytest.mark.parametrize("loss_fn", SOFT_LOSSES)
def test_one_side_alone_ruling_a_class_out(loss_fn):
    z, shut = row(0.0, 0.0, 0.0), row(-INF, 0.0, 0.0)
    assert run(loss_fn, z, shut, 1.0).item() == pytest.approx(LN3 - math.log(2) * (loss_fn in KLS))
    torch.testing.assert_close(gradient(loss_fn, z, shut, 1.0), torch.tensor([[2, -1, -1]]) / 6)
    assert run(loss_fn, shut, z, 1.0).item() == INF  # what the teacher can see, the student can't
    assert gradient(loss_fn, shut, z, 1.0).isfinite().all()


@pytest.mark.parametrize("loss_fn", SOFT_LOSSES)
def test_logits_of_ten_thousand_one_class_and_no_example(loss_fn):
    z, v = row(1e4, -1e4, 0.0), row(-1e4, 1e4, 0.0)
    assert run(loss_fn, z, v, 2.0).item() == 1e4
    assert gradient(loss_fn, z, v, 2.0).tolist() == [[0.5, -0.5, 0.0]]
    assert run(loss_fn, z, z, 2.0).item() == 0
    assert run(loss_fn, row(3.0), row(-2.0), 2.0).tolist() == [0]
    assert run(loss_fn, torch.zeros(0, 3), torch.zeros(0, 3), 2.0).shape == (0,)


@pytest.mark.parametrize("loss_fn", [*SOFT_LOSSES, matching])
def test_a_nan_is_never_hidden(loss_fn):
    good, bad = torch.zeros(2, 3), torch.tensor([[0.0, math.nan, 0.0], [0.0, 0.0, 0.0]])
    for loss in (run(loss_fn, bad, good, 2.0), run(loss_fn, good, bad, 2.0)):
        assert loss.isnan().tolist() == [True, False]


@pytest.mark.parametrize("loss_fn", [*SOFT_LOSSES, matching])
def test_no_gradient_flows_into_the_teacher(loss_fn):
    z, v = random_logits(2, 3)
    assert not run(loss_fn, z, v.requires_grad_(), 2.0).requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("loss_fn", [*SOFT_LOSSES, matching])
def test_half_precision_is_promoted_even_under_autocast(loss_fn, dtype):
    z, v = random_logits(4, 50, dtype=dtype)
    expected = run(loss_fn, z.float(), v.float(), 3.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = run(loss_fn, z, v, 3.0)
    torch.testing.assert_close(got, expected, rtol=0, atol=0)  # of its dtype, float32, too


def test_logit_matching_by_hand_and_of_extreme_logits():
    z, v = row(5.0, 7.0), row(3.0, 1.0)  # zero-meaned: -1, 1 and 1, -1
    assert logit_matching(z, v).tolist() == [(2**2 + 2**2) / (2 * 2)]
    assert logit_matching(row(1e4, -1e4), row(-1e4, 1e4)).item() == 2e8
    assert logit_matching(row(3.0), row(-2.0)).item() == 0
    assert logit_matching(torch.zeros(0, 3), torch.zeros(0, 3)).shape == (0,)


@pytest.mark.parametrize("kl", KLS)
@given(pairs=pairs)
def test_t_squared_times_kl_tends_to_logit_matching(kl, pairs):  # as 1/T
    z, v = rows(pairs)
    largest = torch.maximum(z.abs().max(), v.abs().max()).item()
    for t in (1e3, 1e4):
        gap = t**2 * run(kl, z, v, t) - logit_matching(z, v)
        assert gap.abs().item() <= 2 * largest**3 / t + 1e-6


def test_gradient_of_logit_matching_is_the_difference_over_the_classes():  # eq. 4, times T²
    z, v = (x - x.mean(dim=-1, keepdim=True) for x in random_logits(4, 6))
    torch.testing.assert_close(gradient(matching, z, v, 1.0), (z - v) / 6)


@given(pairs)
def test_logit_matching_is_half_the_variance_of_the_difference(pairs):
    z, v = rows(pairs)
    torch.testing.assert_close(logit_matching(z, v), torch.var(z - v, dim=-1, correction=0) / 2)


def test_distillation_loss_by_hand():
    z, v = row(0.0, 2 * LN3), row(0.0, 2 * LN4)  # 1/4, 3/4; 1/5, 4/5; at T = 1, q is 1/10, 9/10
    soft, hard = 4 * (1 / 5 * LN4 + 4 / 5 * math.log(4 / 3)), math.log(10)
    loss = distilled(z, v, torch.tensor([0]), temperature=2.0, soft_weight=0.7, hard_weight=0.4)
    assert loss.item() == pytest.approx(0.7 * soft + 0.4 * hard)


def test_t_squared_keeps_the_size_of_the_gradient():  # sec. 2
    z, v = random_logits(1, 10)
    at_100, at_1000 = (gradient(distilled, z, v, torch.tensor([0]), t).norm() for t in (1e2, 1e3))
    assert at_100.item() == pytest.approx(at_1000.item(), rel=0.05)


def test_distillation_loss_is_the_textbooks_on_any_number_of_batch_axes():
    (z, v), hard_targets = random_logits(6, 5), torch.tensor([0, 4, 2, 1, 1, 3])
    soft = F.cross_entropy(z / 3, torch.softmax(v / 3, dim=-1), reduction="none")
    expected = 0.7 * 9 * soft + 0.4 * F.cross_entropy(z, hard_targets, reduction="none")
    batch = [x.unflatten(0, (2, 3)) for x in (z, v, hard_targets)]
    torch.testing.assert_close(distilled(*batch, 3.0, 0.7, 0.4), expected.unflatten(0, (2, 3)))


@pytest.mark.parametrize("unlabeled_logits", [[0.0, 1.0, 2.0], [-INF, 1.0, 2.0]])
def test_an_unlabeled_example_has_no_hard_term(unlabeled_logits):
    z, v = torch.tensor([[0.0, 1.0, 2.0], unlabeled_logits]), torch.zeros(2, 3)
    hard_only = v, torch.tensor([2, -1]), 2.0, 0.0, 1.0
    by_hand = [math.log(1 + math.exp(-1) + math.exp(-2)), 0]
    assert distilled(z, *hard_only).tolist() == pytest.approx(by_hand)
    assert gradient(distilled, z, *hard_only)[1].tolist() == [0, 0, 0]


def test_a_weight_of_zero_leaves_its_term_out():
    z, v = random_logits(2, 3)
    soft = distilled(z, v, torch.tensor([7, 99]), soft_weight=1.0, hard_weight=0.0)
    hard = distilled(z, v * math.nan, torch.tensor([0, 2]), soft_weight=0.0, hard_weight=1.0)
    both = distilled(z, v, torch.tensor([0, 2]), soft_weight=1.0, hard_weight=1.0)
    torch.testing.assert_close(soft + hard, both)


@pytest.mark.parametrize("loss_fn", [*SOFT_LOSSES, matching])
def test_errors_name_both_shapes_and_the_wrong_dtype(loss_fn, shape_hints_off):
    teacher = "soft_targets" if loss_fn in BY_PROBABILITIES else "teacher_logits"
    with pytest.raises(ShapeError, match=rf"got logits \[8, 10\], {teacher} \[8, 9\]; do both"):
        loss_fn(torch.zeros(8, 10), torch.zeros(8, 9), temperature=1.0)
    with pytest.raises(AttarError, match=r"floating-point logits, got torch.int64; try logits.flo"):
        loss_fn(torch.zeros(8, 10).long(), torch.zeros(8, 10), temperature=1.0)
    with pytest.raises(ShapeError, match=r"expected one class at least, got logits \[8, 0\]"):
        loss_fn(torch.zeros(8, 0), torch.zeros(8, 0), temperature=1.0)


@pytest.mark.parametrize("t", [0.0, -1.0, math.nan, INF])
@pytest.mark.parametrize("loss_fn", SOFT_LOSSES)
def test_a_temperature_must_be_positive_and_finite(loss_fn, t):
    with pytest.raises(AttarError, match=f"expected temperature > 0 and finite, got {t}"):
        loss_fn(torch.zeros(2, 3), torch.zeros(2, 3), temperature=t)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"soft_weight": math.nan}, "expected soft_weight >= 0 and finite, got nan"),
        ({"soft_weight": 0.0, "hard_weight": 0.0}, "> 0 or hard_weight > 0, got 0 for both"),
        ({"hard_targets": torch.tensor([0, 3])}, "from 0 to 2, got 0 to 3; .* unlabeled .* -1"),
        ({"hard_weight": -1.0}, "expected hard_weight >= 0 and finite, got -1.0"),
        ({"hard_targets": torch.tensor([-100, 2])}, "from 0 to 2, got -100 to 2; .* unlabeled"),
        ({"hard_targets": torch.zeros(2)}, r"int64, got torch.float32; try hard_targets.long\(\)"),
        ({"hard_targets": torch.zeros(2, 3).long()}, r"\[2, 3\], logits \[2, 3\]; are they one"),
    ],
)
def test_distillation_loss_tells_what_is_wrong(changed, message, shape_hints_off):
    arguments = {"hard_targets": torch.tensor([0, 1]), "hard_weight": 1.0} | changed
    with pytest.raises(AttarError, match=message):
        distilled(torch.zeros(2, 3), torch.zeros(2, 3), **arguments)
