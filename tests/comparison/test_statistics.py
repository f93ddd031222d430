import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.comparison.judging import Rules, judge
from attar.comparison.statistics import (
    bootstrap_gap_closed,
    correct_for_many,
    equivalence_p_value,
    mcnemar,
    paired_bootstrap,
    resample_rates,
)


def answers(both, only_first, only_second, neither):
    """Build where two networks are wrong from the four counts, `both` being wrong in both."""
    first = [True] * (both + only_first) + [False] * (only_second + neither)
    second = [True] * both + [False] * only_first + [True] * only_second + [False] * neither
    return np.array([first]), np.array([second])


def draw_models(generator, seeds, examples, spread=0.3, shift=0.0):
    """Draw two models of the same quality but for `shift`: hard examples are so for both."""
    hardness = generator.normal(-1.5, 1.0, examples)
    own = generator.normal(0, spread, (2, seeds, 1)) + generator.normal(0, 1, (2, seeds, examples))
    first, second = hardness + own > 0
    return first, hardness + own[1] > shift if shift else second


# Published examples


@pytest.mark.parametrize(
    ("table", "p_value"),
    [
        # Agresti (1990), Categorical Data Analysis, p. 350: approval in two surveys.
        ((794, 150, 86, 570), 3.716e-05),
        # Armitage & Berry (1994), p. 127: two media for a culture, Liddell's exact test.
        ((20, 12, 2, 16), 0.0129),
        # Bentur et al. (2009), in Fagerland et al. (2013), table 2: exact conditional test.
        ((1, 1, 7, 12), 0.0703),
    ],
)
def test_mcnemar_gives_the_published_p_value(table, p_value):
    assert mcnemar(*answers(*table), level=0.05).p_value == pytest.approx(p_value, rel=5e-3)


def test_the_interval_agrees_with_agrestis_to_the_digits_he_gives():
    judged = mcnemar(*answers(794, 150, 86, 570), level=0.05)  # 0.04 ± 1.96 · 0.0095
    assert judged.difference == pytest.approx(0.04)
    assert (judged.interval.low, judged.interval.high) == pytest.approx((0.021, 0.059), abs=5e-4)


def test_holm_corrects_as_published():
    # The example of pingouin's documentation, which agrees with R's p.adjust.
    corrected = correct_for_many([0.50, 0.003, 0.32, 0.054, 0.0003])
    assert corrected == pytest.approx((0.64, 0.012, 0.64, 0.162, 0.0015))


# Laws

TABLES = st.tuples(*[st.integers(0, 12)] * 4).filter(lambda table: sum(table) > 0)


@given(TABLES)
def test_mcnemar_is_antisymmetric_and_leaves_equals_alone(table):
    first, second = answers(*table)
    forth, back = mcnemar(first, second, level=0.05), mcnemar(second, first, level=0.05)
    assert forth.p_value == pytest.approx(back.p_value)
    assert forth.difference == -back.difference
    assert forth.interval.low == pytest.approx(-back.interval.high)
    assert forth.interval.low <= forth.interval.high
    assert mcnemar(first, first, level=0.05).p_value == 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.randoms())
def test_holm_keeps_the_order_and_is_at_least_the_p_value_and_at_most_bonferronis(values, random):
    corrected = correct_for_many(values)
    for value, result in zip(values, corrected, strict=True):
        assert value <= result <= min(1, len(values) * value) + 1e-12
    order = sorted(range(len(values)), key=values.__getitem__)
    assert [corrected[place] for place in order] == sorted(corrected)
    shuffled = list(range(len(values)))
    random.shuffle(shuffled)
    again = correct_for_many([values[place] for place in shuffled])
    assert again == pytest.approx([corrected[place] for place in shuffled])


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_the_bootstrap_is_antisymmetric_and_ignores_the_order_of_examples(seed):
    generator = np.random.default_rng(seed)
    first, second = draw_models(generator, seeds=3, examples=40, shift=0.3)
    options = {"level": 0.05, "resamples": 200, "seed": 0}
    forth = paired_bootstrap(first, second, **options)
    back = paired_bootstrap(second, first, **options)
    assert forth.difference == pytest.approx(-back.difference)
    assert 0 <= forth.p_value <= 1
    assert forth.interval.low <= forth.difference <= forth.interval.high
    order = generator.permutation(40)
    again = paired_bootstrap(first[:, order], second[:, order], **options)
    assert again.p_value == pytest.approx(forth.p_value)
    assert paired_bootstrap(first, first, **options).p_value == 1


# The bootstrap over seeds


