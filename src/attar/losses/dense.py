"""The losses of distillation: tensors in, one number per example out; the caller takes the mean.

The arithmetic is float32 at least: float16 and bfloat16 are promoted, float64 stays. Teachers are
constants: no gradient flows into soft targets or teacher logits. A class that the teacher rules out
(probability 0, logit -inf) costs nothing, even if the student rules it out too: 0 · log 0 = 0.

Formulas use the paper's letters: z and q for the student's logits and probabilities, v and p for
the teacher's, T for the temperature, N for the number of classes.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from attar.errors import AttarError, check_not_negative, check_positive
from attar.losses.checks import at_least_float32, check_scores, hard_cross_entropy, log_softmax

PerClass = Float[Tensor, "*batch classes"]  # one number per example and class
PerExample = Float[Tensor, "*batch"]


def softmax_with_temperature(logits: PerClass, *, temperature: float) -> PerClass:
    """Turn logits into probabilities; the higher the temperature, the softer.

    Args:
        logits: Shape `[..., classes]`, in nats; -inf gives probability 0.
        temperature: T > 0; 1 means unchanged.

    Returns:
        Probabilities, same shape.

    Raises:
        AttarError: If T <= 0, the logits are not floating-point, or (ShapeError) have no class.

    Example:
        >>> softmax_with_temperature(torch.tensor([[0.0, 2.1972]]), temperature=2.0)
        tensor([[0.2500, 0.7500]])

    Source: Hinton et al. (2015), sec. 2, eq. 1.
    """
    _check(temperature=temperature, logits=logits)
    return torch.softmax(at_least_float32(logits) / temperature, dim=-1)


def soft_cross_entropy(
    logits: PerClass, soft_targets: PerClass, *, temperature: float
) -> PerExample:
    """Measure how well the student predicts soft targets that are probabilities.

    The soft targets must already be at the temperature; that they are probabilities is not checked.
    The gradient by z is (q - p) / T: the factor T² is the caller's (`distillation_loss` has it).

    Args:
        logits: The student's, shape `[..., classes]`, in nats.
        soft_targets: Teacher probabilities at the temperature, same shape, each row summing to 1.
        temperature: T > 0 of the student's softmax.

    Returns:
        -sum p · log q in nats, shape `[...]`; +inf where q = 0 but p > 0.

    Raises:
        AttarError: If T <= 0, or a tensor is not floating-point, or (ShapeError) shapes differ.

    Example:
        >>> logits = torch.tensor([[0.0, 2.1972]])  # 1/4 and 3/4 at T = 2
        >>> soft_cross_entropy(logits, torch.tensor([[0.5, 0.5]]), temperature=2.0)
        tensor([0.8370])

    Source: Hinton et al. (2015), sec. 2, the first objective function; gradient eq. 2.
    """
    _check(temperature=temperature, logits=logits, soft_targets=soft_targets)
    log_q = log_softmax(logits, temperature=temperature)
    return -expectation(at_least_float32(soft_targets.detach()), log_q)


def soft_cross_entropy_with_teacher_logits(
    logits: PerClass, teacher_logits: PerClass, *, temperature: float
) -> PerExample:
    """Measure how well the student predicts the soft targets of a teacher given by its logits.

    Args:
        logits: The student's, shape `[..., classes]`, in nats.
        teacher_logits: The teacher's, same shape, in nats, not yet divided by the temperature.
        temperature: T > 0 of both softmaxes.

    Returns:
        -sum p · log q in nats, shape `[...]`; +inf where q = 0 but p > 0.

    Raises:
        AttarError: If T <= 0, or a tensor is not floating-point, or (ShapeError) shapes differ.

    Example:
        >>> logits, teacher_logits = torch.tensor([[0.0, 2.1972]]), torch.zeros(1, 2)
        >>> soft_cross_entropy_with_teacher_logits(logits, teacher_logits, temperature=2.0)
        tensor([0.8370])

    Source: Hinton et al. (2015), sec. 2, the first objective function; gradient eq. 2.
    """
    _check(temperature=temperature, logits=logits, teacher_logits=teacher_logits)
    p = softmax_with_temperature(teacher_logits.detach(), temperature=temperature)
    return -expectation(p, log_softmax(logits, temperature=temperature))


def kl_divergence(logits: PerClass, soft_targets: PerClass, *, temperature: float) -> PerExample:
    """Measure what the student loses against soft targets that are probabilities.

    It is the soft cross-entropy less the soft targets' own entropy, so it has the same gradient and
    is 0 when the student agrees. That the soft targets are probabilities is not checked.

    Args:
        logits: The student's, shape `[..., classes]`, in nats.
        soft_targets: Teacher probabilities at the temperature, same shape, each row summing to 1.
        temperature: T > 0 of the student's softmax.

    Returns:
        KL(p, q) = sum p · (log p - log q) in nats, shape `[...]`; +inf where q = 0 but p > 0.

    Raises:
        AttarError: If T <= 0, or a tensor is not floating-point, or (ShapeError) shapes differ.

    Example:
        >>> logits = torch.tensor([[0.0, 2.1972]])  # 1/4 and 3/4 at T = 2
        >>> kl_divergence(logits, torch.tensor([[0.5, 0.5]]), temperature=2.0)
        tensor([0.1438])

    Source: Hinton et al. (2015), sec. 5.4, eq. 5.
    """
    _check(temperature=temperature, logits=logits, soft_targets=soft_targets)
    p = at_least_float32(soft_targets.detach())
    return expectation(p, p.log() - log_softmax(logits, temperature=temperature))


def kl_divergence_with_teacher_logits(
    logits: PerClass, teacher_logits: PerClass, *, temperature: float
) -> PerExample:
    """Measure what the student loses against a teacher given by its logits.

    Args:
        logits: The student's, shape `[..., classes]`, in nats.
        teacher_logits: The teacher's, same shape, in nats, not yet divided by the temperature.
        temperature: T > 0 of both softmaxes.

    Returns:
        KL(p, q) = sum p · (log p - log q) in nats, shape `[...]`; +inf where q = 0 but p > 0.

    Raises:
        AttarError: If T <= 0, or a tensor is not floating-point, or (ShapeError) shapes differ.

    Example:
        >>> logits, teacher_logits = torch.tensor([[0.0, 2.1972]]), torch.zeros(1, 2)
        >>> kl_divergence_with_teacher_logits(logits, teacher_logits, temperature=2.0)
        tensor([0.1438])

    Source: Hinton et al. (2015), sec. 5.4, eq. 5.
    """
    _check(temperature=temperature, logits=logits, teacher_logits=teacher_logits)
    log_p = log_softmax(teacher_logits.detach(), temperature=temperature)
    return expectation(log_p.exp(), log_p - log_softmax(logits, temperature=temperature))


def logit_matching(logits: PerClass, teacher_logits: PerClass) -> PerExample:
    """Measure the squared distance of two networks' logits, each row made zero-mean.

    T² times the KL divergence at temperature T tends to it as T grows; so does T² times the soft
    cross-entropy, but for the soft targets' entropy. Its gradient by z is (z - v) / N.

    Args:
        logits: The student's, shape `[..., classes]`, in nats, finite.
        teacher_logits: The teacher's, same shape, in nats, finite.

    Returns:
        1 / (2N) · sum (z - v)², shape `[...]`, in nats squared; nan for infinite logits.

    Raises:
        AttarError: If a tensor is not floating-point, or (ShapeError) the shapes differ.

    Example:
        >>> logit_matching(torch.tensor([[5.0, 7.0]]), torch.tensor([[0.0, 0.0]]))
        tensor([0.5000])

    Source: Hinton et al. (2015), sec. 2.1, eq. 4 integrated over z, times T².
    """
    check_scores(logits=logits, teacher_logits=teacher_logits)
    difference = at_least_float32(logits) - at_least_float32(teacher_logits.detach())
    difference = difference - difference.mean(dim=-1, keepdim=True)  # of the zero-meaned logits
    return difference.square().mean(dim=-1) / 2


def distillation_loss(
    logits: PerClass,
    teacher_logits: PerClass,
    hard_targets: Int64[Tensor, "*batch"],
    *,
    temperature: float,
    soft_weight: float,
    hard_weight: float,
) -> PerExample:
    """Weigh agreement with the teacher against the true classes.

    A weight of zero skips its term; hard targets that no term needs are not looked at.

    Args:
        logits: The student's, shape `[..., classes]`, in nats.
        teacher_logits: The teacher's, same shape, in nats, not yet divided by the temperature.
        hard_targets: True class indices, shape `[...]`, `int64`; -1 for an unlabeled example, whose
            hard term is 0.
        temperature: T > 0 of the soft term; the hard term is always at 1.
        soft_weight: Factor of T² times the soft cross-entropy, >= 0.
        hard_weight: Factor of the hard cross-entropy, >= 0.

    Returns:
        The weighted sum in nats, shape `[...]`.

    Raises:
        AttarError: If T <= 0, a weight is negative, both are zero, a dtype is wrong, a hard target
            is neither a class nor -1, or (ShapeError) shapes don't fit.

    Example:
        >>> logits, teacher_logits = torch.tensor([[0.0, 2.1972]]), torch.zeros(1, 2)
        >>> options = {"temperature": 2.0, "soft_weight": 1.0, "hard_weight": 0.5}
        >>> distillation_loss(logits, teacher_logits, torch.tensor([1]), **options)
        tensor([3.4006])

    Source: Hinton et al. (2015), sec. 2, the weighted average of two objective functions.
    """
    _check(temperature=temperature, logits=logits, teacher_logits=teacher_logits)
    check_not_negative(soft_weight=soft_weight, hard_weight=hard_weight)
    if soft_weight == 0 and hard_weight == 0:
        raise AttarError("expected soft_weight > 0 or hard_weight > 0, got 0 for both; raise one")
    if soft_weight == 0:
        return hard_weight * hard_cross_entropy(logits, hard_targets)
    p = softmax_with_temperature(teacher_logits.detach(), temperature=temperature)
    # Soft-target gradients shrink as 1/T²; T² brings them back (Hinton et al. 2015, sec. 2). The
    # factors are p's, which has no gradient to be carried back through them.
    weighted_p = (-soft_weight * temperature**2) * p
    soft = expectation(weighted_p, log_softmax(logits, temperature=temperature))
    if hard_weight == 0:
        return soft
    return torch.add(soft, hard_cross_entropy(logits, hard_targets), alpha=hard_weight)


def expectation(p: Tensor, values: Tensor, *, dim: int = -1) -> Tensor:
    """Sum p · values over the classes; where p = 0 that is 0, however infinite the value."""
    total = (p * values).sum(dim=dim)
    if total.isnan().any():  # 0 · inf; seldom, so the [..., classes] mask waits until it's needed
        total = (p * values.masked_fill(p == 0, 0.0)).sum(dim=dim)
    return total


def _check(*, temperature: float, **scores: Tensor) -> None:
    check_positive(temperature=temperature)
    check_scores(**scores)
