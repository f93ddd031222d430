"""Transfer sets out of data sets of torch and of Hugging Face."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from attar.data.checks import TOKEN_DTYPES
from attar.data.columns import convert_table
from attar.data.companions import (
    MASK,
    MODEL_INPUTS,
    TYPES,
    check_mask,
    check_types,
    find_companions,
    leave_out,
    several_tensors,
)
from attar.data.labels import make_labeled_set
from attar.data.transfer_set import TransferSet
from attar.errors import DataError

_CHUNK = 64  # items that a worker makes at once


def from_dataset(
    dataset: Any,  # noqa: ANN401 (of any library)
    *,
    target: str | int | None,
    inputs: str | int | Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    classes: int | None = None,
    padding: int | None = None,
    ignore: str | int | Sequence[str | int] = (),
    workers: int = 0,
) -> TransferSet:
    """Make a transfer set of a data set: each item is asked for once, and kept in memory.

    Items must be plain ones, without random augmentation, which belongs to the views.

    Args:
        dataset: One of Hugging Face `datasets` (a single split), whose columns are taken as
            `read_table` takes them, and a column of images as bytes; or one of torch, with a length
            and items `(inputs, target)`, mappings, or inputs alone.
        target: Where an item's hard target stands: 1 in a tuple, or a key or column; None if there
            are no hard targets.
        inputs: Where its inputs stand: by default 0 in a tuple, all other columns of a Hugging Face
            data set, and the item itself if it is a tensor.
        class_names: Those of the classes, in order; by default those that the data set knows.
        classes: How many classes there are.
        padding: The padding token. Shorter lists in columns of Hugging Face are filled up with it;
            items of torch have one length. An `attention_mask` must be 0 exactly there.
        ignore: Columns, keys or positions in a tuple to leave out. Required for further tensors in
            a tuple, and next to token ids for further inputs of `transformers` models, such as
            `token_type_ids` that are not all 0.
        workers: How many processes make the items of a torch data set, or decode images.

    Raises:
        DataError: If the data set is empty, endless, random or ragged, if its items do not fit, or
            have inputs of several tensors.

    Example:
        >>> from torch.utils.data import TensorDataset
        >>> from_dataset(TensorDataset(torch.zeros(3, 2), torch.tensor([0, 1, 1])), target=1)
        TransferSet([3, 2] float32, 2 classes, views=None)
    """
    if isinstance(dataset, Mapping):
        raise DataError(f"expected one split, got {sorted(map(str, dataset))}; choose one of them")
    name = f"the {type(dataset).__name__}"
    if isinstance(dataset, DataLoader):
        raise DataError(f"expected a data set, got {name}; give its data set: loader.dataset")
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise DataError(
            f"expected a data set with a length and items by index, got {name}; "
            "if it is a stream, take a part of it and make a TransferSet of that"
        )
    if len(dataset) == 0:
        raise DataError(f"expected one item or more in {name}, got none")
    ignored = [ignore] if isinstance(ignore, str | int) else list(ignore)
    if hasattr(dataset, "features") and hasattr(dataset, "with_format"):
        return _convert(
            dataset, inputs, target, class_names, classes, padding, ignored, workers, name
        )
    places = _Places(inputs, target, ignored)
    return _collect(dataset, places, class_names, classes, padding, workers, name)


def _convert(
    dataset: Any,  # noqa: ANN401
    inputs: Any,  # noqa: ANN401
    target: Any,  # noqa: ANN401
    class_names: Sequence[str] | None,
    classes: int | None,
    padding: int | None,
    ignored: list[Any],
    workers: int,
    name: str,
) -> TransferSet:
    """Take a Hugging Face data set as the Arrow table that it is, unless it has images."""
    features = dataset.features
    if class_names is None and classes is None:
        class_names = getattr(features.get(target), "names", None)  # of a ClassLabel
    chosen = inputs
    if inputs is None:
        chosen = [column for column in leave_out(list(features), ignored, name) if column != target]
    if not isinstance(chosen, str) and len(chosen) == 1:
        chosen = chosen[0]
    if isinstance(chosen, str) and type(features.get(chosen)).__name__ == "Image":
        plain = dataset.with_format(None)
        places = _Places(chosen, target, ignored)
        return _collect(plain, places, class_names, classes, padding, workers, name)
    return convert_table(
        dataset.with_format("arrow")[:],
        inputs=inputs,
        target=target,
        class_names=class_names,
        classes=classes,
        padding=padding,
        ignore=ignored,
        source=name,
    )


class _Places:
    """Where inputs and hard target stand in an item; checks that they are there."""

    def __init__(self, inputs: Any, target: Any, ignored: Sequence[Any]) -> None:  # noqa: ANN401
        self.inputs, self.target, self.ignored = inputs, target, ignored

    def split(self, item: Any, index: int, name: str) -> tuple[Any, Any]:  # noqa: ANN401
        is_bare = not isinstance(item, Sequence | Mapping)
        if self.inputs is None and isinstance(item, Mapping):
            raise DataError(f"expected inputs= as one of the keys {list(item)} of {name}, got none")
        try:
            if is_bare and self.target is None and self.inputs is None:
                return item, None
            place = 0 if self.inputs is None else self.inputs
            return item[place], None if self.target is None else item[self.target]
        except (KeyError, IndexError, TypeError) as error:
            kind = f"keys {list(item)}" if isinstance(item, Mapping) else type(item).__name__
            raise DataError(
                f"expected inputs at {self.inputs!r} and the target at {self.target!r}, "
                f"got {kind} as item {index} of {name}; give inputs= and target="
            ) from error

    def find_companions(self, item: Any, inputs: Tensor, name: str) -> set[str]:  # noqa: ANN401
        """Return those of `MASK` and `TYPES` that an item has, to be checked in every item.

        Raises:
            DataError: If a tuple has a further tensor, or a mapping a further input of a
                `transformers` model.
        """
        if not isinstance(item, Sequence | Mapping):
            return set()
        is_tuple = isinstance(item, Sequence)
        keys = leave_out(list(range(len(item)) if is_tuple else item), self.ignored, name)
        first = 0 if self.inputs is None else self.inputs
        if is_tuple:
            taken = {place % len(item) for place in (first, self.target) if place is not None}
            more = [place for place in keys if place not in taken and _is_tensor(item[place])]
            if more:
                raise several_tensors(more, name, f"in items of {len(item)} elements")
            return set()
        beside = [key for key in keys if key not in (first, self.target)]
        is_model_input = first in MODEL_INPUTS or inputs.dtype in TOKEN_DTYPES
        return find_companions(beside, name) if is_model_input else set()


def _is_tensor(value: Any) -> bool:  # noqa: ANN401
    """Tell whether this is an array, an image or a list of numbers: possibly a further input."""
    if isinstance(value, list | tuple):
        return len(value) > 0 and isinstance(value[0], int | float | list | tuple)
    return getattr(value, "ndim", 0) > 0 or (hasattr(value, "convert") and hasattr(value, "mode"))


def _collect(
    dataset: Any,  # noqa: ANN401
    places: _Places,
    class_names: Sequence[str] | None,
    classes: int | None,
    padding: int | None,
    workers: int,
    name: str,
) -> TransferSet:
    """Ask for each item, and put the inputs into one tensor."""
    first = _ask_twice(dataset, places, name)
    companions = places.find_companions(dataset[0], first, name)
    stored = first.new_empty(len(dataset), *first.shape)
    loader = DataLoader(
        dataset,
        batch_size=_CHUNK,
        collate_fn=list,
        num_workers=workers,
        generator=torch.Generator(),  # else it draws from torch's own
    )
    labels, masks = [], []
    items = (item for chunk in loader for item in chunk)
    for index, item in enumerate(items):
        values, label = places.split(item, index, name)
        tensor = _to_tensor(values, index, name)
        if tensor.shape != first.shape or tensor.dtype != first.dtype:
            raise DataError(
                f"expected inputs of one shape and type in {name}, got {_tell(first)} in item 0 "
                f"and {_tell(tensor)} in item {index}; resize, or pad them"
            )
        stored[index] = tensor
        if TYPES in companions:
            check_types(item.get(TYPES), name)
        if MASK in companions:
            masks.append(_to_tensor(item.get(MASK), index, name))
        labels.append(label.item() if hasattr(label, "item") else label)
    if masks:
        is_tokens = first.ndim == 1 and first.dtype in TOKEN_DTYPES
        shape = first.shape if is_tokens else masks[0].shape
        if any(mask.shape != shape for mask in masks):
            raise DataError(f"expected {MASK} of the shape {list(shape)} in all items of {name}")
        ids = stored.numpy() if is_tokens else np.empty(0)
        check_mask(ids, torch.stack(masks).numpy(), padding, name)
    if class_names is None and classes is None and places.target is not None:
        known = getattr(dataset, "classes", None)  # as torchvision names them
        class_names = known if isinstance(known, list) else None
    return make_labeled_set(
        stored,
        None if places.target is None else _to_labels(labels, name),
        class_names=class_names,
        classes=classes,
        source=f"{name}, target {places.target!r}",
    )


def _ask_twice(dataset: Any, places: _Places, name: str) -> Tensor:  # noqa: ANN401
    """Answer the inputs of item 0; raise `DataError` if they differ the second time."""
    first = _to_tensor(places.split(dataset[0], 0, name)[0], 0, name)
    again = _to_tensor(places.split(dataset[0], 0, name)[0], 0, name)
    if first.shape == again.shape and not torch.equal(first.nan_to_num(), again.nan_to_num()):
        raise DataError(
            f"expected plain items of {name}, got another item 0 when asked twice; leave out its "
            "random augmentation, and give the transfer set views"
        )
    return first


def _to_tensor(values: Any, index: int, name: str) -> Tensor:  # noqa: ANN401
    if isinstance(values, Tensor):
        return values.detach().cpu()
    if hasattr(values, "convert") and hasattr(values, "mode"):  # an image of Pillow
        plain = values if values.mode in ("L", "RGB") else values.convert("RGB")
        pixels = np.array(plain)  # [height, width] or [height, width, 3]
        return torch.from_numpy(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))
    try:
        return torch.from_numpy(np.array(values))
    except (TypeError, ValueError) as error:
        raise DataError(
            f"expected a tensor, an array, an image or numbers as the inputs of item {index} of "
            f"{name}, got {type(values).__name__}; convert them"
        ) from error


def _to_labels(labels: list[Any], name: str) -> Any:  # noqa: ANN401
    try:
        return pa.array(labels)
    except pa.ArrowException as error:
        kinds = sorted({type(label).__name__ for label in labels})
        raise DataError(
            f"expected hard targets of one kind, class indices or names, got {', '.join(kinds)} "
            f"in {name}"
        ) from error


def _tell(tensor: Tensor) -> str:
    return f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
