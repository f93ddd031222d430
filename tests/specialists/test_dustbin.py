import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from attar.errors import AttarError, DataError, ShapeError
from attar.losses import soft_cross_entropy
from attar.specialists import (
    correct_dustbin,
    draw_examples,
    log_sum_others,
    measure_oversampling,
    narrow_output,
    raise_dustbin,
    specialist_loss,
    to_special_probabilities,
    to_special_targets,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@given(st.integers(1, 500), st.integers(1, 500), st.floats(0.1, 0.9))
def test_the_correction_gives_back_the_natural_odds(special, others, share):
    # A specialist that learned nothing but how often it saw either side.
    logits = torch.tensor([[math.log(share), math.log(1 - share)]], dtype=torch.float64)
    oversampling = measure_oversampling(
        special=special, examples=special + others, special_share=share
    )
    p = correct_dustbin(logits, oversampling=oversampling).softmax(1)
    assert p[0, 0].item() == pytest.approx(special / (special + others), rel=1e-6)


def test_half_of_the_examples_are_special_and_all_special_ones_are_there():
    is_special = torch.arange(1000) % 20 == 0
    drawn = draw_examples(is_special, special_share=0.5, generator=generator())
    assert len(drawn) == len(drawn.unique()) == 100
    assert is_special[drawn].sum() == 50
    other = draw_examples(is_special, special_share=0.5, generator=generator(1))
    assert set(other[~is_special[other]].tolist()) != set(drawn[~is_special[drawn]].tolist())
    few = draw_examples(is_special, special_share=0.25, generator=generator())
    assert (int(is_special[few].sum()), len(few)) == (50, 200)


def test_targets_and_probabilities_are_seen_from_the_specialist():
    classes = torch.tensor([2, 5])
    assert to_special_targets(torch.arange(8), classes).tolist() == [2, 2, 0, 2, 2, 1, 2, 2]
    p = torch.randn(3, 8, generator=generator()).softmax(1)
    seen = to_special_probabilities(p, classes)
    torch.testing.assert_close(seen[:, :2], p[:, [2, 5]])
    torch.testing.assert_close(seen.sum(1), torch.ones(3))


def test_soft_targets_are_for_the_dustbins_examples_alone():
    logits = torch.randn(4, 3, generator=generator(), dtype=torch.float64)
    soft = torch.randn(4, 3, generator=generator(1), dtype=torch.float64).softmax(1)
    targets = torch.tensor([0, 2, 1, 2])
    options = {"oversampling": 7.0, "temperature": 2.0, "hard_weight": 0.5}
    loss = specialist_loss(logits, targets, soft, soft_weight=3.0, **options)
    hard = 0.5 * nn.functional.cross_entropy(logits, targets, reduction="none")
    natural = logits + torch.tensor([0.0, 0.0, math.log(7.0)])
    term = 3.0 * 2.0**2 * soft_cross_entropy(natural, soft, temperature=2.0)
    torch.testing.assert_close(loss, hard + term * torch.tensor([0.0, 1.0, 0.0, 1.0]))
    torch.testing.assert_close(
        specialist_loss(logits, targets, soft, soft_weight=0, **options), hard
    )


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_a_specialist_starts_with_the_generalists_answer(scale):
    output, classes = nn.Linear(4, 10), torch.tensor([1, 3, 7])
    features = scale * torch.randn(5, 4, generator=generator())
    narrow = narrow_output(output, classes, oversampling=9.0)
    with torch.no_grad():
        v = output(features)
        logits = raise_dustbin(narrow(features), log_sum_others(v, classes))
    got = correct_dustbin(logits, oversampling=9.0).log_softmax(1)
    expected = to_special_probabilities(v.double().softmax(1), classes).log()
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("margin", [25.0, 75.0, 500.0])
def test_the_dustbin_of_a_sure_generalist_keeps_its_own_probability(margin):
    # At 25, all other classes have 1.2e-9 together: much less than float32 tells 1 from.
    v, classes = torch.zeros(1, 100), torch.arange(10)
    v[0, 3] = margin
    outputs = torch.cat([v[:, classes], torch.zeros(1, 1)], dim=1)
    log_p = raise_dustbin(outputs, log_sum_others(v, classes)).log_softmax(1)
    others = math.log(90) - margin
    assert log_p[0, -1].item() == pytest.approx(others - math.log1p(math.exp(others)), rel=1e-6)
    p = to_special_probabilities(v.softmax(1), classes)
    assert p[0, -1].item() == pytest.approx(math.exp(others) if margin < 100 else 0, rel=1e-5)


def test_what_makes_no_specialist_is_told():
    with pytest.raises(DataError, match=r"some examples of a specialist's classes .* got 0 of 9"):
        measure_oversampling(special=0, examples=9, special_share=0.5)
    with pytest.raises(DataError, match="got 9 of 9"):
        measure_oversampling(special=9, examples=9, special_share=0.5)
    with pytest.raises(DataError, match="got 0 and 3"):
        draw_examples(torch.zeros(3, dtype=torch.bool), special_share=0.5, generator=generator())
    with pytest.raises(AttarError, match="special_share above 0 and below 1, got 1"):
        measure_oversampling(special=1, examples=9, special_share=1.0)
    with pytest.raises(AttarError, match="oversampling > 0"):
        correct_dustbin(torch.zeros(1, 2), oversampling=0.0)
    with pytest.raises(ShapeError, match="fewer special classes than all 2"):
        narrow_output(nn.Linear(3, 2), torch.tensor([0, 1]))
    with pytest.raises(AttarError, match=r"group 0 to have classes in 0\.\.5, each once"):
        narrow_output(nn.Linear(3, 6), torch.tensor([0, 6]))
    with pytest.raises(AttarError, match="at least two classes for a specialist, got 1"):
        narrow_output(nn.Linear(3, 6), torch.tensor([2]))
    options = {"oversampling": 1.0, "temperature": 1.0, "soft_weight": 0.0, "hard_weight": 0.0}
    with pytest.raises(AttarError, match="got 0 for both"):
        specialist_loss(torch.zeros(1, 2), torch.tensor([0]), torch.ones(1, 2) / 2, **options)
