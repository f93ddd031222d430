import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
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

INF = math.inf
LN3, LN4 = math.log(3), math.log(4)

logits = st.floats(-30, 30)
pairs = st.lists(st.tuples(logits, logits), min_size=1, max_size=6)  # (z, v) per class
temperatures = st.floats(0.5, 20)


def cross_entropy_at(z, v, temperature):
    """The soft cross-entropy by way of the probabilities."""
    p = softmax_with_temperature(v, temperature=temperature)
    return soft_cross_entropy(z, p, temperature=temperature)


def kl_at(z, v, temperature):
    """The KL divergence by way of the probabilities."""
    p = softmax_with_temperature(v, temperature=temperature)
    return kl_divergence(z, p, temperature=temperature)


def cross_entropy_by_logits(z, v, temperature):
    return soft_cross_entropy_with_teacher_logits(z, v, temperature=temperature)


def kl_by_logits(z, v, temperature):
    return kl_divergence_with_teacher_logits(z, v, temperature=temperature)


def soft_term(z, v, temperature):
    options = {"temperature": temperature, "soft_weight": 1 / temperature**2, "hard_weight": 0.0}
    return distillation_loss(z, v, torch.zeros(z.shape[:-1], dtype=torch.int64), **options)


def matching(z, v, temperature):
    return logit_matching(z, v)


CROSS_ENTROPIES = [cross_entropy_at, cross_entropy_by_logits, soft_term]
KLS = [kl_at, kl_by_logits]
SOFT_LOSSES = CROSS_ENTROPIES + KLS
SOFT_ONLY = {"temperature": 2.0, "soft_weight": 1.0, "hard_weight": 0.0}
HARD_ONLY = {"temperature": 2.0, "soft_weight": 0.0, "hard_weight": 1.0}


def rows(pairs):
    """One example of student and teacher logits in float64, shape [1, classes] each."""
    return torch.tensor(pairs, dtype=torch.float64).T.unsqueeze(1)


def random_logits(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, *shape, generator=generator, dtype=torch.float64).mul(3).to(dtype)


def gradient(loss_fn, z, *arguments):
    z = z.clone().requires_grad_()
    loss_fn(z, *arguments).sum().backward()
    return z.grad


# softmax_with_temperature: eq. 1


def test_softmax_by_hand():
    p = softmax_with_temperature(torch.tensor([[0.0, 2 * LN3]]), temperature=2.0)
    torch.testing.assert_close(p, torch.tensor([[0.25, 0.75]]))


@given(pairs, temperatures)
def test_a_higher_temperature_makes_the_softmax_softer(pairs, temperature):
    z, _ = rows(pairs)
    sharp = softmax_with_temperature(z, temperature=temperature)
    soft = softmax_with_temperature(z, temperature=2 * temperature)
    assert torch.special.entr(soft).sum() >= torch.special.entr(sharp).sum() - 1e-12


@given(pairs, temperatures)
def test_softmax_equals_equation_1_term_by_term(pairs, temperature):
    z = [student for student, _ in pairs]
    powers = [math.exp(score / temperature) for score in z]
    expected = torch.tensor([[power / math.fsum(powers) for power in powers]], dtype=torch.float64)
    got = softmax_with_temperature(rows(pairs)[0], temperature=temperature)
    torch.testing.assert_close(got, expected)


def test_softmax_of_extreme_logits():
    p = softmax_with_temperature(torch.tensor([[1e4, -1e4, -INF]]), temperature=1.0)
    assert p.tolist() == [[1.0, 0.0, 0.0]]
    assert softmax_with_temperature(torch.tensor([[-7.0]]), temperature=3.0).item() == 1
    assert softmax_with_temperature(torch.zeros(0, 3), temperature=1.0).shape == (0, 3)


# The soft losses


