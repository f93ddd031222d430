"""Normalize the images of a transfer set like an image processor of `transformers`.

The images of a transfer set are in [0, 1] (uint8 images are divided by 255) and have a fixed size.
A processor resizes, scales and normalizes images of any size. Only its mean and standard deviation
are used; a processor that changes pixels in other ways is refused.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attar.errors import AttarError, DataError, ShapeError

UNCHANGED = "none"  # processor="none": the model takes the inputs unchanged

_OVERSHOOT = 0.1  # tolerance of [0, 1] for resized images
_TRIED = 16  # height and width of the test image
_GEOMETRY = ("do_resize", "do_center_crop")  # steps that do not change pixel values


@dataclass(frozen=True)
class Preparation:
    """Normalization and accepted shapes of a model's images."""

    mean: tuple[float, ...] = ()  # of each channel; empty: not normalized
    std: tuple[float, ...] = ()
    size: tuple[int, int] | None = None  # height, width; None: any
    shortest_edge: int | None = None
    bounded: bool = False  # whether images have to be in [0, 1]

    def check(self, images: Tensor, name: str) -> None:
        """Raise unless the images look like those of the processor before normalization.

        Raises:
            ShapeError: If they are not images, or have other channels or another size.
            DataError: If their values are not in [0, 1].
        """
        shape = list(images.shape)
        if self.bounded and len(shape) != 4:
            raise ShapeError(f"expected images [batch, channels, height, width], got {shape}")
        if len(self.mean) > 1 and shape[1] != len(self.mean):
            raise ShapeError(
                f"expected images of {len(self.mean)} channels, as normalized by the processor of "
                f"{name}, got {shape}; read them with this number of channels"
            )
        self._check_size(shape, name)
        if self.bounded and images.numel():
            low, high = (float(value) for value in torch.aminmax(images))
            if not (low >= -_OVERSHOOT and high <= 1 + _OVERSHOOT):
                raise DataError(
                    f"expected images in [0, 1] for the processor of {name}, got values from "
                    f"{low:.4g} to {high:.4g}; scale them to [0, 1], or pass "
                    f'as_teacher(..., processor="{UNCHANGED}") if the model takes them unchanged'
                )

    def normalize(self, images: Tensor, name: str) -> Tensor:
        """Check images, and normalize each channel."""
        self.check(images, name)
        if not self.mean:
            return images
        mean, std = (
            torch.tensor(values, device=images.device).view(-1, 1, 1)
            for values in (self.mean, self.std)
        )
        return (images - mean) / std

    def _check_size(self, shape: list[int], name: str) -> None:
        size = tuple(shape[2:])
        wanted = None
        if self.size is not None and size != self.size:
            wanted = f"of {self.size[0]} x {self.size[1]} pixels"
        if self.shortest_edge is not None and min(size) != self.shortest_edge:
            wanted = f"with a shorter side of {self.shortest_edge} pixels"
        if wanted is not None:
            raise ShapeError(
                f"expected images {wanted}, the size of the processor of {name}, got {shape}; read "
                "the transfer set in that size, or, if the model also takes this size, set the "
                "processor's do_resize and do_center_crop to False"
            )


def prepare_images(processor: object, name: str) -> Preparation:
    """Read the settings of a processor.

    Args:
        processor: An image processor of `transformers`, or a processor that contains one; the
            folder of a saved processor, or its name in the local cache; or "none".
        name: Name of the model, for errors.

    Raises:
        AttarError: If it is not an image processor, or cannot be loaded.
        DataError: If it does more than scaling by 1/255 and normalizing each channel.
    """
    if isinstance(processor, str | Path):
        if processor == UNCHANGED:
            return Preparation()
        processor = load_processor(processor, name)
    processor = getattr(processor, "image_processor", processor)
    if isinstance(processor, type) or not hasattr(processor, "image_mean"):
        raise AttarError(
            f'expected an image processor of transformers or "{UNCHANGED}" as processor= of '
            f"{name}, got {type(processor).__name__}"
        )
    return _read(processor, f"{type(processor).__name__}, the processor of {name},")


