"""Inputs of `transformers` models that stand next to the one that a transfer set takes.

A transfer set has one tensor of inputs. If a teacher also takes token types, positions or a mask,
dropping them changes its answers; so they are refused, unless the caller ignores them explicitly.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attar.errors import DataError

MASK, TYPES = "attention_mask", "token_type_ids"
_OTHERS = """
    audio_attention_mask audio_input_features bbox decoder_attention_mask decoder_input_ids
    decoder_inputs_embeds encoder_outputs entity_attention_mask entity_ids entity_position_ids
    entity_token_type_ids flattened_patches global_attention_mask image_attention_mask
    image_grid_thw image_pixel_values image_position_ids image_sizes input_features
    input_features_mask input_ids input_values inputs_embeds langs padding_mask perm_mask
    pixel_attention_mask pixel_mask pixel_values pixel_values_videos position_ids target_mapping
    video_grid_thw video_position_ids visual_attention_mask visual_embeds visual_feats visual_pos
    visual_token_type_ids xpath_subs_seq xpath_tags_seq
"""
_TAKEN = "which models of transformers take"
MODEL_INPUTS = frozenset([MASK, TYPES, *_OTHERS.split()])


def find_companions(beside: Iterable[object], source: str) -> set[str]:
    """Return those of `MASK` and `TYPES` that stand next to the inputs, to be checked by value.

    Raises:
        DataError: If there is any other input of a `transformers` model.
    """
    found = {name for name in beside if isinstance(name, str) and name in MODEL_INPUTS}
    if found - {MASK, TYPES}:
        raise several_tensors(sorted(found - {MASK, TYPES}), source, _TAKEN)
    return found


def check_types(types: Any, source: str) -> None:  # noqa: ANN401 (whatever NumPy makes an array of)
    """Raise `DataError` unless all token types are 0, the default of a model that gets none."""
    if np.any(np.asarray(types) != 0):
        raise several_tensors([TYPES], source, _TAKEN)


def check_mask(inputs: NDArray[Any], mask: NDArray[Any], padding: int | None, source: str) -> None:
    """Raise `DataError` unless the mask is 0 exactly at the padding token, and else 1.

    Args:
        inputs: Token ids `[rows, length]`, or inputs of any other kind.
        mask: The attention mask: in the shape of token ids, in any shape for other inputs.
        padding: The padding token; None if there is none.
        source: The data set or file, for the error.
    """
    if inputs.ndim != 2 or inputs.dtype.kind != "i":
        if not (mask != 0).all():
            raise DataError(
                f"expected {MASK} to be 1 everywhere in {source}, got 0; networks get a mask "
                "with token ids alone. Cut the inputs to one length, or leave the mask out with "
                f'ignore=["{MASK}"]'
            )
        return
    expected = np.ones(inputs.shape, bool) if padding is None else inputs != padding
    wrong = np.flatnonzero(((mask != 0) != expected).any(axis=1))
    if len(wrong):
        raise DataError(
            f"expected {MASK} to be 0 at the padding token {padding} alone, got another mask in "
            f"row {wrong[0]} of {source}; a network finds the mask by that token: give padding="
        )


def several_tensors(names: Sequence[Any], source: str, what: str) -> DataError:
    """Make the error about further tensors of inputs, which `what` describes."""
    told = ", ".join(repr(name) for name in names[:5])
    return DataError(
        f"expected one tensor of inputs for each example of {source}, got also {told}, {what}; "
        f"inputs of several tensors are not supported yet. If the teacher does not need them, "
        f"leave them out: ignore={list(names)}. If it does, leave them out here, compute the "
        "scores with the teacher yourself, and call attar.label(scores, transfer_set, folder)"
    )


def leave_out(names: Sequence[Any], ignore: Collection[Any], source: str) -> list[Any]:
    """Return the names without those to be ignored.

    Raises:
        DataError: If one of those is not there.
    """
    known, ignored = set(names), set(ignore)
    absent = [name for name in ignore if name not in known]
    if absent:
        told = ", ".join(repr(name) for name in names[:8])
        raise DataError(f"expected ignore= to name some of {told} of {source}, got {absent[0]!r}")
    return [name for name in names if name not in ignored]
