"""The laws that a distillation loss must obey, as checks for any implementation.

For another project's own tests, where `our_loss` is a `LossFn`:

    @pytest.mark.parametrize("check", DISTILLATION_LOSS_CHECKS, ids=lambda check: check.__name__)
    def test_our_loss_obeys_the_laws(check):
        check(our_loss)

The soft term may be the cross-entropy or the KL divergence: they differ by the teacher's entropy,
which the student cannot change. Inputs are on the CPU, float64 unless a check is about another
dtype. Most checks send one example at a time, so that a mistake fails its own checks only.
References are written out here in NumPy, from Hinton et al. (2015), and share no code with attar.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Scores = Sequence[float]  # the logits of one example
Array = NDArray[np.float64]
Values = float | Scores | Array
STUDENT, TEACHER, CLASS = (0.5, -1.0, 2.0, 0.3), (1.5, 0.2, -0.7, 1.1), 1  # nothing special


@runtime_checkable
class LossFn(Protocol):
    """`soft_weight` · T² · soft cross-entropy + `hard_weight` · hard cross-entropy, per example."""

    def __call__(
        self,
        logits: Tensor,  # [batch, classes], the student's
        teacher_logits: Tensor,  # [batch, classes]
        hard_targets: Tensor,  # [batch], int64
        /,
        *,
        temperature: float,
        soft_weight: float,
        hard_weight: float,
    ) -> Tensor:
        """Return one number per example, shape `[batch]`."""


@dataclass(frozen=True, slots=True)
class FailedCheck:
    """A law that an implementation breaks."""

    name: str
    message: str  # what was expected, what came, which mistake this usually is


def failed_checks(loss_fn: LossFn) -> tuple[FailedCheck, ...]:
    """Run an implementation of the distillation loss through every check.

    Args:
        loss_fn: The implementation. If it raises, the check that called it has failed.

    Returns:
        The checks that failed, in the order of `DISTILLATION_LOSS_CHECKS`; empty if it conforms.

    Example:
        >>> from attar.losses import distillation_loss
        >>> failed_checks(distillation_loss)
        ()
    """
    failed = []
    for check in DISTILLATION_LOSS_CHECKS:
        try:
            check(loss_fn)
        except Exception as error:
            raised = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
            failed.append(FailedCheck(check.__name__, f"{raised}{error}"))
    return tuple(failed)


def values_are_those_worked_out_by_hand(loss_fn: LossFn) -> None:
    """Student 1/4, 3/4 and teacher 1/5, 4/5, both at T = 2, where T² = 4."""
    soft = _Example((0.0, 2 * math.log(3)), (0.0, 2 * math.log(4)), temperature=2.0)
    cross_entropy = 1 / 5 * math.log(4) + 4 / 5 * math.log(4 / 3)
    entropy = 1 / 5 * math.log(5) + 4 / 5 * math.log(5 / 4)
    hint = "is T² missing, T on one side only, or the sum over the classes a mean?"
    accepted = 4 * cross_entropy, 4 * (cross_entropy - entropy)
    _expect("soft term at T = 2", soft.loss(loss_fn), *accepted, hint=hint)
    hard = replace(soft, student=(0.0, math.log(3)), soft_weight=0.0, hard_weight=1.0)
    hint = "does it have T or T², or are the weights swapped, or one of them 1 - alpha?"
    _expect("hard term at T = 2", hard.loss(loss_fn), math.log(4 / 3), hint=hint)


def gradient_is_temperature_times_q_minus_p(loss_fn: LossFn) -> None:
    """Eq. 2 times T² and the weight."""
    got = _Example(temperature=3.0, soft_weight=0.7).gradient(loss_fn)
    expected = 0.7 * 3.0 * (_softmax(STUDENT, 3.0) - _softmax(TEACHER, 3.0))
    hint = "is T² missing, a log-softmax left out, or the sum over the classes a mean?"
    _expect("gradient at T = 3, soft_weight = 0.7", got, expected, hint=hint)


def gradient_agrees_with_finite_differences(loss_fn: LossFn) -> None:
    """Central differences in float64, both terms on."""
    example = _Example(temperature=3.0, soft_weight=0.7, hard_weight=0.4)
    slopes = []
    for step in 1e-4 * np.eye(len(STUDENT)):
        above = replace(example, student=list(STUDENT + step)).loss(loss_fn)
        below = replace(example, student=list(STUDENT - step)).loss(loss_fn)
        slopes.append((above - below) / 2e-4)
    hint = "is something detached, or float64 computed in float32?"
    _expect("gradient of the loss returned", example.gradient(loss_fn), slopes, hint=hint)


def gradient_size_is_kept_at_high_temperature(loss_fn: LossFn) -> None:
    """Sec. 2: soft-target gradients shrink as 1/T², and the factor T² brings them back."""
    at_500, at_1000 = (
        np.linalg.norm(_Example(temperature=temperature).gradient(loss_fn))
        for temperature in (500.0, 1000.0)
    )
    with np.errstate(all="ignore"):
        power = np.log2(at_1000 / at_500)
    hint = "-2 means that the factor T² is missing, -1 that it is T, 1 or 2 that one side has no T"
    _expect("power of T by which the gradient grows", power, 0.0, hint=hint, tolerance=0.05)


def high_temperature_is_logit_matching(loss_fn: LossFn) -> None:
    """Eq. 4, integrated: 1/(2N) · sum (z - v)² of the zero-meaned logits."""
    example = _Example(temperature=100.0)
    got = example.loss(loss_fn) - replace(example, student=TEACHER).loss(loss_fn)
    difference = np.subtract(STUDENT, TEACHER)
    expected = np.square(difference - difference.mean()).mean() / 2
    hint = "1/10,000 of it means that T² is missing, 1/4 a mean over the 4 classes"
    _expect("loss above the teacher's own", got, expected, hint=hint, tolerance=0.01)


def a_constant_added_to_the_logits_changes_nothing(loss_fn: LossFn) -> None:
    """A softmax sees only the differences of logits."""
    example = _Example(temperature=3.0, soft_weight=0.7, hard_weight=0.4)
    expected = example.loss(loss_fn)
    hint = "do logits stand where log-probabilities belong, as in F.kl_div without log_softmax?"
    shifted = replace(example, student=[z + 7.0 for z in STUDENT])
    _expect("student logits + 7", shifted.loss(loss_fn), expected, hint=hint)
    shifted = replace(example, teacher=[v - 5.0 for v in TEACHER])
    _expect("teacher logits - 5", shifted.loss(loss_fn), expected, hint=hint)


def logits_of_ten_thousand_are_finite_and_right(loss_fn: LossFn) -> None:
    """Probabilities of exactly 0 and 1 in float32; the loss is 20,000 at T = 1."""
    hint = "inf and nan come from the log of a softmax; a log-softmax takes the maximum off first"
    apart = _Example((1e4, -1e4, 0.0), (-1e4, 1e4, 0.0), temperature=1.0, dtype=torch.float32)
    _expect("loss at ±1e4", apart.loss(loss_fn), 2e4, hint=hint)
    _expect("gradient at ±1e4", apart.gradient(loss_fn), (1.0, -1.0, 0.0), hint=hint)
    agreeing = replace(apart, student=apart.teacher, hard_weight=1.0)  # CLASS has the 1e4
    _expect("loss of a student that agrees", agreeing.loss(loss_fn), 0.0, hint=hint)


def one_class_costs_nothing(loss_fn: LossFn) -> None:
    """With one class there is nothing to tell apart."""
    example = _Example((3.0,), (-2.0,), 0, temperature=2.0, hard_weight=1.0)
    hint = "are logits compared without a softmax?"
    _expect("loss with one class", example.loss(loss_fn), 0.0, hint=hint)
    _expect("gradient with one class", example.gradient(loss_fn), (0.0,), hint=hint)


def an_empty_batch_gives_an_empty_result(loss_fn: LossFn) -> None:
    """Shape [0], and no nan from a mean over nothing."""
    empty, nothing = torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)
    got = loss_fn(empty, empty, nothing, temperature=2.0, soft_weight=1.0, hard_weight=1.0)
    _expect_shape("no example", got, [0])


def half_precision_input_is_computed_in_float32(loss_fn: LossFn) -> None:
    """A float16 holds nothing above 65,504, and a bfloat16 three digits."""
    options = {"temperature": 20.0, "soft_weight": 10.0, "hard_weight": 1.0}
    hint = "is it computed or returned in half precision, where T² · loss overflows?"
    for dtype in (torch.float16, torch.bfloat16):
        z = torch.tensor([[310.0, -205.5, 55.7]]).to(dtype)
        v = torch.tensor([[-95.1, 160.3, 20.9]]).to(dtype)
        target = torch.tensor([CLASS])
        got = loss_fn(z, v, target, **options).sum().item()
        expected = loss_fn(z.float(), v.float(), target, **options).sum().item()
        _expect(f"loss of {dtype} logits", got, expected, hint=hint)


def classes_ruled_out_give_no_nan(loss_fn: LossFn) -> None:
    """A logit of -inf is a probability of 0, and 0 · log 0 = 0."""
    teacher, hint = (-math.inf, 0.2, 1.1), "nan comes from 0 · log 0 computed as it stands"
    for student in ((0.5, -1.0, 2.0), (-math.inf, -1.0, 2.0)):
        example = _Example(student, teacher, temperature=1.0)
        p, q = _softmax(teacher, 1.0), _softmax(student, 1.0)
        cross_entropy = -(p[1:] * np.log(q[1:])).sum()
        kl = cross_entropy + (p[1:] * np.log(p[1:])).sum()
        what = f"student {student}, teacher {teacher}"
        _expect(f"loss of {what}", example.loss(loss_fn), cross_entropy, kl, hint=hint)
        _expect(f"gradient of {what}", example.gradient(loss_fn), q - p, hint=hint)


def each_example_has_its_own_number(loss_fn: LossFn) -> None:
    """One number per example, the same as when the example comes alone."""
    students, teachers = torch.tensor([STUDENT, TEACHER]), torch.tensor([TEACHER, TEACHER[::-1]])
    hard_targets = torch.tensor([CLASS, 0])
    options = {"temperature": 2.0, "soft_weight": 0.7, "hard_weight": 0.4}
    got = loss_fn(students, teachers, hard_targets, **options)
    _expect_shape("two examples", got, [2])
    rows = zip(students.split(1), teachers.split(1), hard_targets.split(1), strict=True)
    alone = [loss_fn(*row, **options).sum().item() for row in rows]
    hint = "does a softmax, a mean or a maximum run over the batch?"
    _expect("two examples, against each alone", got.tolist(), alone, hint=hint)


def the_weights_act_linearly_and_apart(loss_fn: LossFn) -> None:
    """Each scales its own term and does nothing else."""
    soft = _Example(temperature=3.0)
    hard = replace(soft, soft_weight=0.0, hard_weight=1.0)
    hint = "is one of them read as alpha, and 1 - alpha put before the other term?"
    got, expected = replace(soft, hard_target=2).loss(loss_fn), soft.loss(loss_fn)
    _expect("hard_weight 0, another hard target", got, expected, hint=hint)
    got, expected = replace(hard, teacher=STUDENT).loss(loss_fn), hard.loss(loss_fn)
    _expect("soft_weight 0, another teacher", got, expected, hint=hint)
    got = replace(soft, soft_weight=0.3, hard_weight=2.0).loss(loss_fn)
    expected = 0.3 * soft.loss(loss_fn) + 2.0 * hard.loss(loss_fn)
    _expect("soft_weight 0.3, hard_weight 2", got, expected, hint=hint)


def the_hard_term_is_at_temperature_one(loss_fn: LossFn) -> None:
    """Sec. 2: the second objective takes the same logits, but at temperature 1; it gets no T²."""
    got = _Example(temperature=3.0, soft_weight=0.0, hard_weight=1.0).loss(loss_fn)
    hint = "is it multiplied by T², or are its logits divided by T?"
    _expect("hard term at T = 3", got, -np.log(_softmax(STUDENT, 1.0)[CLASS]), hint=hint)


DISTILLATION_LOSS_CHECKS: tuple[Callable[[LossFn], None], ...] = (
    values_are_those_worked_out_by_hand,
    gradient_is_temperature_times_q_minus_p,
    gradient_agrees_with_finite_differences,
    gradient_size_is_kept_at_high_temperature,
    high_temperature_is_logit_matching,
    a_constant_added_to_the_logits_changes_nothing,
    logits_of_ten_thousand_are_finite_and_right,
    one_class_costs_nothing,
    an_empty_batch_gives_an_empty_result,
    half_precision_input_is_computed_in_float32,
    classes_ruled_out_give_no_nan,
    each_example_has_its_own_number,
    the_weights_act_linearly_and_apart,
    the_hard_term_is_at_temperature_one,
)


@dataclass(frozen=True, slots=True)
class _Example:
    """A batch of one, its loss summed, so that only the checks of shapes mind the shape."""

    student: Scores = STUDENT
    teacher: Scores = TEACHER
    hard_target: int = CLASS
    _: KW_ONLY
    temperature: float
    soft_weight: float = 1.0
    hard_weight: float = 0.0
    dtype: torch.dtype = torch.float64

    def loss(self, loss_fn: LossFn) -> float:
        return self._run(loss_fn)[0].item()

    def gradient(self, loss_fn: LossFn) -> Array:
        return torch.autograd.grad(*self._run(loss_fn))[0][0].double().numpy()

    def _run(self, loss_fn: LossFn) -> tuple[Tensor, Tensor]:
        logits = torch.tensor([list(self.student)], dtype=self.dtype, requires_grad=True)
        loss = loss_fn(
            logits,
            logits.new_tensor([list(self.teacher)]),
            torch.tensor([self.hard_target]),
            temperature=self.temperature,
            soft_weight=self.soft_weight,
            hard_weight=self.hard_weight,
        )
        return loss.sum(), logits


def _softmax(scores: Scores, temperature: float) -> Array:
    powers = np.exp((np.asarray(scores) - max(scores)) / temperature)
    return np.asarray(powers / powers.sum())


def _expect(what: str, got: Values, *accepted: Values, hint: str, tolerance: float = 1e-5) -> None:
    """Raise unless `got` is the value accepted or, where there are two, the one of a KL."""
    if not any(np.allclose(got, value, rtol=tolerance, atol=tolerance) for value in accepted):
        expected = " or, as a KL divergence, ".join(str(np.asarray(value)) for value in accepted)
        raise AssertionError(f"{what}: expected {expected}, got {np.asarray(got)}; {hint}")


def _expect_shape(what: str, got: Tensor, shape: list[int]) -> None:
    if list(got.shape) != shape:
        found = f"{what}: expected shape {shape}, got {list(got.shape)}"
        raise AssertionError(f"{found}; is the mean over the batch taken inside?")
