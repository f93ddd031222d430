import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attar.metrics import is_error, negative_log_likelihood


def draw(seed, *, examples=50, classes=7):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(examples, classes, generator=generator) * 5
    return logits, torch.randint(classes, (examples,), generator=generator)


def test_errors_by_hand():
    logits = torch.tensor([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [-2.0, -1.0, -3.0]])
    assert is_error(logits, torch.tensor([0, 2, 1])).tolist() == [False, True, False]


def test_a_row_with_a_nan_is_an_error_whatever_its_target():
    logits = torch.full((3, 3), math.nan)
    logits[0, 1:] = torch.tensor([5.0, 1.0])
    assert is_error(logits, torch.tensor([0, 1, 2])).all()


@given(st.integers(0, 2**32), st.floats(0.01, 100), st.floats(-100, 100))
def test_errors_depend_on_the_order_of_the_logits_alone(seed, factor, shift):
    logits, hard_targets = draw(seed)
    logits = logits.double()
    expected = is_error(logits, hard_targets)
    assert torch.equal(is_error(logits * factor + shift, hard_targets), expected)


def test_errors_and_topk_agree():  # an independent reference
    logits, hard_targets = draw(1)
    top = logits.topk(1).indices[:, 0]
    assert torch.equal(is_error(logits, hard_targets), top != hard_targets)


def test_negative_log_likelihood_by_hand():
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, math.log(3.0)]])  # softmax: 1/4, 3/4
    loss = negative_log_likelihood(logits, torch.tensor([0, 1]))
    assert loss.tolist() == pytest.approx([math.log(4), math.log(4 / 3)])


def test_equal_logits_cost_the_log_of_the_classes():
    loss = negative_log_likelihood(torch.full((2, 10), 3.5), torch.tensor([0, 9]))
    assert loss.tolist() == pytest.approx([math.log(10)] * 2)


def test_negative_log_likelihood_is_torchs_cross_entropy_in_float64():
    logits, hard_targets = draw(2)
    expected = torch.nn.functional.cross_entropy(logits.double(), hard_targets, reduction="none")
    torch.testing.assert_close(negative_log_likelihood(logits, hard_targets), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_negative_log_likelihood_is_float64_for_every_type_of_logits(dtype):
    logits = torch.tensor([[20.0, 0.0]], dtype=dtype)
    loss = negative_log_likelihood(logits, torch.tensor([0]))
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(math.log1p(math.exp(-20)), rel=1e-6)  # 0 in float32


def test_far_apart_logits_stay_finite():
    logits = torch.tensor([[3e38, -3e38], [-3e38, 3e38]])
    loss = negative_log_likelihood(logits, torch.tensor([0, 0]))
    assert loss[0].item() == 0
    assert loss[1].item() == pytest.approx(6e38)
