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
