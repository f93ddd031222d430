"""Frames of speech as a transfer set: windows are gathered by the batch, never all at once."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from attar.data import Batch, TransferSet, ViewFn, draw_integers, draw_uniform
from attar.data.checks import check_indices
from attar.data.transfer_set import see
from attar.errors import AttarError, ShapeError, check_not_negative
from attar.speech.packed import PackedFrames


class FrameSet(TransferSet):
    """A transfer set whose example is a frame: its window of context in, its tied state out.

    Args:
        packed: The frames.
        states: The tied state of each: [frames]; -1 where it is not known.
        classes: How many tied states there are; by default as many as have a name.
        class_names: What they are called; by default "0", "1" and so on.
        views: Makes view 1 and above out of windows [batch, inputs].

    Raises:
        DataError: If a frame is not finite, or a state is out of range.
        ShapeError: If there is not one state for each frame.
    """

    def __init__(
        self,
        packed: PackedFrames,
        states: Int64[Tensor, " frames"],
        *,
        classes: int | None = None,
        class_names: Sequence[str] | None = None,
        views: ViewFn | None = None,
    ) -> None:
        """Check all of it, once."""
        super().__init__(
            packed.frames, states, classes=classes, class_names=class_names, views=views
        )
        self.packed = packed

    def batch(self, indices: Int64[Tensor, " batch"], view: int = 0) -> Batch:
        """Answer the windows of some frames; see `TransferSet.batch`."""
        indices = check_indices(indices, len(self))
        ids = self.example_ids[indices] if self._ids is not None else indices
        windows = self.packed.windows(ids)  # [batch, inputs]
        if view != 0:
            windows = see(self.views, windows, ids, view)
        return Batch(windows, self._stored_targets[ids], indices, view)

    @cached_property
    def _fingerprint(self) -> str:
        """Hash the windows' shape and all frames too, as a subset's windows see its neighbors."""
        of_rows: Any = vars(TransferSet)["_fingerprint"]  # the property, to ask it of this set
        sha256 = hashlib.sha256(of_rows.func(self).encode())
        sha256.update(self.packed.frames.contiguous().view(torch.uint8).numpy().data)
        sha256.update(self.packed.offsets.numpy().tobytes())
        sha256.update(str(self.packed.window_dims).encode())
        return sha256.hexdigest()


@dataclass(frozen=True, slots=True)
class Distort:
    """Changes windows as another voice, room or noise might: a seeded view.

    Each window gets a constant added to every feature, as a microphone or a speaker does to all
    frames alike; then a run of frames and a band of features are put to their mean, which is 0.

    Args:
        dims: Features of a frame.
        shift: Standard deviation of the constants, in those of the features.
        frames: The longest run of frames that is masked.
        band: The widest band of features that is masked.
        seed: Another seed gives other distortions.

    Raises:
        AttarError: If an argument is out of range.

    Source of the masks: Park et al. (2019), "SpecAugment".
    """

    dims: int
    shift: float = 0.0
    frames: int = 0
    band: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_not_negative(shift=self.shift, frames=self.frames, band=self.band)
        if not 0 <= self.band <= self.dims:
            raise AttarError(f"expected a band of 0..{self.dims} features, got {self.band}")

    def __call__(
        self, windows: Float[Tensor, "batch inputs"], ids: Int64[Tensor, " batch"], view: int
    ) -> Float[Tensor, "batch inputs"]:
        """Change a batch of windows."""
        if windows.shape[1] % self.dims:
            found = f"expected windows of frames of {self.dims} features"
            raise ShapeError(f"{found}, got {list(windows.shape)}")
        changed = windows.view(len(windows), -1, self.dims).clone()  # [batch, frames, dims]
        if self.shift:
            # A sum of two uniform numbers: near enough to normal, and without tails.
            uniform = draw_uniform(self.seed, view, ids, draws=2 * self.dims).float()
            near_normal = uniform.view(len(ids), 2, self.dims).sum(1, keepdim=True) - 1
            changed += near_normal * (self.shift * 6**0.5)
        for axis, longest in ((1, self.frames), (2, self.band)):
            if longest:
                self._mask(changed, ids, view, axis, longest)
        return changed.view_as(windows)

    def _mask(self, windows: Tensor, ids: Tensor, view: int, axis: int, longest: int) -> None:
        size = windows.shape[axis]
        seed = self.seed + axis  # streams of their own
        length = draw_integers(seed, view, ids, draws=1, low=0, high=min(longest, size))
        place = draw_uniform(seed, view, ids, draws=2)[:, 1:]  # [batch, 1]
        start = (place * (size - length + 1)).long()
        steps = torch.arange(size)
        inside = (steps >= start) & (steps < start + length)  # [batch, size]
        windows.masked_fill_(inside.unsqueeze(3 - axis), 0.0)
