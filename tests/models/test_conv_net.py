import pytest
import torch
from torch import nn

from attar.errors import AttarError, ShapeError
from attar.models import conv_net


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def small(seed=0, **options):
    sizes = {"channels": (4, 6, 8), "features": 5} | options
    return conv_net(16, 7, generator=generator(seed), **sizes)


def test_images_with_and_without_a_channel_have_the_same_logits():
    network, images = small().eval(), torch.rand(3, 16, 16, generator=generator())
    logits = network(images)
    assert logits.shape == (3, 7)
    torch.testing.assert_close(network(images[:, None]), logits)


def test_the_halves_make_the_whole():
    network, images = small().eval(), torch.rand(3, 16, 16, generator=generator())
    features = network.trunk(images)
    assert features.shape == (3, 5)
    torch.testing.assert_close(network.output(features), network(images))


def test_weights_come_from_the_generator_alone():
    before = torch.get_rng_state()
    first, second, other = small(), small(), small(seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    same = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    assert all(torch.equal(one, two) for one, two in same)
    assert not torch.equal(first.output.weight, other.output.weight)


def test_it_learns_where_a_line_stands():
    hard_targets = torch.arange(60) % 6
    images = 0.3 * torch.rand(60, 16, 16, generator=generator())
    for place, target in enumerate(hard_targets.tolist()):
        images[place, :, 2 * target + 2] = 1.0
    network = conv_net(16, 6, generator=generator(), channels=(4, 8), blocks=2, features=8)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.02)
    for _ in range(25):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), hard_targets).backward()
        optimizer.step()
    network.eval()
    assert (network(images).argmax(1) == hard_targets).float().mean() > 0.9


def test_a_second_block_adds_to_the_first():
    blocks = [name for name, _ in small(blocks=3).trunk.named_children() if "stage1" in name]
    assert blocks == ["stage1", "stage1_2", "stage1_3"]
    network = small(blocks=2).eval()
    second = network.trunk.stage1_2
    nn.init.zeros_(second.norm.weight)  # then nothing is added
    given = torch.rand(2, 6, 4, 4, generator=generator())
    torch.testing.assert_close(second(given), given)


@pytest.mark.parametrize(
    ("side", "options", "message"),
    [
        (20, {}, "multiple of 8, got 20"),
        (16, {"channels": ()}, r"one stage or more, each > 0, got \[\]"),
        (16, {"channels": (4, 0)}, r"each > 0, got \[4, 0\]"),
        (16, {"features": 0}, "features > 0"),
    ],
)
def test_sizes_that_cannot_be_are_told(side, options, message):
    sizes = {"channels": (4, 6, 8)} | options
    with pytest.raises(AttarError, match=message):
        conv_net(side, 7, generator=generator(), **sizes)


def test_images_of_another_size_are_told(shape_hints_off):
    with pytest.raises(ShapeError, match=r"images \[batch, 16, 16\], got \[2, 8, 8\]"):
        small()(torch.zeros(2, 8, 8))
