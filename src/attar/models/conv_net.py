"""A convolutional network for small images and many classes, quick on a CPU."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attar.errors import AttarError, ShapeError, check_positive


class ConvNet(nn.Module):
    """Images -> features -> logits; made by `conv_net`.

    With 15,000 classes most of the work is in `output`, so both halves can be had on their own: a
    loss may take the features and go through the classes in chunks, a specialist may have the trunk
    of its generalist under an output layer of its own.
    """

    def __init__(self, trunk: nn.Sequential, output: nn.Linear) -> None:
        """Put the halves together."""
        super().__init__()
        self.trunk = trunk  # images -> features [batch, features]
        self.output = output  # features -> logits [batch, classes]

    def forward(self, images: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch classes"]:
        """Return the logits."""
        logits: Tensor = self.output(self.trunk(images))
        return logits


def conv_net(
    side: int,
    classes: int,
    *,
    generator: torch.Generator,
    channels: Sequence[int] = (32, 96, 256),
    blocks: int = 1,
    features: int = 128,
) -> ConvNet:
    """Make a network of depthwise-separable convolutions with rectified linear units.

    A first convolution and then each stage halves the image. A block is a 3×3 convolution of each
    channel on its own, a 1×1 one across channels, and batch normalization; after the first of a
    stage, a block adds to what it was given. Tensors lie with the channels last: that makes
    such convolutions several times as fast on a CPU.

    Args:
        side: Height and width of the images in pixels, a multiple of 2 to the number of stages.
        classes: Numbers of logits.
        generator: Draws the initial weights (He et al. 2015); biases start at zero.
        channels: Of the first convolution, and of each stage after it.
        blocks: In each stage.
        features: Units of the layer below the logits, linear ones: the fewer, the cheaper the
            output layer, whose weights are features × classes.

    Returns:
        A network in training mode that maps images `[batch, side, side]`, or
        `[batch, 1, side, side]`, to logits `[batch, classes]`.

    Raises:
        AttarError: If a size is not positive, or the image cannot be halved so often.

    Source: Howard et al. (2017), arXiv:1704.04861 (the blocks); He et al. (2015), arXiv:1512.03385
    (their sums).
    """
    check_positive(side=side, classes=classes, blocks=blocks, features=features)
    if not channels or min(channels) < 1:
        raise AttarError(f"expected channels of one stage or more, each > 0, got {list(channels)}")
    small = side // 2 ** len(channels)
    if small * 2 ** len(channels) != side:
        multiple = 2 ** len(channels)
        raise AttarError(f"expected a side that is a multiple of {multiple}, got {side}")
    # Where the generator is; the layers' own draws are overwritten below.
    with torch.random.fork_rng(devices=[]), generator.device:
        layers: list[tuple[str, nn.Module]] = [("images", _AsImages(side)), *_stem(channels[0])]
        for stage, (before, after) in enumerate(pairwise(channels), 1):
            layers.append((f"stage{stage}", _Block(before, after, stride=2)))
            layers += [
                (f"stage{stage}_{block}", _Block(after, after, stride=1))
                for block in range(2, blocks + 1)
            ]
        flat = channels[-1] * small**2
        layers += [
            ("flatten", nn.Flatten()),
            ("features", nn.Linear(flat, features, bias=False)),
            ("features_norm", nn.BatchNorm1d(features)),
        ]
        network = ConvNet(nn.Sequential(OrderedDict(layers)), nn.Linear(features, classes))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
        elif isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear", generator=generator)
    nn.init.zeros_(network.output.bias)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.to(torch.get_default_device())


class _AsImages(nn.Module):
    """Gives images their channel, and lays the channels last in memory."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, images: Tensor) -> Tensor:
        shape = list(images.shape)
        if shape[1:] not in ([self.side] * 2, [1, self.side, self.side]):
            raise ShapeError(f"expected images [batch, {self.side}, {self.side}], got {shape}")
        images = images.reshape(-1, 1, self.side, self.side)
        return images.contiguous(memory_format=torch.channels_last)


class _Block(nn.Module):
    """Depthwise 3×3, pointwise 1×1, normalization, rectifier."""

    def __init__(self, before: int, after: int, *, stride: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            before, before, 3, stride=stride, padding=1, groups=before, bias=False
        )
        self.pointwise = nn.Conv2d(before, after, 1, bias=False)
        self.norm = nn.BatchNorm2d(after)
        self.adds = before == after and stride == 1

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = self.norm(self.pointwise(self.depthwise(inputs)))
        return torch.relu(outputs + inputs if self.adds else outputs)


def _stem(channels: int) -> list[tuple[str, nn.Module]]:
    return [
        ("stem", nn.Conv2d(1, channels, 5, stride=2, padding=2, bias=False)),
        ("stem_norm", nn.BatchNorm2d(channels)),
        ("stem_relu", nn.ReLU()),
    ]
