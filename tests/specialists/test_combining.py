import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from attar.errors import AttarError, ShapeError
from attar.specialists.combining import SpecialistAnswer, combine

CLASSES = 9
few = hypothesis_settings(max_examples=8)


def draw_distribution(generator, *shape, scale=2.0):
    logits = scale * torch.randn(*shape, generator=generator, dtype=torch.float64)
    return logits.softmax(-1)


def draw_case(seed, *, batch=3, specialists=3):
    """A generalist, and specialists of random groups that overlap, each for some examples."""
    generator = torch.Generator().manual_seed(seed)
    p = draw_distribution(generator, batch, CLASSES)
    answers = []
    for _ in range(specialists):
        size = int(torch.randint(2, CLASSES - 1, (1,), generator=generator))
        classes = torch.randperm(CLASSES, generator=generator)[:size].sort().values
        rows = (torch.rand(batch, generator=generator) < 0.7).nonzero().squeeze(1)
        probabilities = draw_distribution(generator, len(rows), size + 1)
        answers.append(SpecialistAnswer(classes, rows, probabilities))
    return p, answers


def objective(q, row, p, answers, direction):
    """Eq. 5 of one example, as it stands in the paper."""

    def divergence(ours, theirs):
        first, second = (ours, theirs) if direction == "KL(p, q)" else (theirs, ours)
        return (first * (first / second).log()).sum()

    total = divergence(p[row], q)
    for answer in answers:
        place = (answer.rows == row).nonzero().flatten()
        if len(place):
            own = q[answer.classes]
            seen = torch.cat([own, (q.sum() - own.sum())[None]])
            total = total + divergence(answer.probabilities[place[0]], seen)
    return total


def minimize_plainly(row, p, answers, direction):
    """Minimize over the logits of all classes with scipy."""

    def value_and_gradient(z):
        z = torch.tensor(z, requires_grad=True)
        value = objective(z.softmax(0), row, p, answers, direction)
        value.backward()
        return value.item(), z.grad.numpy()

    options = {"gtol": 1e-10, "ftol": 1e-15, "maxiter": 5000}
    start = p[row].log().numpy()
    found = minimize(value_and_gradient, start, jac=True, method="L-BFGS-B", options=options)
    return torch.tensor(found.x).softmax(0)


@hypothesis_settings(max_examples=4)
@given(seed=st.integers(0, 2**32), direction=st.sampled_from(["KL(p, q)", "KL(q, p)"]))
def test_it_is_the_minimum_over_the_logits_of_all_classes(seed, direction):
    p, answers = draw_case(seed, batch=2)
    q = combine(p.log(), answers, direction=direction, tolerance=1e-10).log_probabilities.exp()
    for row in range(len(p)):
        expected = minimize_plainly(row, p, answers, direction)
        torch.testing.assert_close(q[row], expected, rtol=1e-4, atol=1e-5)
        least = objective(expected, row, p, answers, direction)
        assert objective(q[row], row, p, answers, direction) <= least + 1e-9


@few
@given(seed=st.integers(0, 2**32), direction=st.sampled_from(["KL(p, q)", "KL(q, p)"]))
def test_the_gradient_by_every_logit_is_nothing_where_it_ends(seed, direction):
    p, answers = draw_case(seed, specialists=5)
    log_q = combine(p.log(), answers, direction=direction, tolerance=1e-9).log_probabilities
    for row in range(len(p)):
        z = log_q[row].clone().requires_grad_()
        objective(z.softmax(0), row, p, answers, direction).backward()
        assert z.grad.abs().max() < 1e-7


@few
@given(seed=st.integers(0, 2**32))
def test_one_specialist_has_a_closed_form(seed):
    p, (answer,) = draw_case(seed, specialists=1)
    found = combine(p.log(), [answer], tolerance=1e-12)
    q = found.log_probabilities.exp()
    expected = p.clone()
    for row, said in zip(answer.rows.tolist(), answer.probabilities, strict=True):
        others = torch.ones(CLASSES, dtype=torch.bool)
        others[answer.classes] = False
        expected[row, answer.classes] = (p[row, answer.classes] + said[:-1]) / 2
        dustbin = (p[row, others].sum() + said[-1]) / 2
        expected[row, others] = p[row, others] * dustbin / p[row, others].sum()
    torch.testing.assert_close(q, expected, rtol=1e-6, atol=1e-9)
    assert found.steps <= 2


