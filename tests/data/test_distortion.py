import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attar.data import Distortion, TransferSet
from attar.errors import AttarError, DataError, ShapeError

STILL = {"pixels": 0.0, "scale": 0.0, "degrees": 0.0}
EVERYTHING = Distortion(pixels=2, scale=0.2, degrees=10, blur=0.8, noise=0.2, seed=3)


def images(count=5, side=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, side, side), generator=generator).to(torch.uint8)


def disc(side=33, radius=8.0):
    """A soft disc in the middle, as floats."""
    place = torch.arange(side) - (side - 1) / 2
    return (radius - (place[:, None] ** 2 + place**2).sqrt()).clamp(0, 1)[None]


def centers_of_mass(shown):
    place = torch.arange(shown.shape[-1]).float() - (shown.shape[-1] - 1) / 2
    total = shown.sum((1, 2))
    return (shown.sum(2) @ place) / total, (shown.sum(1) @ place) / total


def test_nothing_moves_if_all_amounts_are_0():
    given = images()
    assert torch.equal(Distortion(**STILL)(given, torch.arange(5), 1), given)


def test_a_view_belongs_to_the_example_and_not_to_its_batch():
    given, ids = images(), torch.tensor([4, 9, 1, 0, 7])
    together = EVERYTHING(given, ids, 2)
    for place in range(5):
        alone = EVERYTHING(given[place : place + 1], ids[place : place + 1], 2)
        assert torch.equal(alone[0], together[place])


def test_views_examples_and_seeds_differ():
    same = images(1).expand(3, -1, -1)
    shown = EVERYTHING(same, torch.tensor([0, 1, 2]), 1)
    assert not torch.equal(shown[0], shown[1])
    assert not torch.equal(shown, EVERYTHING(same, torch.tensor([0, 1, 2]), 2))
    other = Distortion(pixels=2, scale=0.2, degrees=10, blur=0.8, noise=0.2, seed=4)
    assert not torch.equal(shown, other(same, torch.tensor([0, 1, 2]), 1))


def test_shifts_reach_all_of_their_range_and_no_further():
    shift = Distortion(pixels=3.0, scale=0.0, degrees=0.0)
    shown = shift(disc().expand(400, -1, -1), torch.arange(400), 1)
    for moved in centers_of_mass(shown):
        assert moved.abs().max() < 3.01
        assert moved.max() > 2.7
        assert moved.min() < -2.7
        assert abs(moved.mean()) < 0.3


def test_sizes_change_by_the_scale_both_ways():
    scaled = Distortion(pixels=0.0, scale=0.25, degrees=0.0)
    ratios = scaled(disc().expand(400, -1, -1), torch.arange(400), 1).sum((1, 2)) / disc().sum()
    assert 1.25**-2 < ratios.min() < 0.8
    assert 1.25 < ratios.max() < 1.25**2 * 1.01


def test_a_rotation_keeps_a_disc_and_turns_a_bar():
    turn = Distortion(pixels=0.0, scale=0.0, degrees=30.0)
    ids = torch.arange(50)
    torch.testing.assert_close(
        turn(disc().expand(50, -1, -1), ids, 1), disc().expand(50, -1, -1), atol=0.25, rtol=0
    )
    bar = torch.zeros(1, 33, 33)
    bar[:, 16, 4:29] = 1.0
    shown = turn(bar.expand(50, -1, -1), ids, 1)
    heights = (shown.sum(2) > 0.2).sum(1)  # rows that the bar touches
    assert heights.max() > 10
    assert heights.max() < 33 * 0.5 + 2  # 25 · sin 30° and its ends


def test_blur_keeps_the_ink_and_softens_the_edge():
    blur = Distortion(**STILL, blur=1.0)
    shown = blur(disc().expand(9, -1, -1), torch.arange(9), 1)
    torch.testing.assert_close(shown.sum((1, 2)), disc().sum().expand(9))
    assert (shown.diff(dim=2).abs().amax((1, 2)) < disc().diff(dim=2).abs().max()).all()


def test_noise_is_uniform_within_its_bounds():
    noise = Distortion(**STILL, noise=0.25)
    shown = noise(torch.full((20, 16, 16), 0.5), torch.arange(20), 1) - 0.5
    assert shown.abs().max() <= 0.2501
    assert shown.std() == pytest.approx(0.25 / 3**0.5, rel=0.05)
    assert abs(shown.mean()) < 0.01


@given(st.integers(0, 2**40), st.integers(1, 1000))
def test_bytes_stay_bytes_of_the_same_shape(example, view):
    shown = EVERYTHING(images(1), torch.tensor([example]), view)
    assert shown.dtype == torch.uint8
    assert shown.shape == (1, 12, 12)


def test_channels_move_together():
    three = images(2)[:, None].expand(-1, 3, -1, -1)
    shown = Distortion(seed=1)(three, torch.arange(2), 1)
    assert torch.equal(shown[:, 0], shown[:, 2])
    assert torch.equal(shown[:, 0], Distortion(seed=1)(images(2), torch.arange(2), 1))


def test_images_that_are_not_square_turn_without_being_sheared():
    tall = torch.zeros(1, 40, 20)
    tall[:, 15:25, 5:15] = 1.0  # a square in the middle
    turn = Distortion(pixels=0.0, scale=0.0, degrees=45.0)
    shown = turn(tall.expand(30, -1, -1), torch.arange(30), 1)
    torch.testing.assert_close(shown.sum((1, 2)), torch.full((30,), 100.0), atol=4, rtol=0)


def test_a_transfer_set_shows_them():
    transfer = TransferSet(images(), torch.arange(5)).with_views(EVERYTHING)
    shown = transfer.batch(torch.tensor([3, 1]), view=4).inputs
    expected = EVERYTHING(images()[[3, 1]], torch.tensor([3, 1]), 4).float() / 255
    torch.testing.assert_close(shown, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pixels": -1.0}, "pixels >= 0"),
        ({"noise": 1.5}, r"blur and noise in 0\.\.1, got 0\.0, 1\.5"),
        ({"seed": -1}, "seed in 0"),
    ],
)
def test_settings_out_of_range_are_told(options, message):
    with pytest.raises(AttarError, match=message):
        Distortion(**options)


def test_inputs_that_are_no_images_are_told(shape_hints_off):
    with pytest.raises(ShapeError, match=r"height, width\] to distort, got \[5, 12\]"):
        Distortion()(images()[:, 0], torch.arange(5), 1)
    with pytest.raises(ShapeError, match=r"one id for each image, got \[5, 12, 12\], 4 ids"):
        Distortion()(images(), torch.arange(4), 1)
    with pytest.raises(DataError, match=r"bytes or floats to distort, got torch\.int64"):
        Distortion()(images().long(), torch.arange(5), 1)
