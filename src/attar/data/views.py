"""Seeded views: augmentation that belongs to the example, not to the batch it came in."""

import re
from dataclasses import dataclass
from types import FunctionType

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from attar.data.counter import draw_integers
from attar.errors import AttarError, DataError, ShapeError


@dataclass(frozen=True, slots=True)
class Jitter:
    """Shifts every image by a few pixels, filling with zeros: Hinton et al. (2015), sec. 3.

    Each axis is shifted by its own whole number of pixels, uniform in -pixels..pixels and drawn
    from (seed, view, example id) alone.

    Args:
        pixels: The largest shift, 0 or more and less than the height and the width.
        seed: Another seed gives other shifts, 0..2**63 - 1.

    Raises:
        AttarError: If an argument is out of range.

    Example:
        >>> jitter = Jitter(pixels=1)
        >>> jitter(torch.tensor([[[1, 2], [3, 4]]]), torch.tensor([2]), view=1)
        tensor([[[0, 1],
                 [0, 3]]])
    """

    pixels: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not isinstance(self.pixels, int) or self.pixels < 0:
            raise AttarError(f"expected a whole number of pixels, 0 or more, got {self.pixels}")
        check_seed(self.seed)

    def __call__(
        self,
        inputs: Shaped[Tensor, "batch *channels height width"],
        example_ids: Int64[Tensor, " batch"],
        view: int,
    ) -> Shaped[Tensor, "batch *channels height width"]:
        """Shift a batch of images.

        Args:
            inputs: Images as stored; all channels of one are shifted alike.
            example_ids: Which examples these are, whatever batch they came in.
            view: Number of the view.

        Returns:
            The shifted images, same shape and type.

        Raises:
            ShapeError: If there are fewer than 3 axes, or not one id for each image.
            DataError: If the images are too small to be shifted so far.
        """
        self._check(inputs, example_ids)
        shift = draw_integers(
            self.seed, view, example_ids, draws=2, low=-self.pixels, high=self.pixels
        )  # [batch, 2], down and to the right
        return _windows(inputs, self.pixels - shift, margin=self.pixels)

    def _check(self, inputs: Tensor, example_ids: Tensor) -> None:
        check_images(inputs, example_ids, to="jitter")
        shape = list(inputs.shape)
        if self.pixels >= min(shape[-2:]):
            raise DataError(
                f"expected images larger than the jitter of {self.pixels} pixels, got {shape}"
            )


def check_seed(seed: int) -> None:
    """Raise `AttarError` unless the generator of views takes the seed."""
    if not 0 <= seed < 2**63:
        raise AttarError(f"expected a seed in 0..2**63 - 1, got {seed}")


def check_images(inputs: Tensor, example_ids: Tensor, *, to: str) -> None:
    """Raise `ShapeError` unless these are images [batch, ..., height, width], one id for each."""
    shape = list(inputs.shape)
    if inputs.ndim < 3:
        raise ShapeError(
            f"expected images [batch, ..., height, width] to {to}, got {shape}; "
            "give the transfer set images, and flatten them in the network"
        )
    if len(inputs) != len(example_ids):
        raise ShapeError(f"expected one id for each image, got {shape}, {len(example_ids)} ids")


def name_views(views: object) -> str:
    """Say what makes a set's views, in the same words in every process.

    Raises:
        DataError: If it shows its address instead of what it does.
    """
    if isinstance(views, FunctionType) and "<" not in views.__qualname__:
        return f"{views.__module__}.{views.__qualname__}"
    name = repr(views)
    if re.search(r" at 0x[0-9a-fA-F]+", name):
        raise DataError(
            f"expected views that say what they do, as a dataclass does, got {name}; "
            "give their class a __repr__ with all its settings, or the function a name in a module"
        )
    return name


def _windows(images: Tensor, corners: Tensor, *, margin: int) -> Tensor:
    """Pad the images by a margin of zeros and cut one window out of each.

    A window is read as one run of memory, from its corner on for as long as a padded image is, and
    cropped afterwards. Such runs overlap, but `index_select` copies them whole: ten times as fast
    as advanced indexing, which goes from pixel to pixel.

    Args:
        images: Shape `[batch, *channels, height, width]`.
        corners: Row and column of each window's first pixel in the padded image, `[batch, 2]`.
        margin: Rows and columns of zeros on each side.
    """
    batch, *channels, height, width = images.shape
    padded_shape = (batch, *channels, height + 2 * margin, width + 2 * margin)
    row = padded_shape[-1]
    run = torch.Size(padded_shape[1:]).numel()
    memory = images.new_zeros((batch + 1) * run)  # the last run, too, may start late
    padded = memory[: batch * run].view(padded_shape)
    padded[..., margin : margin + height, margin : margin + width] = images
    starts = torch.arange(batch, device=images.device) * run + corners[:, 0] * row + corners[:, 1]
    runs = memory.as_strided((batch * run + 1, run), (1, 1)).index_select(0, starts)
    return runs.view(padded_shape)[..., :height, :width].contiguous()