def test_resampled_rates_spread_as_the_closed_form_says():
    generator = np.random.default_rng(0)
    wrong, _ = draw_models(generator, seeds=4, examples=300, spread=0.5)
    rates = resample_rates([wrong], resamples=20_000, seed=1)[:, 0]
    assert rates.mean() == pytest.approx(wrong.mean(), abs=2e-3)
    by_seed, by_example = wrong.mean(axis=1), wrong.mean(axis=0)
    seeds, examples = wrong.shape
    of_seeds, of_examples = by_seed.var(ddof=1) / seeds, by_example.var(ddof=0) / examples
    rest = wrong - by_example - by_seed[:, None] + wrong.mean()
    both = (rest**2).sum() / ((seeds - 1) * examples) / wrong.size  # what Var(w) · Var(v) gives
    assert rates.var() == pytest.approx(of_seeds + of_examples + both, rel=0.05)


@pytest.mark.parametrize(("seeds", "spread"), [(3, 0.02), (3, 0.2), (5, 0.1)])
def test_chance_is_called_a_difference_about_as_often_as_the_level_says(seeds, spread):
    generator = np.random.default_rng(3)
    found = 0
    for trial in range(100):
        models = draw_models(generator, seeds, examples=200, spread=spread)
        judged = paired_bootstrap(*models, level=0.05, resamples=200, seed=trial)
        found += judged.p_value <= 0.05
    assert found <= 12  # 5 are expected; more than 12 would have a chance of 0.1 %


def test_a_real_difference_is_found():
    models = draw_models(np.random.default_rng(4), seeds=3, examples=2000, spread=0.02, shift=0.4)
    judged = paired_bootstrap(*models, level=0.05, resamples=1000, seed=0)
    assert judged.p_value < 0.001
    assert judged.interval.low > 0


def test_models_may_have_different_numbers_of_seeds():
    first, second = draw_models(np.random.default_rng(5), seeds=4, examples=200, shift=0.6)
    judged = paired_bootstrap(first, second[:1], level=0.05, resamples=500, seed=0)
    assert judged.difference == pytest.approx(first.mean() - second[:1].mean())


def test_a_few_examples_never_prove_anything():
    for examples in (1, 2, 5):
        right, wrong = np.zeros((3, examples), dtype=bool), np.ones((3, examples), dtype=bool)
        judged = paired_bootstrap(right, wrong, level=0.05, resamples=100, seed=0)
        assert judged.p_value >= 2 * 0.5**examples - 1e-12
        assert judged.p_value > 0.05


# The share of the gap


def test_the_share_of_the_gap_by_hand():
    baseline, teacher = np.zeros((1, 1000), dtype=bool), np.zeros((1, 1000), dtype=bool)
    model = baseline.copy()
    baseline[0, :200], teacher[0, :100], model[0, :125] = True, True, True
    closed = bootstrap_gap_closed(baseline, model, teacher, level=0.05, resamples=2000, seed=0)
    assert closed.share == pytest.approx(0.75)
    # 75 of the 100 examples that make the gap: the binomial's interval around them.
    assert (closed.interval.low, closed.interval.high) == pytest.approx((0.66, 0.83), abs=0.015)


def test_without_a_gap_there_is_no_share_and_with_an_unsure_one_no_interval():
    baseline, model, teacher = (np.zeros((1, 50), dtype=bool) for _ in range(3))
    options = {"level": 0.05, "resamples": 500, "seed": 0}
    assert bootstrap_gap_closed(baseline, model, teacher, **options) is None
    baseline[0, :3], teacher[0, 3:5] = True, True
    closed = bootstrap_gap_closed(baseline, model, teacher, **options)
    assert closed.share == pytest.approx(3)
    assert closed.interval is None


# Equivalence within a margin: two one-sided tests


def test_the_equivalence_test_by_hand():
    # 44 pairs, one differs, margin 10 %: the rarer disagreement has the most likely rate 0.
    score = (1 - 44 * 0.1) / math.sqrt(44 * 0.1 * 0.9)
    found = equivalence_p_value(1, 0, examples=44, margin=0.1)
    assert found == pytest.approx(NormalDist().cdf(score))
    assert equivalence_p_value(0, 1, examples=44, margin=0.1) == found


@pytest.mark.parametrize("counts", [(20, 12), (3, 3), (7, 0), (60, 55)])
def test_the_null_variance_is_that_of_the_most_likely_rates(counts):
    from scipy.optimize import minimize_scalar

    (first, second), examples, margin = counts, 500, 0.03

    def cost(rate):  # −log likelihood, if the error rates differ by the margin
        rates = rate + margin, rate, 1 - 2 * rate - margin
        return -sum(
            count * math.log(each)
            for count, each in zip((first, second, examples - first - second), rates, strict=True)
        )

    options = {"bounds": (1e-9, 0.4), "method": "bounded", "options": {"xatol": 1e-9}}
    rate = minimize_scalar(cost, **options).x
    variance = examples * (2 * rate + margin - margin**2)
    score = (first - second - examples * margin) / math.sqrt(variance)
    found = equivalence_p_value(first, second, examples=examples, margin=margin)
    assert found == pytest.approx(NormalDist().cdf(score), rel=1e-3)


