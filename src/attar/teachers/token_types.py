"""Token types: which of a pair of texts a token belongs to. A transfer set holds none of them."""

import warnings

import torch
from torch import Tensor

_FEWEST_ROWS = 4  # in which a pattern of pairs is no coincidence


def warn_of_pairs(ids: Tensor, mask: Tensor, name: str) -> None:
    """Warn if each text ends with one token and has it inside, too, as pairs of texts have.

    A model that was trained on pairs needs token types, which a transfer set cannot hold.
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
            f"{name} gets token types of 0 everywhere; if it was trained with others, compute its "
            "logits yourself and give these to attar.label",
            stacklevel=2,
        )
