"""The transfer set: examples in memory, answered a batch at a time, plain or as a seeded view."""

import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int64, Shaped
from numpy.typing import NDArray
from torch import Tensor

from attar.data.checks import (
    TOKEN_DTYPES,
    check_finite,
    check_indices,
    check_targets,
    find_labeled,
    name_classes,
    name_features,
    rows_per_chunk,
    to_inputs,
    to_targets,
)
from attar.data.number_columns import PandasObject, read_pandas
from attar.errors import DataError, ShapeError

ViewFn = Callable[[Tensor, Tensor, int], Tensor]  # stored inputs, example ids, view -> inputs

CHUNK_BYTES = 2**24  # what is read at once where the whole set is gone through


@dataclass(frozen=True, slots=True)
class Batch:
    """Some examples of a transfer set, ready for a network."""

    # float32, or float64 if the set was given so; token ids are int64
    inputs: Float[Tensor, "batch *shape"] | Int64[Tensor, "batch *shape"]
    hard_targets: Int64[Tensor, " batch"]  # -1 where there is none
    indices: Int64[Tensor, " batch"]  # positions in the transfer set
    view: int = 0  # which view of the examples these are

    def to(self, device: torch.device) -> "Batch":
        """Move the tensors to a device; return itself if they are there."""
        if self.inputs.device == device:
            return self
        return Batch(
            self.inputs.to(device),
            self.hard_targets.to(device),
            self.indices.to(device),
            self.view,
        )


class TransferSet:
    """Inputs on which a student sees soft targets, with hard targets for some or all of them.

    The inputs stay as they are given, without a copy where that is possible. A batch of uint8
    inputs is scaled to [0, 1] float32; float64 stays float64; all other floats become float32.

    Each example has an id, its position in the set that was constructed. A subset keeps the ids, so
    that in all subsets the same view of the same example has the same pixels.

    Args:
        inputs: Shape `[examples, *shape]`, uint8, floats or token ids, all finite. Don't change it
            afterwards. A pandas DataFrame of numbers becomes float32 `[examples, columns]`.
        hard_targets: Class indices `[examples]`, from 0, any integer type; -1 where there is none.
        class_names: One for each class, no two alike; by default "0", "1" and so on.
        classes: How many classes there are; by default as many as there are `class_names`, or
            else one more than the largest hard target.
        views: Makes view 1 and above out of stored inputs, example ids and the view's number. It
            must keep shape and type. View 0 is the plain example and does not call it.
        feature_names: Names of the columns of inputs `[examples, columns]`, all different; by
            default those of a DataFrame. The fingerprint does not depend on them.

    Raises:
        DataError: If the set is empty, has inputs that are not finite or of the wrong type, or
            hard targets that are no class; or if the classes are unknown or contradict each other.
        ShapeError: If there is not one hard target for each example.

    Example:
        >>> pixels = torch.tensor([[0, 255], [51, 102]], dtype=torch.uint8)
        >>> transfer = TransferSet(pixels, torch.tensor([1, -1]), class_names=["cat", "dog"])
        >>> transfer.batch(torch.tensor([1, 0])).inputs
        tensor([[0.2000, 0.4000],
                [0.0000, 1.0000]])
    """

    def __init__(
        self,
        inputs: Tensor | NDArray[Any] | PandasObject,
        hard_targets: Tensor | NDArray[Any] | PandasObject | None = None,
        *,
        class_names: Sequence[str] | None = None,
        classes: int | None = None,
        views: ViewFn | None = None,
        feature_names: Sequence[str] | None = None,
    ) -> None:
        """Check all of it, once."""
        values, targets, columns = read_pandas(inputs, hard_targets)
        if columns is not None and feature_names is not None:
            raise DataError(
                "expected no feature_names beside a DataFrame, got some; rename its columns"
            )
        stored = to_inputs(values)
        targets = to_targets(targets, stored)
        self._class_names = name_classes(targets, class_names, classes)
        check_targets(targets, len(self._class_names))
        check_finite(stored, CHUNK_BYTES)
        self._feature_names = name_features(
            columns if feature_names is None else feature_names, stored
        )
        self._stored = stored  # of this set or of the one that it is a subset of
        self._stored_targets = targets
        self._ids: Tensor | None = None  # rows of the stored tensors; None: all of them
        self._views = views

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self._class_names)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each class."""
        return self._class_names

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        """The names of the columns of inputs `[examples, columns]`, if they are known."""
        return self._feature_names

    @property
    def views(self) -> ViewFn | None:
        """What makes view 1 and above, if anything does."""
        return self._views

    @property
    def inputs(self) -> Shaped[Tensor, "examples *shape"]:
        """The inputs as stored, not scaled; of a subset, a copy."""
        return self._stored if self._ids is None else self._stored.index_select(0, self._ids)

    @property
    def hard_targets(self) -> Int64[Tensor, " examples"]:
        """The hard targets, -1 where there is none; of a subset, a copy."""
        return self._stored_targets if self._ids is None else self._stored_targets[self._ids]

    @property
    def example_ids(self) -> Int64[Tensor, " examples"]:
        """Where each example stood in the set that was constructed."""
        if self._ids is None:
            return torch.arange(len(self._stored), device=self._stored.device)
        return self._ids

    @property
    def memory_bytes(self) -> int:
        """How much memory the stored inputs take."""
        return self._stored.numel() * self._stored.element_size()

    def __len__(self) -> int:
        return len(self._stored if self._ids is None else self._ids)

    def __repr__(self) -> str:
        dtype = str(self._stored.dtype).removeprefix("torch.")
        shape = [len(self), *self._stored.shape[1:]]
        return f"TransferSet({shape} {dtype}, {self.classes} classes, views={self._views})"

    def batch(self, indices: Int64[Tensor, " batch"], view: int = 0) -> Batch:
        """Answer some examples, in the order of the indices.

        Args:
            indices: Positions in this set, 0 or more; one may come twice.
            view: Which view of them; 0 is the plain example.

        Raises:
            DataError: If an index or the view is out of range, or the set has no views.
            ShapeError: If the set's views change the shape or type of the inputs.
        """
        indices = check_indices(indices, len(self)).to(self._stored.device)
        ids = indices if self._ids is None else self._ids[indices]
        inputs = self._stored.index_select(0, ids)
        if view != 0:
            inputs = see(self._views, inputs, ids, view)
        return Batch(scale(inputs), self._stored_targets[ids], indices, view)

    def shuffle(self, generator: torch.Generator) -> Iterator[Int64[Tensor, " examples"]]:
        """Yield the numbers of all examples, in a random order."""
        yield torch.randperm(len(self), generator=generator, device=generator.device)

    def __copy__(self) -> "TransferSet":
        """Share the tensors as they are."""
        other = object.__new__(type(self))
        other.__dict__ |= self.__dict__
        return other

    def __getstate__(self) -> dict[str, Any]:
        """Hold tensors as NumPy bytes, which processes on one machine may share without a copy."""
        tensors = {name: self.__dict__[name] for name in ("_stored", "_stored_targets", "_ids")}
        packed = {
            name: (to_bytes(tensor).obj, tensor.dtype, tuple(tensor.shape))
            for name, tensor in tensors.items()
            if tensor is not None
        }
        return self.__dict__ | packed

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make tensors of the bytes again."""
        self.__dict__ |= state
        for name in ("_stored", "_stored_targets", "_ids"):
            if state[name] is not None:
                content, dtype, shape = state[name]
                self.__dict__[name] = to_inputs(content).view(dtype).reshape(shape)

    def subset(self, indices: Int64[Tensor, " kept"]) -> "TransferSet":
        """Choose some examples; classes, views and example ids stay, and no input is copied.

        Raises:
            DataError: If there is no index, or one is out of range.
        """
        subset = copy.copy(self)
        subset._ids = self.example_ids[check_indices(indices, len(self)).to(self._stored.device)]
        subset.__dict__.pop("_fingerprint", None)
        return subset

    def labeled(self) -> "TransferSet":
        """Choose the examples with a hard target; the set itself, if all have one.

        Raises:
            DataError: If none has.
        """
        return self if (kept := find_labeled(self.hard_targets)) is None else self.subset(kept)

    def without_hard_targets(self) -> "TransferSet":
        """Leave the hard targets out: each becomes -1; nothing else is changed or copied."""
        changed = copy.copy(self)
        changed._stored_targets = torch.full_like(self._stored_targets, -1)
        changed.__dict__.pop("_fingerprint", None)
        return changed

    def with_views(self, views: ViewFn | None) -> "TransferSet":
        """Replace what makes view 1 and above; nothing is copied."""
        changed = copy.copy(self)
        changed._views = views
        return changed

    def fingerprint(self) -> str:
        """Hash the set by SHA-256: its inputs with shape and type, hard targets and class names.

        The example ids count too, unless they are 0, 1, 2 and so on, because the pixels of a view
        hang on them; `views` does not. Computed once, at a few hundred megabytes a second or more.
        """
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        ids = self.example_ids
        renumbered = not torch.equal(ids, torch.arange(len(ids), device=ids.device))
        shape = [len(self), *self._stored.shape[1:]]
        header = header_of(shape, self._stored.dtype, self.class_names, renumbered=renumbered)
        sha256 = hashlib.sha256(json.dumps(header).encode())
        for rows in ids.split(rows_per_chunk(self._stored, CHUNK_BYTES)):
            sha256.update(to_bytes(self._stored.index_select(0, rows)))
        sha256.update(to_bytes(self.hard_targets))
        if renumbered:
            sha256.update(to_bytes(ids))
        return sha256.hexdigest()


