"""Soft-target losses beyond Hinton's, each after its paper: pure functions of two sets of logits.

They stand where T² · KL stands in `distillation_loss`; the hard term is the caller's. As there,
arithmetic is float32 at least, the teacher is a constant, and each returns one number per example.
docs/losses.md holds them against each other and tells which to take.
"""

import torch
from jaxtyping import Int64
from torch import Tensor

from attar.errors import ShapeError, check_not_negative, check_positive
from attar.losses.checks import UNLABELED, at_least_float32, check_hard_targets, check_scores
from attar.losses.checks import log_softmax as log_q_of
from attar.losses.dense import PerClass, PerExample, expectation

_TINY = 1e-7  # added to a standard deviation, so that constant rows are 0 and not nan


def standardize_logits(logits: PerClass) -> PerClass:
    """Shift and scale each row to mean 0 and standard deviation 1.

    Given to any loss in place of both networks' logits, it frees the student from matching their
    size: only their shape counts. The temperature then is in standard deviations of a row.

    Args:
        logits: Shape `[..., classes]`, finite.

    Returns:
        Same shape, at least float32; 0 where all logits of a row are alike.

    Raises:
        AttarError: If the logits are not floating-point, or (ShapeError) have no class.

    Example:
        >>> standardize_logits(torch.tensor([[1.0, 3.0], [10.0, 30.0]]))
        tensor([[-1.,  1.],
                [-1.,  1.]])

    Source: Sun et al. (2024), "Logit Standardization in Knowledge Distillation", arXiv:2403.01734,
    eq. 9; the deviation is the population's.
    """
    check_scores(logits=logits)
    z = at_least_float32(logits)
    z = z - z.mean(dim=-1, keepdim=True)
    return z / (z.square().mean(dim=-1, keepdim=True) + _TINY**2).sqrt()


def standardized_kl_divergence(
    logits: PerClass, teacher_logits: PerClass, *, temperature: float
) -> PerExample:
    """Return T² · KL of teacher and student after standardizing both sets of logits.

    Args:
        logits: Student logits, shape `[..., classes]`.
        teacher_logits: Teacher logits, same shape.
        temperature: Temperature T > 0, in standard deviations of a row's logits.

    Returns:
        T² · KL(p, q) in nats, shape `[...]`.

    Raises:
        AttarError: If T <= 0, or a tensor is not floating-point, or (ShapeError) shapes differ.

    Example:
        >>> v = torch.tensor([[0.0, 1.0, 2.0]])
        >>> standardized_kl_divergence(5 * v + 7, v, temperature=2.0)
        tensor([0.])

    Source: Sun et al. (2024), arXiv:2403.01734, algorithm 1.
    """
    log_q, log_p = _log_probabilities(
        temperature, standardize_logits(logits), standardize_logits(teacher_logits)
    )
    return temperature**2 * expectation(log_p.exp(), log_p - log_q)


def decoupled_divergence(
    logits: PerClass,
    teacher_logits: PerClass,
    hard_targets: Int64[Tensor, "*batch"],
    *,
    temperature: float,
    target_weight: float,
    other_weight: float,
) -> PerExample:
    """Weigh how the student treats the true class apart from how it treats the others.

    KL(p, q) is a sum: the divergence of (true class, all others) as two classes, plus that among
    the others, times the teacher's probability 1 - p of them. A teacher that is sure leaves the
    second term next to no weight, and with it the dark knowledge; here it has a weight of its own.

    Args:
        logits: Student logits, shape `[..., classes]`, in nats; at least two classes.
        teacher_logits: The teacher's, same shape, in nats, finite.
        hard_targets: True class indices, shape `[...]`, `int64`; -1 gives the plain T² · KL.
        temperature: T > 0 of both softmaxes.
        target_weight: Factor of the true class's term (alpha in the paper), >= 0.
        other_weight: Factor of the others' (beta in the paper), >= 0.

    Returns:
        T² · (target_weight · TCKD + other_weight · NCKD) in nats, shape `[...]`.

    Raises:
        AttarError: If T <= 0, a weight is negative, a dtype or a hard target is wrong, or
            (ShapeError) shapes don't fit or there is one class only.

    Example:
        >>> z, v = torch.tensor([[0.0, 2.1972]]), torch.zeros(1, 2)  # two classes: one other
        >>> options = {"temperature": 2.0, "target_weight": 1.0, "other_weight": 8.0}
        >>> decoupled_divergence(z, v, torch.tensor([1]), **options)
        tensor([0.5754])

    Source: Zhao et al. (2022), "Decoupled Knowledge Distillation", arXiv:2203.08679, eq. 6 and 7.
    """
    check_not_negative(target_weight=target_weight, other_weight=other_weight)
    log_q, log_p = _log_probabilities(temperature, logits, teacher_logits)
    check_hard_targets(hard_targets, logits)
    if logits.shape[-1] < 2:
        raise ShapeError(f"expected at least two classes, got logits {list(logits.shape)}")
    true = hard_targets.clamp(min=0).unsqueeze(-1)  # [..., 1]
    is_true = torch.zeros_like(log_q, dtype=torch.bool).scatter_(-1, true, True)
    log_q_others = log_q.masked_fill(is_true, -torch.inf)
    log_p_others = log_p.masked_fill(is_true, -torch.inf)
    all_q, all_p = (each.logsumexp(-1) for each in (log_q_others, log_p_others))  # [...]
    true_q, true_p = (each.gather(-1, true).squeeze(-1) for each in (log_q, log_p))  # [...]
    of_target = true_p.exp() * (true_p - true_q) + all_p.exp() * (all_p - all_q)
    p = (log_p_others - all_p.unsqueeze(-1)).exp()  # [..., classes]; 0 for the true class
    differences = (log_p - all_p.unsqueeze(-1)) - (log_q - all_q.unsqueeze(-1))
    of_others = expectation(p, differences)
    decoupled = target_weight * of_target + other_weight * of_others
    plain = expectation(log_p.exp(), log_p - log_q)
    return temperature**2 * torch.where(hard_targets == UNLABELED, plain, decoupled)


