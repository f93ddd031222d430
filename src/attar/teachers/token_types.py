"""Token types mark the texts of a pair. A transfer set does not contain them."""

import warnings

import torch
from torch import Tensor

_FEWEST_ROWS = 4  # texts needed to detect pairs


def warn_of_pairs(ids: Tensor, mask: Tensor, name: str) -> None:
    """Warn if all texts end with the same token and also contain it earlier, as pairs of texts do.

    A model that was trained on pairs needs token types, which a transfer set cannot contain.
    """
    if ids.ndim != 2:
        return
    rows = mask.bool().any(dim=1)  # [batch]
    ids, mask = ids[rows], mask[rows]
    if len(ids) < _FEWEST_ROWS:
        return
    places = torch.arange(ids.shape[1], device=ids.device)
    last = ids.gather(1, (mask * places).amax(dim=1, keepdim=True))  # [batch, 1]
    often = ((ids == last) & mask.bool()).sum(dim=1)  # [batch]
    if (last == last[0]).all() and (often >= 2).all():
        warnings.warn(
            f"the token ids look like pairs of texts, separated by the token {int(last[0])}, but "
            f"{name} gets only token types of 0; if it was trained with other token types, compute "
            "its logits yourself and pass them to attar.label",
            stacklevel=2,
        )
