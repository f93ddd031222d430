"""A specialist's view of the classes: its own, and one dustbin class for all others."""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from attar.errors import AttarError, DataError, ShapeError, check_not_negative, check_positive
from attar.losses import soft_cross_entropy
from attar.specialists.grouping import check_groups

PerClass = Float[Tensor, "*batch classes"]


def correct_dustbin(logits: PerClass, *, oversampling: float) -> PerClass:
    """Undo the class imbalance that a specialist was trained with.

    Args:
        logits: Specialist logits, dustbin class last, shape `[..., classes]`, in nats.
        oversampling: How many times too often the special classes were drawn, > 0.

    Returns:
        Corrected logits, same shape.

    Raises:
        AttarError: If `oversampling` is not positive.

    Example:
        >>> correct_dustbin(torch.zeros(1, 2), oversampling=2.0)
        tensor([[0.0000, 0.6931]])

    Source: Hinton et al. (2015), sec. 5.2, last paragraph.
    """
    check_positive(oversampling=oversampling)
    shift = torch.zeros(logits.shape[-1], dtype=logits.dtype)
    shift[-1] = torch.tensor(oversampling).log()
    return logits + shift.to(logits.device)


def measure_oversampling(*, special: int, examples: int, special_share: float) -> float:
    """Tell how many times too often the special classes are drawn, against the others.

    Args:
        special: Examples of special classes in the training set.
        examples: All examples in the training set.
        special_share: Which part of a batch is special.

    Raises:
        DataError: If there is no special example, or no other one.

    Example:
        >>> measure_oversampling(special=2, examples=100, special_share=0.5)  # 50 : 50, not 2 : 98
        49.0
    """
    _check_share(special_share)
    if not 0 < special < examples:
        raise DataError(
            f"expected some examples of a specialist's classes and some others, "
            f"got {special} of {examples}; choose classes that the examples have"
        )
    return special_share / (1 - special_share) * (examples - special) / special


def to_special_targets(
    hard_targets: Int64[Tensor, " batch"], classes: Int64[Tensor, " special"]
) -> Int64[Tensor, " batch"]:
    """Translate hard targets into a specialist's: the places of its classes, or the dustbin.

    Example:
        >>> to_special_targets(torch.tensor([7, 3, 4]), torch.tensor([3, 7]))
        tensor([1, 0, 2])
    """
    places = torch.searchsorted(classes, hard_targets).clamp(max=len(classes) - 1)
    return torch.where(classes[places] == hard_targets, places, len(classes))


def to_special_probabilities(
    probabilities: PerClass, classes: Int64[Tensor, " special"]
) -> Float[Tensor, "*batch outputs"]:
    """Sum up the probabilities of all classes that are not special into a dustbin class.

    They are summed themselves, as 1 less the special ones' is nothing but rounding where these have
    almost all.

    Example:
        >>> to_special_probabilities(torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.tensor([1, 3]))
        tensor([0.2000, 0.4000, 0.4000])
    """
    others = probabilities.index_fill(-1, classes, 0.0)
    return torch.cat([probabilities[..., classes], others.sum(dim=-1, keepdim=True)], dim=-1)


def log_sum_others(logits: PerClass, classes: Int64[Tensor, " special"]) -> Float[Tensor, "*batch"]:
    """Return the log-sum-exp of the logits of all classes that are not special.

    Example:
        >>> log_sum_others(torch.tensor([[0.0, 50.0, 2.0, 3.0]]), torch.tensor([1, 3]))
        tensor([2.1269])
    """
    return logits.index_fill(-1, classes, -torch.inf).logsumexp(dim=-1)


def draw_examples(
    is_special: Bool[Tensor, " examples"], *, special_share: float, generator: torch.Generator
) -> Int64[Tensor, " drawn"]:
    """Draw an epoch: every special example, and at random as many others as the share asks for.

    Args:
        is_special: Of each example, whether it is of a special class.
        special_share: Which part of the epoch is special; the paper's is a half.
        generator: Draws the others, and the order.

    Raises:
        DataError: If there is no special example, or no other one.

    Source: Hinton et al. (2015), sec. 5.2.
    """
    _check_share(special_share)
    special, others = is_special.nonzero().squeeze(1), (~is_special).nonzero().squeeze(1)
    if not len(special) or not len(others):
        raise DataError(
            "expected some examples of a specialist's classes and some others, "
            f"got {len(special)} and {len(others)}; choose classes that the examples have"
        )
    wanted = round(len(special) * (1 - special_share) / special_share)
    chosen = others[torch.randperm(len(others), generator=generator)[: max(1, wanted)]]
    drawn = torch.cat([special, chosen])
    return drawn[torch.randperm(len(drawn), generator=generator)]