def correlation_distance(
    logits: PerClass,
    teacher_logits: PerClass,
    *,
    temperature: float,
    inter_weight: float,
    intra_weight: float,
) -> PerExample:
    """Measure how far the student's probabilities are from a linear function of the teacher's.

    Pearson's correlation along the classes of each example (inter), and along the examples of each
    class (intra). A student too weak to match probabilities may still match their order.

    The second couples the examples of a batch; its mean over the classes is added to each of them,
    so that the mean over the batch is the paper's loss.

    Args:
        logits: The student's, shape `[batch, classes]`, in nats.
        teacher_logits: The teacher's, same shape, in nats.
        temperature: T > 0 of both softmaxes.
        inter_weight: Factor of T² times 1 - correlation over classes (beta in the paper), >= 0.
        intra_weight: Factor of T² times 1 - correlation over examples (gamma in the paper), >= 0.

    Returns:
        The weighted sum, shape `[batch]`, each distance in 0..2; 1 where a correlation has no
        value, as that of a batch of one.

    Raises:
        AttarError: If T <= 0, a weight is negative, or a tensor is not floating-point, or
            (ShapeError) the shapes differ or have more axes than two.

    Example:
        >>> v = torch.tensor([[0.0, 1.0, 3.0], [2.0, 0.0, 1.0]])
        >>> options = {"temperature": 1.0, "inter_weight": 1.0, "intra_weight": 1.0}
        >>> correlation_distance(v + 5, v, **options).abs().max() < 1e-6
        tensor(True)

    Source: Huang et al. (2022), "Knowledge Distillation from A Stronger Teacher",
    arXiv:2205.10536; the factor T² is that of its authors' code.
    """
    check_not_negative(inter_weight=inter_weight, intra_weight=intra_weight)
    log_q, log_p = _log_probabilities(temperature, logits, teacher_logits)
    if logits.ndim != 2:
        raise ShapeError(f"expected logits [batch, classes], got {list(logits.shape)}")
    q, p = log_q.exp(), log_p.exp()
    inter = 1 - _correlation(q, p, dim=1)  # [batch]
    intra = 1 - _correlation(q, p, dim=0)  # [classes]
    return temperature**2 * (inter_weight * inter + intra_weight * intra.mean())


def transformed_teacher_divergence(
    logits: PerClass, teacher_logits: PerClass, *, temperature: float, weighted: bool
) -> PerExample:
    """Measure what the student, at temperature 1, loses against the teacher at a temperature.

    Hinton's loss softens both. T times that is this one and T - 1 times a Rényi entropy of the
    student's answer, which Hinton's loss thereby keeps low and this one does not.

    Raising p to the power 1/T and scaling it to sum to 1 is the teacher's softmax at T. What it is
    divided by, the power sum, tells how soft the teacher is on this example, and is its weight if
    `weighted`.

    Args:
        logits: The student's, shape `[..., classes]`, in nats.
        teacher_logits: The teacher's, same shape, in nats.
        temperature: T > 0 of the teacher's softmax alone.
        weighted: Multiply by the power sum of the teacher's probabilities, order 1/T.

    Returns:
        U · KL(p at T, q at 1) in nats, shape `[...]`, U being the power sum or 1.

    Raises:
        AttarError: If T <= 0, or a tensor is not floating-point, or (ShapeError) shapes differ.

    Example:
        >>> v = torch.tensor([[0.0, 2.1972]])  # 1/10 and 9/10, at T = 2: 1/4 and 3/4
        >>> options = {"temperature": 2.0, "weighted": True}
        >>> transformed_teacher_divergence(torch.zeros(1, 2), v, **options)
        tensor([0.1655])

    Source: Zheng & Yang (2024), "Knowledge Distillation Based on Transformed Teacher Matching",
    arXiv:2402.11148, TTM and WTTM.
    """
    check_positive(temperature=temperature)
    check_scores(logits=logits, teacher_logits=teacher_logits)
    log_q = log_q_of(logits, temperature=1.0)
    v = at_least_float32(teacher_logits.detach())
    log_p = torch.log_softmax(v / temperature, dim=-1)
    divergence = expectation(log_p.exp(), log_p - log_q)
    if not weighted:
        return divergence
    log_powers = torch.log_softmax(v, dim=-1) / temperature
    return log_powers.logsumexp(dim=-1).exp() * divergence


def _log_probabilities(
    temperature: float, logits: Tensor, teacher_logits: Tensor
) -> tuple[Tensor, Tensor]:
    check_positive(temperature=temperature)
    check_scores(logits=logits, teacher_logits=teacher_logits)
    return (
        log_q_of(logits, temperature=temperature),
        log_q_of(teacher_logits.detach(), temperature=temperature),
    )


def _correlation(a: Tensor, b: Tensor, *, dim: int) -> Tensor:
    """Return Pearson's correlation; 0 where one side is constant."""
    a, b = (each - each.mean(dim=dim, keepdim=True) for each in (a, b))
    sizes = a.square().sum(dim) * b.square().sum(dim)
    return (a * b).sum(dim) / (sizes + torch.finfo(sizes.dtype).tiny).sqrt()