@few
@given(seed=st.integers(0, 2**32))
def test_where_all_know_every_class_it_is_the_mean(seed):
    generator = torch.Generator().manual_seed(seed)
    everything = draw_distribution(generator, 4, 2, CLASSES)  # generalist and three specialists
    rows, classes = torch.arange(2), torch.arange(CLASSES)
    answers = [SpecialistAnswer(classes, rows, said) for said in everything[1:]]
    for direction, mean in (
        ("KL(p, q)", everything.mean(0)),
        ("KL(q, p)", everything.log().mean(0).softmax(1)),
    ):
        q = combine(everything[0].log(), answers, direction=direction).log_probabilities.exp()
        torch.testing.assert_close(q, mean, rtol=1e-5, atol=1e-7)


def test_specialists_of_one_group_count_like_one_that_says_their_mean():
    generator = torch.Generator().manual_seed(3)
    p = draw_distribution(generator, 1, CLASSES)
    classes, row = torch.tensor([1, 4, 5]), torch.tensor([0])
    two = draw_distribution(generator, 2, 1, 4)
    q = combine(p.log(), [SpecialistAnswer(classes, row, said) for said in two])
    others = [0, 2, 3, 6, 7, 8]
    expected = torch.empty(CLASSES, dtype=torch.float64)
    expected[classes] = (p[0, classes] + two[:, 0, :-1].sum(0)) / 3
    dustbin = (p[0, others].sum() + two[:, 0, -1].sum()) / 3
    expected[others] = p[0, others] / p[0, others].sum() * dustbin
    torch.testing.assert_close(q.log_probabilities[0].exp(), expected, rtol=1e-5, atol=1e-7)


def test_examples_do_not_hang_on_each_other():
    p, answers = draw_case(11, batch=6, specialists=4)
    together = combine(p.log(), answers, tolerance=1e-10).log_probabilities
    for row in range(len(p)):
        alone = [
            SpecialistAnswer(each.classes, torch.tensor([0]), each.probabilities[each.rows == row])
            for each in answers
            if row in each.rows
        ]
        single = combine(p[row : row + 1].log(), alone, tolerance=1e-10).log_probabilities
        torch.testing.assert_close(together[row : row + 1], single, rtol=1e-6, atol=1e-7)


def test_nobody_active_leaves_the_generalists_answer():
    p, _ = draw_case(0)
    none = SpecialistAnswer(torch.tensor([0, 1]), torch.empty(0, dtype=torch.int64), p[:0, :3])
    for answers in ([], [none]):
        found = combine(p.log(), answers)
        torch.testing.assert_close(found.log_probabilities, p.log())
        assert found.steps == 0


def test_float32_logits_far_apart_stay_finite():
    logits = torch.tensor([[80.0, 0.0, -200.0, -90.0], [0.0, 0.0, 0.0, 200.0]])
    said = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1e-30, 1.0]])
    answer = SpecialistAnswer(torch.tensor([1, 2]), torch.tensor([0, 1]), said)
    found = combine(logits, [answer])
    assert found.log_probabilities.dtype == torch.float32
    assert found.log_probabilities.isfinite().all()
    np.testing.assert_allclose(found.log_probabilities.exp().sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(found.log_probabilities[0, :2].exp(), [0.5, 0.5], rtol=1e-5)


def test_too_few_steps_and_wrong_options_are_told(shape_hints_off):
    p, answers = draw_case(2, specialists=4)
    with pytest.raises(AttarError, match=r"after 1 steps .* got .*; give more steps"):
        combine(p.log(), answers, tolerance=1e-12, most_steps=1)
    with pytest.raises(AttarError, match="expected direction to be one of"):
        combine(p.log(), answers, direction="KL")
    rows = torch.tensor([0])
    with pytest.raises(ShapeError, match=r"expected probabilities \[1, 3\] .* got \[1, 2\]"):
        combine(p.log(), [SpecialistAnswer(torch.tensor([0, 1]), rows, p[:1, :2])])