def see(views: ViewFn | None, inputs: Tensor, ids: Tensor, view: int) -> Tensor:
    """Make a view of stored inputs; raise `DataError` if there is no such view."""
    if view < 0:
        raise DataError(f"expected view >= 0, got {view}; view 0 is the plain example")
    if views is None:
        raise DataError(
            f"expected a set with views, got view {view} of one without; "
            "try with_views(Jitter(...)), or view 0"
        )
    seen = views(inputs, ids, view)
    if seen.shape != inputs.shape or seen.dtype != inputs.dtype:
        raise ShapeError(
            f"expected views to keep {list(inputs.shape)} {inputs.dtype}, "
            f"got {list(seen.shape)} {seen.dtype} from {views}"
        )
    return seen


def header_of(
    shape: list[int],
    dtype: torch.dtype,
    class_names: tuple[str, ...],
    *,
    renumbered: bool = False,
) -> dict[str, object]:
    """Say what a fingerprint begins with."""
    return {
        "shape": shape,
        "dtype": str(dtype),
        "class_names": class_names,
        "renumbered": renumbered,
    }


def scale(inputs: Tensor) -> Tensor:
    """Turn stored inputs into what networks take."""
    if inputs.dtype == torch.uint8:
        return inputs.float().div_(255)
    if inputs.dtype in TOKEN_DTYPES:
        return inputs.long()
    return inputs if inputs.dtype == torch.float64 else inputs.float()


def to_bytes(tensor: Tensor) -> memoryview:
    """Show the bytes of a tensor."""
    return tensor.contiguous().cpu().view(torch.uint8).numpy().data
