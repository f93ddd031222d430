import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attar.errors import AttarError, ShapeError
from attar.losses import MemberWeights, distillation_loss, member_distillation_loss

MEMBERS = [
    MemberWeights(temperature=2.0, soft_weight=1.0, hard_weight=0.0),
    MemberWeights(temperature=0.5, soft_weight=0.3, hard_weight=2.0),
    MemberWeights(temperature=7.0, soft_weight=0.0, hard_weight=1.5),
]


def draw(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def one_by_one(logits, teacher_logits, hard_targets, members):
    return torch.stack(
        [
            distillation_loss(
                z,
                teacher_logits,
                hard_targets,
                temperature=member.temperature,
                soft_weight=member.soft_weight,
                hard_weight=member.hard_weight,
            )
            for z, member in zip(logits, members, strict=True)
        ]
    )


def test_two_classes_by_hand():
    logits = torch.tensor([[[0.0, 2 * math.log(3)]]] * 2)  # at T = 2: 1/4, 3/4
    both = [
        MemberWeights(temperature=2.0, soft_weight=1.0, hard_weight=0.0),
        MemberWeights(temperature=2.0, soft_weight=0.0, hard_weight=3.0),
    ]
    loss = member_distillation_loss(logits, torch.zeros(1, 2), torch.tensor([1]), both)
    soft = -4 * (0.5 * math.log(1 / 4) + 0.5 * math.log(3 / 4))
    hard = -3 * math.log(9 / 10)
    assert loss.tolist() == [[pytest.approx(soft)], [pytest.approx(hard)]]


@given(st.lists(st.sampled_from(MEMBERS), min_size=1, max_size=5), st.integers(0, 1000))
def test_value_and_gradient_are_those_of_the_distillation_loss(members, seed):
    teacher_logits, hard_targets = 5 * draw(seed, 6, 4), torch.tensor([0, 1, 2, 3, -1, 0])
    gradients, values = [], []
    for loss_fn in (member_distillation_loss, one_by_one):
        logits = (5 * draw(seed + 1, len(members), 6, 4)).requires_grad_()
        loss = loss_fn(logits, teacher_logits, hard_targets, members)
        loss.mean(dim=1).sum().backward()
        gradients.append(logits.grad)
        values.append(loss.detach())
    torch.testing.assert_close(*values, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


def test_each_member_may_have_a_teacher_of_its_own():
    logits, teacher_logits = draw(0, 3, 6, 4), draw(1, 3, 6, 4)
    hard_targets = torch.tensor([0, 1, 2, 3, -1, 0])
    found = member_distillation_loss(logits, teacher_logits, hard_targets, MEMBERS)
    alone = [
        one_by_one(logits[k : k + 1], teacher_logits[k], hard_targets, MEMBERS[k : k + 1])
        for k in range(3)
    ]
    torch.testing.assert_close(found, torch.cat(alone))


def test_a_class_that_the_teacher_rules_out_costs_nothing():
    logits, teacher_logits = torch.tensor([[[0.0, -math.inf]]]), torch.tensor([[1.0, -math.inf]])
    loss = member_distillation_loss(logits, teacher_logits, torch.tensor([-1]), MEMBERS[:1])
    assert loss.item() == 0


def test_hard_targets_that_no_member_needs_are_not_looked_at():
    wrong = torch.tensor([99])
    member_distillation_loss(torch.zeros(1, 1, 2), torch.zeros(1, 2), wrong, MEMBERS[:1])
    with pytest.raises(AttarError, match="expected hard_targets from 0 to 1, got 99 to 99"):
        member_distillation_loss(torch.zeros(1, 1, 2), torch.zeros(1, 2), wrong, MEMBERS[2:])


def test_half_precision_is_promoted():
    logits, teacher_logits = torch.zeros(3, 4, 5).bfloat16(), torch.zeros(4, 5)
    loss = member_distillation_loss(logits, teacher_logits, torch.zeros(4).long(), MEMBERS)
    assert loss.dtype == torch.float32


def test_shapes_that_do_not_fit_are_named(shape_hints_off):
    with pytest.raises(ShapeError, match=r"of 3 members .* got \[2, 4, 5\] and \[4, 5\]"):
        member_distillation_loss(
            torch.zeros(2, 4, 5), torch.zeros(4, 5), torch.zeros(4).long(), MEMBERS
        )


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": 0.0},
        {"temperature": math.nan},
        {"soft_weight": -1.0},
        {"hard_weight": math.inf},
        {"soft_weight": 0.0, "hard_weight": 0.0},
    ],
    ids=str,
)
def test_weights_out_of_range_are_refused(wrong):
    with pytest.raises(AttarError, match=next(iter(wrong))):
        MemberWeights(**{"temperature": 1.0, "soft_weight": 1.0, "hard_weight": 1.0} | wrong)
