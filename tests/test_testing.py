import dataclasses
import re

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from attar.losses import distillation_loss
from attar.testing import DISTILLATION_LOSS_CHECKS, FailedCheck, LossFn, failed_checks

BY_HAND = "values_are_those_worked_out_by_hand"
GRADIENT = "gradient_is_temperature_times_q_minus_p"
DIFFERENCES = "gradient_agrees_with_finite_differences"
SIZE = "gradient_size_is_kept_at_high_temperature"
LIMIT = "high_temperature_is_logit_matching"
SHIFT = "a_constant_added_to_the_logits_changes_nothing"
LARGE = "logits_of_ten_thousand_are_finite_and_right"
ONE_CLASS = "one_class_costs_nothing"
EMPTY = "an_empty_batch_gives_an_empty_result"
HALF = "half_precision_input_is_computed_in_float32"
RULED_OUT = "classes_ruled_out_give_no_nan"
EXAMPLES = "each_example_has_its_own_number"
WEIGHTS = "the_weights_act_linearly_and_apart"
HARD = "the_hard_term_is_at_temperature_one"


def right_soft(z, v, temperature):
    p, log_q = torch.softmax(v / temperature, -1), torch.log_softmax(z / temperature, -1)
    return -(temperature**2) * torch.where(p > 0, p * log_q, 0.0).sum(-1)


def right_hard(z, hard_targets, temperature):
    return F.cross_entropy(z, hard_targets, reduction="none")


def loss_from(soft=right_soft, hard=right_hard, promoted=True):
    """Put the terms together as they should be, so that a loss is wrong in one thing only."""

    def loss_fn(z, v, hard_targets, *, temperature, soft_weight, hard_weight):
        if promoted and z.dtype != torch.float64:
            z, v = z.float(), v.float()
        soft_term = soft_weight * soft(z, v, temperature)
        return soft_term + hard_weight * hard(z, hard_targets, temperature)

    return loss_fn


right_loss = loss_from()


def kl_for_cross_entropy(z, v, temperature):
    log_p, log_q = torch.log_softmax(v / temperature, -1), torch.log_softmax(z / temperature, -1)
    ratio = torch.where(v == -torch.inf, 0.0, log_p - log_q)
    return temperature**2 * (log_p.exp() * ratio).sum(-1)


def without_t_squared(z, v, temperature):
    return right_soft(z, v, temperature) / temperature**2


def t_for_t_squared(z, v, temperature):
    return right_soft(z, v, temperature) / temperature


def kl_of_raw_logits(z, v, temperature):
    p = torch.softmax(v / temperature, -1)
    return temperature**2 * F.kl_div(z / temperature, p, reduction="none").sum(-1)


def mean_over_classes(z, v, temperature):
    return right_soft(z, v, temperature) / z.shape[-1]


def teacher_without_temperature(z, v, temperature):
    return right_soft(z, v * temperature, temperature)


def student_without_temperature(z, v, temperature):
    return right_soft(z * temperature, v, temperature)


def log_of_a_softmax(z, v, temperature):
    p, q = torch.softmax(v / temperature, -1), torch.softmax(z / temperature, -1)
    return -(temperature**2) * torch.where(p > 0, p * q.log(), 0.0).sum(-1)


def zero_times_log_zero(z, v, temperature):
    log_p, log_q = torch.log_softmax(v / temperature, -1), torch.log_softmax(z / temperature, -1)
    return temperature**2 * F.kl_div(log_q, log_p, log_target=True, reduction="none").sum(-1)


def float32_throughout(z, v, temperature):
    return right_soft(z.float(), v.float(), temperature).to(z.dtype)


def teacher_averaged_over_the_batch(z, v, temperature):
    return right_soft(z, v.mean(dim=0, keepdim=True).expand_as(v), temperature)


def t_squared_on_the_hard_term(z, hard_targets, temperature):
    return temperature**2 * right_hard(z, hard_targets, temperature)


def temperature_in_the_hard_term(z, hard_targets, temperature):
    return right_hard(z / temperature, hard_targets, temperature)


def mean_over_the_batch(*arguments, **options):
    return right_loss(*arguments, **options).mean()


def alpha_is_hard_weight(*arguments, temperature, soft_weight, hard_weight):
    weights = {"soft_weight": 1 - hard_weight, "hard_weight": hard_weight}
    return right_loss(*arguments, temperature=temperature, **weights)


def alpha_means_one_minus_alpha(*arguments, temperature, soft_weight, hard_weight):
    weights = {"soft_weight": 1 - soft_weight, "hard_weight": soft_weight}
    return right_loss(*arguments, temperature=temperature, **weights)


