"""Find the logits in the output of a model."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from attar.errors import DataError


def find_logits(answer: object, name: str) -> Tensor:
    """Return the logits in the output of a model.

    They are the output itself if it is a tensor; its attribute `logits` (`transformers`,
    torchvision's named tuples); the value of the key `logits` of a mapping, or its only tensor; or
    the first item of a tuple or list. If another item of the tuple has the same shape, as with two
    heads, the output is ambiguous and refused.

    Args:
        answer: Output of the model.
        name: Name of the model in errors, such as "the student MyNet".

    Raises:
        DataError: If the output has no logits, or more than one candidate.

    Example:
        >>> import torch
        >>> find_logits((torch.zeros(2, 3), torch.zeros(2, 8)), "the student").shape
        torch.Size([2, 3])
    """
    if isinstance(answer, Tensor):
        return answer
    found = getattr(answer, "logits", None)
    if isinstance(found, Tensor):
        return found
    if isinstance(answer, Mapping):
        return _of_mapping(answer, name)
    if isinstance(answer, list | tuple):
        return _of_sequence(answer, name)
    raise DataError(
        f"expected a tensor [batch, classes] from {name}, got {type(answer).__name__}; "
        "return the logits from its forward method, or wrap it in a module that does"
    )


def _of_mapping(answer: Mapping[object, object], name: str) -> Tensor:
    tensors = {key: value for key, value in answer.items() if isinstance(value, Tensor)}
    if "logits" in tensors:
        return tensors["logits"]
    if len(tensors) == 1:
        return next(iter(tensors.values()))
    raise DataError(
        f"expected a key 'logits' in the output of {name}, got the keys {list(answer)}; "
        "wrap it in a module that returns the logits"
    )


def _of_sequence(answer: Sequence[object], name: str) -> Tensor:
    first = answer[0] if answer else None
    told = ", ".join(
        str(list(each.shape)) if isinstance(each, Tensor) else type(each).__name__
        for each in answer
    )
    if not isinstance(first, Tensor):
        raise DataError(
            f"expected the logits as the first item of the output of {name}, got ({told}); "
            "wrap it in a module that returns the logits"
        )
    if any(isinstance(each, Tensor) and each.shape == first.shape for each in answer[1:]):
        raise DataError(
            f"expected one tensor of logits from {name}, got several of the same shape ({told}); "
            "wrap it in a module that returns the logits to use, such as the mean of both heads"
        )
    return first