@pytest.mark.parametrize("loss_fn", CROSS_ENTROPIES)
def test_soft_cross_entropy_by_hand(loss_fn):
    z, v = torch.tensor([[0.0, 2 * LN3]]), torch.tensor([[0.0, 2 * LN4]])  # 1/4, 3/4; 1/5, 4/5
    assert loss_fn(z, v, 2.0).item() == pytest.approx(1 / 5 * LN4 + 4 / 5 * math.log(4 / 3))


@pytest.mark.parametrize("loss_fn", KLS)
def test_kl_divergence_by_hand(loss_fn):
    z, v = torch.tensor([[0.0, 2 * LN3]]), torch.tensor([[0.0, 0.0]])  # 1/4, 3/4; 1/2, 1/2
    assert loss_fn(z, v, 2.0).item() == pytest.approx(0.5 * math.log(4 / 3))


@pytest.mark.parametrize("loss_fn", SOFT_LOSSES)
def test_gradient_is_q_minus_p_over_temperature(loss_fn):  # eq. 2
    z, v = random_logits(8, 10)
    expected = (torch.softmax(z / 4.0, dim=-1) - torch.softmax(v / 4.0, dim=-1)) / 4.0
    torch.testing.assert_close(gradient(loss_fn, z, v, 4.0), expected)