def specialist_loss(
    logits: Float[Tensor, "batch outputs"],
    special_targets: Int64[Tensor, " batch"],
    soft_targets: Float[Tensor, "batch outputs"],
    *,
    oversampling: float,
    temperature: float,
    soft_weight: float,
    hard_weight: float,
) -> Float[Tensor, " batch"]:
    """Weigh what is true against what the generalist says of the classes that are not special.

    Every example has its hard target. One of the dustbin also has soft targets: the generalist's
    probabilities, all that is not special summed up. They keep the specialist, which has few
    examples for its many weights, from forgetting what the generalist knows of the other classes.
    The generalist knows how rare the special classes are, so its probabilities are held against
    the specialist's with the dustbin corrected.

    Args:
        logits: The specialist's, dustbin class last, in nats, not corrected.
        special_targets: As `to_special_targets` makes them.
        soft_targets: The generalist's at the temperature, as `to_special_probabilities` makes them.
        oversampling: How many times too often the special classes are drawn.
        temperature: T > 0 of the soft term.
        soft_weight: Factor of T² times the soft cross-entropy, >= 0.
        hard_weight: Factor of the hard cross-entropy, >= 0.

    Raises:
        AttarError: If an option is out of range, or both weights are 0.

    Source: Hinton et al. (2015), sec. 6.1.
    """
    check_not_negative(soft_weight=soft_weight, hard_weight=hard_weight)
    if soft_weight == 0 and hard_weight == 0:
        raise AttarError("expected soft_weight > 0 or hard_weight > 0, got 0 for both; raise one")
    loss = hard_weight * nn.functional.cross_entropy(logits, special_targets, reduction="none")
    if soft_weight == 0:
        return loss
    natural = correct_dustbin(logits, oversampling=oversampling)
    soft = soft_cross_entropy(natural, soft_targets, temperature=temperature)
    is_dustbin = special_targets == logits.shape[1] - 1
    # Soft-target gradients shrink as 1/T²; T² brings them back (Hinton et al. 2015, sec. 2).
    return loss + torch.where(is_dustbin, soft_weight * temperature**2 * soft, 0.0)


def raise_dustbin(
    outputs: Float[Tensor, "batch outputs"], log_others: Float[Tensor, " batch"]
) -> Float[Tensor, "batch outputs"]:
    """Give a specialist's dustbin the generalist's level: what that says of all other classes.

    A specialist's last output is what it adds to the logarithm of the sum of the generalist's
    exponentials over all classes that are not its own. So a dustbin output of 0 is exactly the
    generalist's answer, which one unit could not learn: what 14,000 logits amount to is far from
    linear in the features.

    Args:
        outputs: The specialist's, dustbin last.
        log_others: Of the generalist's logits, see `log_sum_others`.

    Returns:
        The specialist's logits, on the scale of the generalist's.

    Example:
        >>> v = torch.tensor([[0.0, 1.0, 2.0, 3.0]])  # 1 and 3 are special
        >>> raise_dustbin(torch.tensor([[1.0, 3.0, 0.0]]), log_sum_others(v, torch.tensor([1, 3])))
        tensor([[1.0000, 3.0000, 2.1269]])
    """
    return torch.cat([outputs[:, :-1], outputs[:, -1:] + log_others.unsqueeze(1)], dim=1)


def narrow_output(
    output: nn.Linear, classes: Int64[Tensor, " special"], *, oversampling: float = 1.0
) -> nn.Linear:
    """Make a specialist's output layer that says what the generalist says.

    Special classes keep their weights. The dustbin has none, as it starts at the generalist's level
    (see `raise_dustbin`); its bias takes the oversampling into account, in the training that is to
    come, which `correct_dustbin` takes out again.

    Args:
        output: The generalist's output layer.
        classes: The special ones, ascending.
        oversampling: How many times too often they will be drawn.

    Raises:
        ShapeError: If no class is left for the dustbin.
        AttarError: If the classes are not two or more of the generalist's, each there once.

    Source: Hinton et al. (2015), sec. 5.2: specialists start from the generalist's weights.
    """
    if len(classes) >= output.out_features:
        raise ShapeError(f"expected fewer special classes than all {output.out_features}")
    check_groups([classes], output.out_features)
    check_positive(oversampling=oversampling)
    with torch.random.fork_rng(devices=[]):  # the layer's own draws, overwritten below
        narrow = nn.Linear(output.in_features, len(classes) + 1)
    with torch.no_grad():
        narrow.weight.zero_()
        narrow.bias.zero_()
        narrow.weight[:-1] = output.weight[classes]
        if output.bias is not None:
            narrow.bias[:-1] = output.bias[classes]
        narrow.bias[-1] = -torch.tensor(oversampling).log()
    return narrow


def _check_share(special_share: float) -> None:
    if not 0 < special_share < 1:
        raise AttarError(f"expected special_share above 0 and below 1, got {special_share}")
