import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.data import Jitter, draw_integers
from attar.errors import AttarError, DataError, ShapeError

DTYPES = [torch.uint8, torch.int64, torch.float16, torch.float32, torch.float64]


def shift_slowly(image: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """Move an image pixel by pixel; what comes in from outside is zero."""
    height, width = image.shape[-2:]
    moved = torch.zeros_like(image)
    for row in range(height):
        for column in range(width):
            if 0 <= row - down < height and 0 <= column - right < width:
                moved[..., row, column] = image[..., row - down, column - right]
    return moved


def images_like(*shape: int, dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1, 256, shape, generator=generator).to(dtype)


@st.composite
def batches(draw):
    height, width = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    channels = draw(st.lists(st.integers(1, 3), max_size=2))
    ids = draw(st.lists(st.integers(0, 2**40), min_size=1, max_size=6))
    images = images_like(len(ids), *channels, height, width, dtype=draw(st.sampled_from(DTYPES)))
    pixels = draw(st.integers(0, min(height, width) - 1))
    return images, torch.tensor(ids), pixels


@given(batch=batches(), seed=st.integers(0, 2**63 - 1), view=st.integers(1, 2**63 - 1))
def test_jitter_is_what_the_slow_shift_gives(batch, seed, view):
    images, ids, pixels = batch
    jittered = Jitter(pixels=pixels, seed=seed)(images, ids, view)
    shifts = draw_integers(seed, view, ids, draws=2, low=-pixels, high=pixels).tolist()
    slow = torch.stack([shift_slowly(*each) for each in zip_shifts(images, shifts)])
    assert jittered.dtype == images.dtype
    assert jittered.is_contiguous()
    assert torch.equal(jittered, slow)


def zip_shifts(images, shifts):
    return [(image, down, right) for image, (down, right) in zip(images, shifts, strict=True)]


@given(batch=batches(), data=st.data())
def test_a_view_hangs_on_no_other_example_of_the_batch(batch, data):
    images, ids, pixels = batch
    chosen = torch.tensor(data.draw(st.lists(st.integers(0, len(ids) - 1), min_size=1)))
    jitter = Jitter(pixels=pixels, seed=1)
    assert torch.equal(jitter(images, ids, 3)[chosen], jitter(images[chosen], ids[chosen], 3))


def test_every_shift_comes_equally_often_in_each_view():
    images = torch.zeros(20_000, 5, 5, dtype=torch.uint8)
    images[:, 2, 2] = 1  # one bright pixel tells the shift
    for view in (1, 2, 50):
        counts = Jitter(pixels=2)(images, torch.arange(20_000), view).long().sum(0)  # [5, 5]
        assert counts.sum() == 20_000
        chi_square = ((counts - 800) ** 2 / 800).sum().item()
        assert chi_square < 53  # 24 degrees of freedom: 1 in 1000 above 51.2


def test_one_example_sees_every_shift_over_the_views():
    image = torch.zeros(1, 5, 5, dtype=torch.uint8)
    image[0, 2, 2] = 1
    jitter = Jitter(pixels=2)
    total = sum(jitter(image, torch.tensor([77]), view).long() for view in range(1, 501))
    assert total.min() > 4  # 20 each on average


def test_views_and_seeds_differ():
    images, ids = images_like(50, 9, 9), torch.arange(50)
    first = Jitter(seed=0)(images, ids, 1)
    assert not torch.equal(first, Jitter(seed=0)(images, ids, 2))
    assert not torch.equal(first, Jitter(seed=1)(images, ids, 1))
    assert torch.equal(first, Jitter(seed=0)(images, ids, 1))


def test_no_pixels_is_no_shift():
    images = images_like(4, 6, 6)
    assert torch.equal(Jitter(pixels=0)(images, torch.arange(4), 1), images)


def test_the_paper_shifts_by_up_to_two_pixels():
    assert Jitter() == Jitter(pixels=2, seed=0)


def test_images_stay_as_they_were():
    images = images_like(30, 6, 6)
    before = images.clone()
    Jitter()(images, torch.arange(30), 1)
    assert torch.equal(images, before)


def test_strided_images_are_shifted_alike():
    images = images_like(20, 8, 8)
    ids = torch.arange(20)
    strided = images.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert torch.equal(Jitter()(strided, ids, 1), Jitter()(images, ids, 1))


@given(count=st.integers(0, 5))
@settings(max_examples=6)
def test_a_batch_may_have_any_length(count):
    assert Jitter()(images_like(count, 4, 5), torch.arange(count), 1).shape == (count, 4, 5)


def test_flat_inputs_say_what_to_do(shape_hints_off):
    with pytest.raises(ShapeError, match=r"got \[3, 784\]; give the transfer set images"):
        Jitter()(torch.zeros(3, 784), torch.arange(3), 1)


def test_ids_must_be_as_many_as_images(shape_hints_off):
    with pytest.raises(ShapeError, match=r"got \[3, 8, 8\], 2 ids"):
        Jitter()(torch.zeros(3, 8, 8), torch.arange(2), 1)


def test_images_must_be_larger_than_the_shift():
    with pytest.raises(DataError, match=r"larger than the jitter of 4 pixels, got \[1, 9, 4\]"):
        Jitter(pixels=4)(torch.zeros(1, 9, 4), torch.arange(1), 1)


def test_pixels_are_a_whole_number_from_zero(shape_hints_off):
    with pytest.raises(AttarError, match="got -1"):
        Jitter(pixels=-1)
    with pytest.raises(AttarError, match=r"got 1\.5"):
        Jitter(pixels=1.5)


def test_a_seed_out_of_range_is_an_error():
    with pytest.raises(AttarError, match="got -1"):
        Jitter(seed=-1)
    with pytest.raises(AttarError, match="got 9223372036854775808"):
        Jitter(seed=2**63)