T_SQUARED_FAILS = {BY_HAND, GRADIENT, SIZE, LIMIT}
RAW_LOGITS_FAIL = T_SQUARED_FAILS | {SHIFT, LARGE, ONE_CLASS, RULED_OUT}
MEAN_OVER_CLASSES_FAILS = {BY_HAND, GRADIENT, LIMIT, LARGE, RULED_OUT}
ONE_MINUS_ALPHA_FAILS = {WEIGHTS, HARD, BY_HAND, GRADIENT, LIMIT, RULED_OUT}
MISTAKES = {  # every check that each of them fails, and no other
    "T² missing": (loss_from(without_t_squared), T_SQUARED_FAILS),
    "T for T²": (loss_from(t_for_t_squared), T_SQUARED_FAILS),
    "T² on the hard term": (loss_from(hard=t_squared_on_the_hard_term), {HARD, BY_HAND}),
    "T in the hard term": (loss_from(hard=temperature_in_the_hard_term), {HARD, BY_HAND}),
    "KL on raw logits": (loss_from(kl_of_raw_logits), RAW_LOGITS_FAIL),
    "mean over classes": (loss_from(mean_over_classes), MEAN_OVER_CLASSES_FAILS),
    "T on the student only": (loss_from(teacher_without_temperature), T_SQUARED_FAILS),
    "T on the teacher only": (loss_from(student_without_temperature), T_SQUARED_FAILS),
    "log of a softmax": (loss_from(log_of_a_softmax), {LARGE, RULED_OUT}),
    "0 · log 0": (loss_from(zero_times_log_zero), {RULED_OUT}),
    "float16 overflow": (loss_from(promoted=False), {HALF}),
    "float32 for float64": (loss_from(float32_throughout), {DIFFERENCES}),
    "teacher averaged over the batch": (loss_from(teacher_averaged_over_the_batch), {EXAMPLES}),
    "mean over the batch": (mean_over_the_batch, {EXAMPLES, EMPTY}),
    "alpha is hard_weight": (alpha_is_hard_weight, {WEIGHTS, GRADIENT}),
    "alpha means 1 - alpha": (alpha_means_one_minus_alpha, ONE_MINUS_ALPHA_FAILS),
}


MESSAGES = {
    "T² missing": (SIZE, r"expected 0\.0, got -2\.000\d*; -2 means that the factor T² is missing"),
    "T for T²": (SIZE, r"expected 0\.0, got -1\.000\d*; .* -1 that it is T,"),
    "T on the student only": (SIZE, r"got 0\.999\d*; .* 1 or 2 that one side has no T"),
    "T² on the hard term": (HARD, r"expected 3\.37\d*, got 30\.37\d*; is it multiplied by T²"),
    "KL on raw logits": (SHIFT, r"student logits \+ 7: .* F\.kl_div without log_softmax"),
    "mean over classes": (LIMIT, r"expected 1\.29\d*, got 0\.32\d*; .* a mean over the 4 classes"),
    "0 · log 0": (RULED_OUT, r"or, as a KL divergence, .*, got nan; nan comes from 0 · log 0"),
    "float16 overflow": (HALF, r"float16 logits: expected 103566\.\d*, got inf; .* half precision"),
    "mean over the batch": (
        EXAMPLES,
        r"expected shape \[2\], got \[\]; is the mean over the batch",
    ),
    "alpha means 1 - alpha": (WEIGHTS, r"hard_weight 0, another hard target: .* 1 - alpha"),
}


@pytest.mark.parametrize("check", DISTILLATION_LOSS_CHECKS, ids=lambda check: check.__name__)
def test_our_own_loss_obeys(check):
    check(distillation_loss)


@pytest.mark.parametrize("soft", [right_soft, kl_for_cross_entropy])
def test_both_usual_forms_of_the_soft_term_conform(soft):
    assert failed_checks(loss_from(soft)) == ()


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_fails_its_own_checks_and_no_others(mistake):
    loss_fn, expected = MISTAKES[mistake]
    assert {failed.name for failed in failed_checks(loss_fn)} == expected


def test_every_check_is_failed_by_a_mistake():
    failed = set().union(*(names for _, names in MISTAKES.values()))
    assert failed == {check.__name__ for check in DISTILLATION_LOSS_CHECKS}


@pytest.mark.parametrize("mistake", MESSAGES)
def test_a_message_tells_expected_and_got_and_the_usual_mistake(mistake):
    check, message = MESSAGES[mistake]
    found = {failed.name: failed.message for failed in failed_checks(MISTAKES[mistake][0])}
    assert re.search(message, found[check]), found[check]


def test_a_check_raises_the_message_that_the_record_holds():
    loss_fn, _ = MISTAKES["float16 overflow"]
    (failed,) = failed_checks(loss_fn)
    (check,) = [check for check in DISTILLATION_LOSS_CHECKS if check.__name__ == failed.name]
    with pytest.raises(AssertionError) as raised:
        check(loss_fn)
    assert str(raised.value) == failed.message


def test_a_loss_that_raises_fails_and_tells_what_it_raised():
    def loss_fn(z, *arguments, **options):
        if len(z) == 0:
            raise IndexError("nothing to average")
        return right_loss(z, *arguments, **options)

    assert failed_checks(loss_fn) == (FailedCheck(EMPTY, "IndexError: nothing to average"),)


def test_a_failed_check_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        FailedCheck(EMPTY, "").name = HALF


def test_our_own_loss_fits_the_protocol():
    assert isinstance(distillation_loss, LossFn)