@pytest.mark.parametrize(
    ("examples", "margin", "rate"),
    [(200, 0.05, 0.0), (200, 0.05, 0.02), (500, 0.02, 0.005), (1000, 0.005, 0.0)],
)
def test_networks_that_differ_by_the_margin_are_equivalent_at_most_as_often_as_the_level_says(
    examples, margin, rate
):
    from scipy.stats import binom

    # Exactly, over all tables: the first network alone errs with `rate + margin`, the other `rate`.
    found = {0.05: 0.0, 0.005: 0.0}
    for second in range(int(binom.isf(1e-7, examples, rate)) + 1):
        left, chance = examples - second, binom.pmf(second, examples, rate)
        of_first = (rate + margin) / (1 - rate)
        for first in range(int(binom.isf(1e-7, left, of_first)) + 1):
            judged = mcnemar(
                *answers(0, first, second, left - first), level=0.05, margin=margin
            ).equivalence_p_value
            for level in found:
                if judged <= level:
                    found[level] += chance * binom.pmf(first, left, of_first)
    assert all(probability <= 1.01 * level for level, probability in found.items()), found


@given(st.tuples(*[st.integers(0, 40)] * 2, st.integers(0, 400)), st.floats(0.01, 0.3))
def test_networks_are_equivalent_only_if_the_interval_is_within_the_margin(counts, margin):
    first, second, both = counts
    models = answers(both, first, second, 20)
    judged = mcnemar(*models, level=0.05, margin=margin)
    wide = mcnemar(*models, level=0.10).interval
    if judged.equivalence_p_value <= 0.05:
        assert -margin <= wide.low <= wide.high <= margin


def test_models_that_agree_on_a_few_examples_are_not_equivalent_on_many_they_are():
    for seeds in (1, 3):
        for examples, is_equivalent in ((50, False), (5000, True)):
            wrong = np.zeros((seeds, examples), dtype=bool)
            wrong[:, : examples // 10] = True
            found = [
                mcnemar(wrong[:1], wrong[:1], level=0.05, margin=0.005),
                paired_bootstrap(wrong, wrong, level=0.05, resamples=50, seed=0, margin=0.005),
            ]
            assert [each.equivalence_p_value <= 0.05 for each in found] == [is_equivalent] * 2


@pytest.mark.parametrize(("seeds", "spread"), [(3, 0.0), (3, 0.1), (5, 0.05)])
def test_models_that_differ_by_the_margin_are_equivalent_at_most_as_often_as_the_level_says(
    seeds, spread
):
    generator, shift = np.random.default_rng(6), 0.15
    score = NormalDist(-1.5, math.sqrt(2 + spread**2))
    margin = score.cdf(shift) - score.cdf(0)  # by which the error rates differ
    found = 0
    for trial in range(100):
        models = draw_models(generator, seeds, examples=1000, spread=spread, shift=shift)
        options = {"level": 0.05, "resamples": 100, "seed": trial}
        found += paired_bootstrap(*models, **options, margin=margin).equivalence_p_value <= 0.05
    assert found <= 12  # 5 are allowed on average; more than 12 would have a chance of 0.1 %


def test_rare_differences_that_were_not_drawn_count_as_possible():
    # Both differ on 1 % of the examples, in all seeds alike, always to the first one's harm.
    generator, found = np.random.default_rng(7), 0
    for trial in range(200):
        second = generator.random(500) < 0.1
        first = second | (generator.random(500) < 0.01 / 0.9)
        models = (np.repeat(each[None], 3, axis=0) for each in (first, second))
        options = {"level": 0.05, "resamples": 20, "seed": trial, "margin": 0.01}
        found += paired_bootstrap(*models, **options).equivalence_p_value <= 0.05
    assert found <= 20  # 10 are allowed on average


def test_one_false_equivalence_among_many_pairs_has_at_most_the_probability_of_the_level():
    generator, names = np.random.default_rng(8), "abcd"
    rules = Rules(level=0.05, margin=0.02, resamples=1, seed=0)
    pairs = [("a", each) for each in names[1:]]
    found = 0
    for _ in range(200):
        score = generator.random((4, 1000))
        score[0] += 0.02  # the error rate of a is that of the others plus the margin
        wrong = {name: score[place][None] > 0.95 for place, name in enumerate(names)}
        outcomes = {each.outcome for each in judge(wrong, pairs, rules)}
        found += "equivalent" in outcomes
    assert found <= 21  # 10 are allowed on average; more than 21 would have a chance of 0.1 %
