"""Measurements on logits: pure functions, one number per example out."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def is_error(
    logits: Float[Tensor, "batch classes"], hard_targets: Int[Tensor, " batch"]
) -> Bool[Tensor, " batch"]:
    """Tell for each example whether the most probable class is a wrong one.

    Args:
        logits: Scores before the softmax, shape `[batch, classes]`. A row with a NaN is an error.
        hard_targets: True class indices, shape `[batch]`.

    Example:
        >>> is_error(torch.tensor([[2.0, 1.0], [2.0, 1.0]]), torch.tensor([0, 1]))
        tensor([False,  True])
    """
    wrong: Tensor = logits.argmax(dim=-1) != hard_targets
    return wrong | logits.isnan().any(dim=-1)


def negative_log_likelihood(
    logits: Float[Tensor, "batch classes"], hard_targets: Int[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """Return −log q of the true class, in nats, computed in float64.

    Args:
        logits: Scores before the softmax, shape `[batch, classes]`.
        hard_targets: True class indices, shape `[batch]`.

    Example:
        >>> negative_log_likelihood(torch.zeros(1, 2), torch.tensor([1]))
        tensor([0.6931], dtype=torch.float64)
    """
    log_q = torch.log_softmax(logits.double(), dim=-1)
    return -log_q.gather(-1, hard_targets.unsqueeze(-1)).squeeze(-1)


def squared_error(
    logits: Float[Tensor, "batch classes"], hard_targets: Int[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """Return the squared distance of the probabilities from the truth, in 0..2, in float64.

    Its mean is the Brier score, as Brier defined it for several classes.

    Example:
        >>> squared_error(torch.zeros(1, 2), torch.tensor([1]))
        tensor([0.5000], dtype=torch.float64)

    Source: Brier (1950), "Verification of forecasts expressed in terms of probability".
    """
    probabilities = torch.softmax(logits.double(), dim=-1)
    of_truth = probabilities.gather(-1, hard_targets.unsqueeze(-1)).squeeze(-1)
    return (probabilities**2).sum(dim=-1) - 2 * of_truth + 1


def kl_divergence(
    logits: Float[Tensor, "batch classes"], teacher_logits: Float[Tensor, "batch classes"]
) -> Float[Tensor, " batch"]:
    """Return KL(teacher ‖ student) at temperature 1, in nats, in float64.

    It is infinite where the student gives no probability to what the teacher thinks possible.

    Example:
        >>> kl_divergence(torch.zeros(1, 2), torch.tensor([[0.0, -torch.inf]]))
        tensor([0.6931], dtype=torch.float64)
    """
    log_q = torch.log_softmax(logits.double(), dim=-1)
    log_p = torch.log_softmax(teacher_logits.double(), dim=-1)
    p = log_p.exp()
    terms = torch.where(p == 0, 0.0, p * (log_p - log_q))
    return terms.sum(dim=-1)


def mcnemar_p_value(only_first: int, only_second: int) -> float:
    """Return the two-sided p-value of the exact McNemar test, for two networks on one set.

    If they were alike, each example that only one of them gets right would be the first one's or
    the second one's as a fair coin falls.

    Args:
        only_first: Examples that only the first network gets right (or only it gets wrong).
        only_second: Those of the second.

    Example:
        >>> mcnemar_p_value(2, 12), mcnemar_p_value(0, 0)
        (0.012939453125, 1.0)

    Source: McNemar (1947), "Note on the sampling error of the difference between correlated
    proportions or percentages". The example's numbers are those of Armitage & Berry (1994), p. 127,
    with Liddell's exact test.
    """
    from scipy.stats import binomtest  # here: importing it takes a second

    discordant = only_first + only_second
    return float(binomtest(only_first, discordant).pvalue) if discordant else 1.0