def load_processor(place: str | Path, name: str) -> Any:  # noqa: ANN401 (transformers may be absent)
    """Load a processor from a folder or the local cache, without downloading.

    Raises:
        AttarError: If there is no processor, or `transformers` or one of its packages is missing.
    """
    try:
        import transformers

        loader: Any = transformers.AutoImageProcessor
        return loader.from_pretrained(place, local_files_only=True, trust_remote_code=False)
    except ImportError as error:
        reason = " ".join(str(error).split())[:200]
        raise AttarError(
            f"cannot load the image processor of {name} from {place}: {reason}; "
            "run `pip install 'attar[transformers]' pillow`"
        ) from error
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split(". ")[0].split()) or type(error).__name__
        raise AttarError(
            f"cannot load the image processor of {name} from {place}: {reason}; save it there with "
            f'processor.save_pretrained, or pass as_teacher(..., processor="{UNCHANGED}") if '
            "the model takes the inputs unchanged"
        ) from error


def _read(processor: Any, name: str) -> Preparation:  # noqa: ANN401
    factor = getattr(processor, "rescale_factor", None)
    if not getattr(processor, "do_rescale", None):
        raise DataError(
            f"expected a processor that scales pixels by 1/255, but {name} does not scale them; "
            "set its do_rescale to True if the model takes pixels from 0 to 1"
        )
    if not isinstance(factor, float | int) or not math.isclose(factor, 1 / 255, rel_tol=1e-4):
        raise DataError(
            f"expected a processor that scales pixels by 1/255, but {name} scales by {factor}; "
            f"{_own_module()}"
        )
    normalizes = bool(getattr(processor, "do_normalize", None))
    mean = _numbers(processor.image_mean) if normalizes else ()
    std = _numbers(processor.image_std) if normalizes else ()
    _try(processor, mean, std, name)
    size, shortest_edge = _find_size(processor.to_dict(), name)
    return Preparation(mean, std, size, shortest_edge, bounded=True)


def _numbers(value: Any) -> tuple[float, ...]:  # noqa: ANN401
    return tuple(float(number) for number in np.atleast_1d(np.asarray(value, dtype=np.float64)))


def _try(processor: Any, mean: tuple[float, ...], std: tuple[float, ...], name: str) -> None:  # noqa: ANN401
    """Raise unless the processor only normalizes by mean and standard deviation."""
    generator = np.random.default_rng(0)
    channels = len(mean) if mean and np.ndim(processor.image_mean) else 3
    image = generator.integers(0, 256, (channels, _TRIED, _TRIED), dtype=np.uint8)
    off = {step: False for step in _GEOMETRY if hasattr(processor, step)}
    try:
        answer = processor(
            images=image, return_tensors="np", input_data_format="channels_first", **off
        )
        prepared = np.asarray(answer["pixel_values"])[0]
    except Exception as error:  # from any class
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise DataError(f"{name} fails on an image: {reason}; {_own_module()}") from error
    expected = image / 255
    if mean:
        expected = (expected - np.reshape(mean, (-1, 1, 1))) / np.reshape(std, (-1, 1, 1))
    if prepared.shape != expected.shape or not np.allclose(prepared, expected, atol=1e-3):
        raise DataError(
            "expected a processor that only scales pixels by 1/255 and normalizes each channel, "
            f"but {name} does more; {_own_module()}"
        )


def _find_size(settings: Mapping[str, Any], name: str) -> tuple[tuple[int, int] | None, int | None]:
    """Return the height and width of the processor's images, or their shorter side."""
    if settings.get("do_center_crop"):
        size = settings.get("crop_size")
    elif settings.get("do_resize"):
        size = settings.get("size")
    else:
        return None, None
    if isinstance(size, int):
        return (size, size), None
    if isinstance(size, Mapping):
        if size.get("height") and size.get("width"):
            return (int(size["height"]), int(size["width"])), None
        if size.get("shortest_edge"):
            return None, int(size["shortest_edge"])
    raise DataError(
        f"expected {name} to resize to a height and a width, or to a shorter side, got {size}; "
        "set its do_resize and do_center_crop to False if the transfer set has the model's size"
    )


def _own_module() -> str:
    return (
        "wrap the model in a torch module that takes the transfer set's images, prepares them and "
        "returns the logits"
    )
