import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from attar.errors import AttarError, ShapeError
from attar.specialists.combining import SpecialistAnswer, combine
from attar.specialists.dustbin import log_sum_others
from attar.specialists.solving import AtomProblem, solve_atoms

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


def combine_by_counting(logits, answers, *, steps=1000):
    """Minimize eq. 5 for KL(p, q) over the classes themselves, in float64.

    Each dustbin is shared out among its classes as q has them, and q becomes the mean of all p:
    the EM algorithm, which never leaves the way to the one minimum, but is slow.
    """
    p = logits.double().softmax(1).numpy()
    q = p.copy()
    for _ in range(steps):
        claims, sources = p.copy(), np.ones((len(p), 1))
        for answer in answers:
            rows, own = answer.rows.numpy(), answer.classes.numpy()
            said = answer.probabilities.double().numpy()
            shared = q[rows]
            shared[:, own] = 0
            shared *= said[:, -1:] / shared.sum(1, keepdims=True)
            shared[:, own] = said[:, :-1]
            claims[rows] += shared
            sources[rows] += 1
        q = claims / sources
    return torch.from_numpy(q)


MARGINS = (5.0, 20.0, 25.0, 30.0, 75.0)  # 75: others have 1e-30


@pytest.mark.parametrize("margin", MARGINS)
def test_a_sure_generalist_in_float32_is_combined_as_in_float64(margin):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(6, 1000, generator=generator)
    logits[:, 7] += margin
    answers = []
    for start, dustbin in ((0, 1.0), (5, 0.0), (6, -1.0)):  # all know class 7
        said = torch.randn(6, 51, generator=generator)
        said[:, 7 - start] += 3
        said[:, 50] += 3 + dustbin
        own = torch.arange(start, start + 50)
        answers.append(SpecialistAnswer(own, torch.arange(6), said.softmax(1)))
    # One specialist, two, three; one that takes the class from the generalist.
    rows = [torch.tensor(each) for each in ([0, 1, 2, 3], [1, 2, 4], [2, 5])]
    answers = [
        SpecialistAnswer(each.classes, active, each.probabilities[active])
        for each, active in zip(answers, rows, strict=True)
    ]
    found = combine(logits, answers)
    log_q, expected = found.log_probabilities, combine_by_counting(logits, answers)
    assert (log_q.double().exp().sum(1) - 1).abs().max() < 1e-6
    assert torch.equal(log_q.argmax(1), expected.argmax(1))
    torch.testing.assert_close(log_q.double().exp(), expected, rtol=1e-4, atol=1e-7)
    there = expected > 1e-9  # where the reference is exact
    torch.testing.assert_close(log_q[there].double(), expected[there].log(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("rest", [1e-3, 1e-9, 1e-12, 1e-30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_two_dustbins_raise_classes_that_the_generalist_gives_next_to_nothing(rest, dtype):
    # Each specialist gives 0.9 to what it does not know. Only class 2 is in both dustbins.
    logits = torch.tensor([[1 - 1e-3 - rest, 1e-3, rest]], dtype=torch.float64).log().to(dtype)
    row, said = torch.tensor([0]), torch.tensor([[0.05, 0.05, 0.9]], dtype=dtype)
    logits = torch.cat([logits, torch.full((1, 2), -90.0, dtype=dtype)], dim=1)
    answers = [SpecialistAnswer(torch.tensor([own, 2 + own]), row, said) for own in (1, 2)]
    logits = logits[:, [2, 0, 1, 3, 4]]
    q = combine(logits, answers).log_probabilities.double().exp()
    expected = combine_by_counting(logits, answers)
    assert expected[0, 0] > 0.25
    torch.testing.assert_close(q, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("direction", ["KL(p, q)", "KL(q, p)"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_q_sums_to_1_whatever_the_generalist_leaves(dtype, direction):
    for margin in MARGINS:
        generator = torch.Generator().manual_seed(2)
        logits = torch.randn(20, 3000, generator=generator, dtype=dtype)
        logits[:, 3] += margin
        logits[5:10] -= 80  # far from 0, where float32 has few digits
        answers = []
        for start in (0, 2, 3):
            said = 3 * torch.randn(20, 41, generator=generator, dtype=dtype)
            own = torch.arange(start, start + 40)
            answers.append(SpecialistAnswer(own, torch.arange(20), said.softmax(1)))
        for some in (answers[:1], answers):
            q = combine(logits, some, direction=direction).log_probabilities.double().exp()
            assert (q.sum(1) - 1).abs().max() < (1e-6 if dtype == torch.float32 else 1e-9)


@pytest.mark.parametrize("direction", ["KL(p, q)", "KL(q, p)"])
@pytest.mark.parametrize("noise", [0.0, 1.0, 8.0, 30.0])  # of the specialists' logits
def test_a_few_steps_are_enough_for_whatever_they_say(noise, direction):
    for seed, margin in enumerate((0.0, 15.0, 25.0, 60.0, 120.0, 120.0, 120.0)):
        generator = torch.Generator().manual_seed(seed)
        logits = torch.randn(20, 400, generator=generator)
        logits[torch.arange(20), torch.randint(400, (20,), generator=generator)] += margin
        answers = []
        for _ in range(4):
            own = torch.randperm(400, generator=generator)[:60].sort().values
            said = torch.cat([logits[:, own], log_sum_others(logits, own)[:, None]], dim=1)
            said += noise * torch.randn(20, 61, generator=generator)
            rows = (torch.rand(20, generator=generator) < 0.8).nonzero().squeeze(1)
            answers.append(SpecialistAnswer(own, rows, said[rows].softmax(1)))
        found = combine(logits, answers, direction=direction)
        assert found.steps <= (30 if direction == "KL(p, q)" else 200)
        assert found.log_probabilities.isfinite().all()
        assert (found.log_probabilities.double().exp().sum(1) - 1).abs().max() < 1e-6


@pytest.mark.parametrize("log_others", [-60.0, -100.0, -700.0])
@pytest.mark.parametrize("dustbins", [(1e-40, 1e-30), (1e-20, 1e-44), (0.0, 1e-300)])
def test_specialists_that_agree_with_a_sure_generalist_are_solved_in_a_few_steps(
    log_others, dustbins
):
    # Three that are sure of one atom; the two dustbins overlap in the last one.
    log_weights = torch.tensor([[log_others, log_others - 9, np.log(3), log_others + 9]])
    outside = torch.tensor([[[1, 0, 0, 1], [0, 1, 0, 1]]]).bool()
    problem = AtomProblem(
        log_weights.double(), torch.tensor([dustbins]).double(), ~outside, torch.ones(1, 2).bool()
    )
    solved = solve_atoms(problem, direction="KL(p, q)", tolerance=1e-6, most_steps=1000)
    assert solved.steps <= 10
    assert solved.log_totals.isfinite().all()
    assert solved.log_totals[0, 2].item() == pytest.approx(0, abs=1e-12)
    assert solved.log_totals[0, [0, 1, 3]].max() < -35


def test_half_precision_is_combined_in_float32():
    logits = torch.tensor([[12.0, 0.0, 1.0, 2.0]])
    answer = SpecialistAnswer(
        torch.tensor([0, 1]), torch.tensor([0]), torch.tensor([[0.5, 0.25, 0.25]])
    )
    expected = combine(logits, [answer]).log_probabilities
    found = combine(logits.bfloat16(), [answer]).log_probabilities
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)


def test_a_generalist_that_excludes_what_a_dustbin_holds_is_told():
    logits = torch.tensor([[1.0, 1.0, -torch.inf, -torch.inf]])
    row, own = torch.tensor([0]), torch.tensor([0, 1])
    with pytest.raises(
        AttarError, match=r"some probability .* got 0 for all classes of one of 0.5"
    ):
        combine(logits, [SpecialistAnswer(own, row, torch.tensor([[0.25, 0.25, 0.5]]))])
    agreed = SpecialistAnswer(own, row, torch.tensor([[0.25, 0.75, 0.0]]))
    q = combine(logits, [agreed]).log_probabilities.exp()
    torch.testing.assert_close(q, torch.tensor([[0.375, 0.625, 0.0, 0.0]]))


def test_answers_that_would_be_misread_are_told():
    logits, own, rows = torch.zeros(2, 5), torch.tensor([1, 3]), torch.tensor([0, 1])
    said = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    with pytest.raises(AttarError, match=r"rows of a specialist's answer in 0\.\.1, ascending"):
        combine(logits, [SpecialistAnswer(own, rows.flip(0), said)])
    with pytest.raises(AttarError, match=r"classes .* in 0\.\.4, ascending, got \[1, 5\]"):
        combine(logits, [SpecialistAnswer(torch.tensor([1, 5]), rows, said)])
    with pytest.raises(AttarError, match="take the softmax of its logits"):
        combine(logits, [SpecialistAnswer(own, rows, said.log())])


def test_too_few_steps_and_wrong_options_are_told(shape_hints_off):
    p, answers = draw_case(2, specialists=4)
    with pytest.raises(AttarError, match=r"after 1 steps .* got .*; give more steps"):
        combine(p.log(), answers, tolerance=1e-12, most_steps=1)
    with pytest.raises(AttarError, match="expected direction to be one of"):
        combine(p.log(), answers, direction="KL")
    rows = torch.tensor([0])
    with pytest.raises(ShapeError, match=r"expected probabilities \[1, 3\] .* got \[1, 2\]"):
        combine(p.log(), [SpecialistAnswer(torch.tensor([0, 1]), rows, p[:1, :2])])