@pytest.mark.parametrize("loss_fn", SOFT_LOSSES)
@given(pairs=pairs, temperature=temperatures, shift=st.floats(-50, 50))
def test_a_constant_added_to_all_logits_changes_nothing(loss_fn, pairs, temperature, shift):
    z, v = rows(pairs)
    expected = loss_fn(z, v, temperature)
    torch.testing.assert_close(loss_fn(z + shift, v, temperature), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(loss_fn(z, v + shift, temperature), expected, rtol=1e-9, atol=1e-9)


@given(pairs, temperatures)
def test_soft_cross_entropy_is_kl_plus_the_teachers_entropy(pairs, temperature):
    z, v = rows(pairs)
    entropy = torch.special.entr(softmax_with_temperature(v, temperature=temperature)).sum(dim=-1)
    for cross_entropy in CROSS_ENTROPIES:
        for kl in KLS:
            together = kl(z, v, temperature) + entropy
            torch.testing.assert_close(cross_entropy(z, v, temperature), together)


@pytest.mark.parametrize("kl", KLS)
@given(pairs=pairs, temperature=temperatures)
def test_kl_divergence_is_zero_between_equals_and_positive_elsewhere(kl, pairs, temperature):
    z, v = rows(pairs)
    q, p = (softmax_with_temperature(x, temperature=temperature) for x in (z, v))
    distance = (q - p).abs().sum().item()
    assert kl(z, v, temperature).item() >= distance**2 / 2 - 1e-12  # Pinsker's inequality
    assert kl(v, v, temperature).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_soft_losses_agree_with_pytorchs_own(dtype):
    z, v = random_logits(16, 1000, dtype=dtype)
    p, log_p = torch.softmax(v / 3, dim=-1), torch.log_softmax(v / 3, dim=-1)
    cross_entropy = F.cross_entropy(z / 3, p, reduction="none")
    kl = F.kl_div(F.log_softmax(z / 3, -1), log_p, reduction="none", log_target=True).sum(dim=-1)
    for loss_fn in SOFT_LOSSES:
        expected = kl if loss_fn in KLS else cross_entropy
        torch.testing.assert_close(loss_fn(z, v, 3.0), expected)


@pytest.mark.parametrize("loss_fn", SOFT_LOSSES)
def test_15000_classes_in_float32_are_as_good_as_in_float64(loss_fn):
    z, v = random_logits(2, 15_000)
    loss = loss_fn(z.float(), v.float(), 2.0)
    torch.testing.assert_close(loss.double(), loss_fn(z, v, 2.0), rtol=1e-5, atol=0)


@pytest.mark.parametrize("loss_fn", SOFT_LOSSES)
def test_a_class_that_both_rule_out_changes_nothing(loss_fn):  # 0 · log 0 = 0
    z, v = random_logits(3, 5)
    shut = torch.full((3, 1), -INF, dtype=torch.float64)
    z_shut, v_shut = torch.cat([z, shut], dim=-1), torch.cat([v, shut], dim=-1)
    torch.testing.assert_close(loss_fn(z_shut, v_shut, 2.0), loss_fn(z, v, 2.0))
    got, expected = gradient(loss_fn, z_shut, v_shut, 2.0), gradient(loss_fn, z, v, 2.0)
    torch.testing.assert_close(got, F.pad(expected, (0, 1)))


@pytest.mark.parametrize("loss_fn", SOFT_LOSSES)
def test_one_side_alone_ruling_a_class_out(loss_fn):
    z, shut = torch.tensor([[0.0, 0.0, 0.0]]), torch.tensor([[-INF, 0.0, 0.0]])
    expected = math.log(3 / 2) if loss_fn in KLS else LN3
    assert loss_fn(z, shut, 1.0).item() == pytest.approx(expected)
    torch.testing.assert_close(gradient(loss_fn, z, shut, 1.0), torch.tensor([[2, -1, -1]]) / 6)
    assert loss_fn(shut, z, 1.0).item() == INF  # what the teacher can see, the student can't
    assert gradient(loss_fn, shut, z, 1.0).isfinite().all()


@pytest.mark.parametrize("loss_fn", SOFT_LOSSES)
def test_logits_of_ten_thousand_one_class_and_no_example(loss_fn):
    z, v = torch.tensor([[1e4, -1e4, 0.0]]), torch.tensor([[-1e4, 1e4, 0.0]])
    assert loss_fn(z, v, 2.0).item() == 1e4
    assert gradient(loss_fn, z, v, 2.0).tolist() == [[0.5, -0.5, 0.0]]
    assert loss_fn(z, z, 2.0).item() == 0
    assert loss_fn(torch.tensor([[3.0]]), torch.tensor([[-2.0]]), 2.0).tolist() == [0]
    assert loss_fn(torch.zeros(0, 3), torch.zeros(0, 3), 2.0).shape == (0,)


@pytest.mark.parametrize("loss_fn", [*SOFT_LOSSES, matching])
def test_a_nan_is_never_hidden(loss_fn):
    good, bad = torch.zeros(2, 3), torch.tensor([[0.0, math.nan, 0.0], [0.0, 0.0, 0.0]])
    for loss in (loss_fn(bad, good, 2.0), loss_fn(good, bad, 2.0)):
        assert loss.isnan().tolist() == [True, False]


@pytest.mark.parametrize("loss_fn", [*SOFT_LOSSES, matching])
def test_no_gradient_flows_into_the_teacher(loss_fn):
    z, v = (x.requires_grad_() for x in random_logits(2, 3).unbind())
    loss_fn(z, v, 2.0).sum().backward()
    assert z.grad is not None
    assert v.grad is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("loss_fn", [*SOFT_LOSSES, matching])
def test_half_precision_is_promoted_even_under_autocast(loss_fn, dtype):
    z, v = random_logits(4, 50, dtype=dtype)
    expected = loss_fn(z.float(), v.float(), 3.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = loss_fn(z, v, 3.0)
    torch.testing.assert_close(got, expected, rtol=0, atol=0)  # of its dtype, float32, too


# logit_matching: eq. 4


def test_logit_matching_by_hand():
    z, v = torch.tensor([[5.0, 7.0]]), torch.tensor([[3.0, 1.0]])  # zero-meaned: -1, 1 and 1, -1
    assert logit_matching(z, v).tolist() == [(2**2 + 2**2) / (2 * 2)]


@pytest.mark.parametrize("kl", KLS)
@given(pairs=pairs)
def test_t_squared_times_kl_tends_to_logit_matching(kl, pairs):
    z, v = rows(pairs)
    gaps = [(t**2 * kl(z, v, t) - logit_matching(z, v)).abs().item() for t in (1e3, 1e4)]
    largest = max(abs(score) for pair in pairs for score in pair)
    assert gaps[0] <= largest**3 / 1e3 + 1e-8  # what the series leaves out is of order 1/T
    assert gaps[1] <= largest**3 / 1e4 + 1e-6


def test_gradient_of_logit_matching_is_the_difference_over_the_classes():  # eq. 4, times T²
    z, v = (x - x.mean(dim=-1, keepdim=True) for x in random_logits(4, 6))
    torch.testing.assert_close(gradient(logit_matching, z, v), (z - v) / 6)


@given(pairs)
def test_logit_matching_is_half_the_variance_of_the_difference(pairs):
    z, v = rows(pairs)
    torch.testing.assert_close(logit_matching(z, v), torch.var(z - v, dim=-1, correction=0) / 2)


def test_logit_matching_of_ten_thousand_one_class_and_no_example():
    assert logit_matching(torch.tensor([[1e4, -1e4]]), torch.tensor([[-1e4, 1e4]])).tolist() == [
        2e8
    ]
    assert logit_matching(torch.tensor([[3.0]]), torch.tensor([[-2.0]])).tolist() == [0]
    assert logit_matching(torch.zeros(0, 3), torch.zeros(0, 3)).shape == (0,)


# distillation_loss


def test_distillation_loss_by_hand():
    z, v = (
        torch.tensor([[0.0, 2 * LN3]]),
        torch.tensor([[0.0, 2 * LN4]]),
    )  # at T = 1, q = 1/10, 9/10
    soft, hard = 4 * (1 / 5 * LN4 + 4 / 5 * math.log(4 / 3)), math.log(10)
    options = {"temperature": 2.0, "soft_weight": 0.7, "hard_weight": 0.4}
    loss = distillation_loss(z, v, torch.tensor([0]), **options)
    assert loss.item() == pytest.approx(0.7 * soft + 0.4 * hard)


def test_t_squared_keeps_the_size_of_the_gradient():  # sec. 2
    z, v = random_logits(1, 10)
    sizes = [
        gradient(
            distillation_loss, z, v, torch.tensor([0]), **SOFT_ONLY | {"temperature": t}
        ).norm()
        for t in (100.0, 1000.0)
    ]
    assert sizes[0].item() == pytest.approx(sizes[1].item(), rel=0.05)


def test_distillation_loss_is_the_textbooks_on_any_number_of_batch_axes():
    z, v = random_logits(2, 3, 5)
    hard_targets = torch.tensor([[0, 4, 2], [1, 1, 3]])
    soft = F.cross_entropy(z.flatten(0, 1) / 3, (v.flatten(0, 1) / 3).softmax(-1), reduction="none")
    hard = F.cross_entropy(z.flatten(0, 1), hard_targets.flatten(), reduction="none")
    options = {"temperature": 3.0, "soft_weight": 0.7, "hard_weight": 0.4}
    expected = (0.7 * 9 * soft + 0.4 * hard).reshape(2, 3)
    torch.testing.assert_close(distillation_loss(z, v, hard_targets, **options), expected)


@pytest.mark.parametrize("unlabeled_logits", [[0.0, 1.0, 2.0], [-INF, 1.0, 2.0]])
def test_an_unlabeled_example_has_no_hard_term(unlabeled_logits):
    z = torch.tensor([[0.0, 1.0, 2.0], unlabeled_logits], requires_grad=True)
    loss = distillation_loss(z, torch.zeros(2, 3), torch.tensor([2, -1]), **HARD_ONLY)
    loss.sum().backward()
    assert loss[0] > 0
    assert loss[1] == 0
    assert z.grad[1].tolist() == [0, 0, 0]


def test_a_weight_of_zero_leaves_its_term_out():
    z, v = random_logits(2, 3)
    nowhere, hard_targets = torch.tensor([7, 99]), torch.tensor([0, 2])
    soft = distillation_loss(z, v, nowhere, **SOFT_ONLY)
    hard = distillation_loss(z, v * math.nan, hard_targets, **HARD_ONLY)
    both = distillation_loss(z, v, hard_targets, **SOFT_ONLY | {"hard_weight": 1.0})
    torch.testing.assert_close(soft + hard, both)
