"""All frames of a corpus in one matrix, and windows of context gathered from it by the batch."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attar.errors import DataError

LEFT, RIGHT = 20, 5  # 26 frames, of which the 21st is predicted: Hinton et al. (2015), sec. 4


class PackedFrames:
    """Features of many utterances, one row a frame; a window of context is made when asked for.

    Args:
        features: Each utterance's, all with as many columns.
        left: How many frames before the predicted one a window has.
        right: How many after it.
        dtype: What they are kept as: float16 takes half the memory of float32.

    Raises:
        DataError: If there are no utterances.
    """

    def __init__(
        self,
        features: Sequence[Float[Tensor, "_ dims"]],
        *,
        left: int = LEFT,
        right: int = RIGHT,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Pack them."""
        if not features:
            raise DataError("expected at least one utterance, got none")
        lengths = torch.tensor([len(each) for each in features])  # [utterances]
        self.offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
        self.frames = torch.cat([each.to(dtype) for each in features])  # [frames, dims]
        first, last = self.offsets[:-1], self.offsets[1:] - 1
        # One entry a frame, so that a batch needs no search for the utterance of a frame.
        self._first = first.repeat_interleave(lengths).to(torch.int32)
        self._last = last.repeat_interleave(lengths).to(torch.int32)
        self._steps = torch.arange(-left, right + 1, dtype=torch.int32)

    def __len__(self) -> int:
        """How many frames there are."""
        return len(self.frames)

    @property
    def window_dims(self) -> int:
        """How many numbers a window has: a network's inputs."""
        return len(self._steps) * self.frames.shape[1]

    def windows(self, indices: Int[Tensor, " batch"]) -> Float[Tensor, "batch inputs"]:
        """Gather the windows around these frames, float32.

        Beyond an utterance's edge its first or last frame is repeated, so no window sees two
        utterances.
        """
        rows = indices.to(torch.int32)[:, None] + self._steps  # [batch, window]
        rows = torch.maximum(rows, self._first[indices][:, None])
        rows = torch.minimum(rows, self._last[indices][:, None])
        gathered = self.frames.index_select(0, rows.flatten())  # [batch * window, dims]
        return gathered.view(len(indices), -1).float()  # [batch, window * dims]

    def utterance(self, index: int) -> Int[Tensor, " frames"]:
        """Give the indices of an utterance's frames."""
        return torch.arange(int(self.offsets[index]), int(self.offsets[index + 1]))
