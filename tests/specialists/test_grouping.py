import pytest
import torch

from attar.errors import AttarError, DataError, ShapeError
from attar.specialists import CovarianceSketch, check_groups, count_cover, group_classes

GROUPS, EACH = 4, 5  # classes 0..4 are confused with each other, and so on


def confused_predictions(examples=400, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    classes = GROUPS * EACH
    truth = torch.randint(classes, (examples,), generator=generator)
    near = truth[:, None] // EACH == torch.arange(classes) // EACH
    noise = torch.randn(examples, classes, generator=generator)
    return (2.5 * near + noise).softmax(1)


def sketched(p, *, size=64, batch=32):
    sketch = CovarianceSketch(p.shape[1], size=size, generator=torch.Generator().manual_seed(1))
    for part in p.split(batch):
        sketch.add(part)
    return sketch.columns()


def test_distances_of_sketched_columns_are_those_of_the_covariance():
    p = confused_predictions()
    expected = torch.cdist(torch.cov(p.T, correction=0), torch.cov(p.T, correction=0))
    got = torch.cdist(sketched(p, size=4000), sketched(p, size=4000))
    torch.testing.assert_close(got, expected, rtol=0.1, atol=1e-4)


def test_batches_of_any_size_give_one_sketch():
    p = confused_predictions()
    torch.testing.assert_close(sketched(p, batch=7), sketched(p, batch=400), rtol=1e-4, atol=1e-7)


def test_confused_classes_come_into_one_group():
    columns = sketched(confused_predictions())
    groups = group_classes(columns, groups=GROUPS, classes_per_group=EACH, seed=0)
    found = sorted(group.tolist() for group in groups)
    assert found == [list(range(first, first + EACH)) for first in range(0, GROUPS * EACH, EACH)]
    check_groups(groups, GROUPS * EACH)
    assert count_cover(groups, GROUPS * EACH).tolist() == [1] * (GROUPS * EACH)


def test_groups_may_overlap_and_leave_classes_out():
    columns = sketched(confused_predictions())
    groups = group_classes(columns, groups=6, classes_per_group=4, seed=0)
    cover = count_cover(groups, GROUPS * EACH)
    assert cover.sum() == 6 * 4
    assert cover.max() > 1


@pytest.mark.parametrize("groups, each", [(0, 5), (3, 1), (3, 21), (21, 5)])
def test_sizes_that_do_not_fit_are_told(groups, each):
    columns = sketched(confused_predictions(50))
    with pytest.raises(AttarError, match=f"at most 20 of either, got {groups} groups of {each}"):
        group_classes(columns, groups=groups, classes_per_group=each, seed=0)


def test_what_cannot_be_grouped_is_told():
    with pytest.raises(DataError, match="expected predictions that vary"):
        group_classes(torch.zeros(6, 4), groups=2, classes_per_group=2, seed=0)
    with pytest.raises(AttarError, match="finite columns"):
        group_classes(torch.full((6, 4), torch.nan), groups=2, classes_per_group=2, seed=0)
    with pytest.raises(DataError, match="two examples or more to covary, got 1"):
        sketched(confused_predictions(1))
    with pytest.raises(ShapeError, match="of 20 classes"):
        CovarianceSketch(20, size=2, generator=torch.Generator()).add(torch.zeros(3, 19))


@pytest.mark.parametrize(
    "groups, message",
    [
        ([], "one group of classes or more"),
        ([torch.tensor([3])], "got 1 in group 0; one class leaves nothing to tell apart"),
        ([torch.tensor([], dtype=torch.int64)], "got 0 in group 0"),
        ([torch.tensor([0, 1]), torch.tensor([2, 2])], "group 1 to have classes in 0..9, each"),
        ([torch.tensor([0, 10])], "group 0 to have classes in 0..9"),
        ([torch.tensor([0.0, 1.0])], "list of class indices, got torch.float32"),
    ],
)
def test_groups_that_make_no_specialist_are_told(groups, message):
    with pytest.raises(AttarError, match=message):
        check_groups(groups, 10)
