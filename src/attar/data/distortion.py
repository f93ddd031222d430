"""Seeded views of images that are shifted, scaled, turned, blurred and noisy, each by itself."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn

from attar.data.counter import draw_bits, draw_uniform
from attar.data.views import check_images, check_seed
from attar.errors import AttarError, DataError, check_not_negative

_DRAWS = 6  # shift down and right, scale of height and width, rotation, blur
_NOISE = 2**32  # a stream of draws of its own: no seed of a user's is that far from another


@dataclass(frozen=True, slots=True)
class Distortion:
    """Shifts, scales, turns and blurs every image, and adds noise; zeros come in from outside.

    How much is uniform between nothing and the largest amount, in both directions where there are
    two, and drawn from (seed, view, example id) alone. One bilinear reading of the image does the
    first three.

    Args:
        pixels: The largest shift along each axis.
        scale: The largest change of height and of width, each drawn on its own, as a fraction: 0.1
            for 1/1.1 to 1.1 times the size.
        degrees: The largest rotation.
        blur: The largest share of each pixel that is replaced by the mean of its 3×3 neighborhood,
            weighted 1-2-1 each way; 0..1.
        noise: The largest change of a pixel, as a fraction of full ink; 0..1.
        seed: Another seed gives other views, 0..2**63 - 1.

    Raises:
        AttarError: If an argument is out of range.

    Example:
        >>> distortion = Distortion(pixels=1.0, scale=0.0, degrees=0.0)
        >>> image = torch.zeros(1, 4, 4, dtype=torch.uint8)
        >>> image[0, 1:3, 1:3] = 255
        >>> distortion(image, torch.tensor([7]), view=1)  # up and to the right, by parts of a pixel
        tensor([[[  0,  32,  37,   5],
                 [  0, 218, 255,  37],
                 [  0, 186, 218,  32],
                 [  0,   0,   0,   0]]], dtype=torch.uint8)
    """

    pixels: float = 1.5
    scale: float = 0.1
    degrees: float = 4.0
    blur: float = 0.0
    noise: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_not_negative(
            pixels=self.pixels,
            scale=self.scale,
            degrees=self.degrees,
            blur=self.blur,
            noise=self.noise,
        )
        if max(self.blur, self.noise) > 1:
            raise AttarError(f"expected blur and noise in 0..1, got {self.blur}, {self.noise}")
        check_seed(self.seed)

    def __call__(
        self,
        inputs: Shaped[Tensor, "batch *channels height width"],
        example_ids: Int64[Tensor, " batch"],
        view: int,
    ) -> Shaped[Tensor, "batch *channels height width"]:
        """Distort a batch of images.

        Args:
            inputs: Images as stored, bytes or floats; all channels of one are distorted alike.
            example_ids: Which examples these are, whatever batch they came in.
            view: Number of the view.

        Returns:
            The distorted images, same shape and type; bytes stay in 0..255, floats are not clipped
            but where noise is added: there to 0..1.

        Raises:
            ShapeError: If there are fewer than 3 axes, or not one id for each image.
            DataError: If the images are neither bytes nor floats.
        """
        _check(inputs, example_ids)
        height, width = inputs.shape[-2:]
        images = inputs.reshape(len(inputs), -1, height, width)  # [batch, channels, height, width]
        is_bytes = inputs.dtype == torch.uint8
        images = images.float().div_(255) if is_bytes else images
        amounts = draw_uniform(self.seed, view, example_ids, draws=_DRAWS).to(images.dtype)
        if self.pixels or self.scale or self.degrees:
            images = _move(images, self._maps(2 * amounts[:, :5] - 1, height, width))
        if self.blur:
            images = torch.lerp(
                images, _smooth(images), self.blur * amounts[:, 5, None, None, None]
            )
        if self.noise:
            images = (images + self._noise(images, example_ids, view)).clamp_(0, 1)
        if is_bytes:
            images = (images * 255).round_().to(torch.uint8)
        return images.reshape(inputs.shape)

    def _maps(
        self, amounts: Float[Tensor, "batch 5"], height: int, width: int
    ) -> Float[Tensor, "batch 2 3"]:
        """Return where each pixel is read from: affine maps of torch's coordinates, -1..1."""
        down, right, tall, wide, turn = amounts.unbind(1)
        angle = turn * math.radians(self.degrees)
        tall, wide = (torch.exp(-each * math.log1p(self.scale)) for each in (tall, wide))
        cos, sin = angle.cos(), angle.sin()
        across = torch.stack(
            [wide * cos, wide * sin * height / width, right * self.pixels * 2 / width], dim=1
        )
        along = torch.stack(
            [-tall * sin * width / height, tall * cos, down * self.pixels * 2 / height], dim=1
        )
        return torch.stack([across, along], dim=1)

    def _noise(self, images: Tensor, example_ids: Tensor, view: int) -> Tensor:
        """Draw a byte for each pixel, uniform in -noise..noise."""
        pixels = images[0].numel()
        seed = (self.seed + _NOISE) % 2**63
        words = draw_bits(seed, view, example_ids, draws=-(-pixels // 8))
        drawn = words.view(torch.uint8)[:, :pixels].reshape(images.shape)
        return (drawn.to(images.dtype) / 127.5 - 1) * self.noise


def _move(images: Tensor, maps: Tensor) -> Tensor:
    grid = nn.functional.affine_grid(maps, list(images.shape), align_corners=False)
    return nn.functional.grid_sample(images, grid, align_corners=False)  # bilinear, zeros outside


def _smooth(images: Tensor) -> Tensor:
    """Average every pixel with its neighbors, weighted 1-2-1 each way; zeros outside."""
    for axis in (2, 3):
        first = images.narrow(axis, 0, images.shape[axis] - 1)
        last = images.narrow(axis, 1, images.shape[axis] - 1)
        smoothed = images / 2
        smoothed.narrow(axis, 0, first.shape[axis]).add_(last, alpha=0.25)
        smoothed.narrow(axis, 1, last.shape[axis]).add_(first, alpha=0.25)
        images = smoothed
    return images


def _check(inputs: Tensor, example_ids: Tensor) -> None:
    check_images(inputs, example_ids, to="distort")
    if inputs.dtype != torch.uint8 and not inputs.is_floating_point():
        raise DataError(f"expected images of bytes or floats to distort, got {inputs.dtype}")
