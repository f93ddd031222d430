"""Which classes a specialist is for: k-means over the columns of the predictions' covariance.

The covariance of the generalist's predictions over 15,000 classes has 225 million entries. K-means
only asks how far its columns are from each other, and a random projection keeps distances: with R
of independent entries of variance 1 / size, the columns of R · covariance, `size` numbers each, are
as far apart as those of the covariance itself but for a relative error of about sqrt(2 / size)
(Johnson & Lindenstrauss 1984). And R · covariance is a sum over examples of an outer product, so it
is added up while the predictions stream by: size × classes floats in all, 15 MB for 256 × 15,000.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from attar.errors import AttarError, DataError, ShapeError, check_positive


class CovarianceSketch:
    """Adds up, over batches of predictions, a random projection of their covariance.

    Args:
        classes: How many there are.
        size: Numbers kept of each column.
        generator: Draws the projection.

    Example:
        >>> sketch = CovarianceSketch(3, size=64, generator=torch.Generator().manual_seed(0))
        >>> sketch.add(torch.tensor([[0.5, 0.5, 0.0], [0.4, 0.6, 0.0], [0.0, 0.0, 1.0]]))
        >>> columns = sketch.columns()  # the first two classes go together
        >>> bool((columns[0] - columns[1]).norm() < (columns[0] - columns[2]).norm())
        True
    """

    def __init__(self, classes: int, *, size: int, generator: torch.Generator) -> None:
        """Draw the projection."""
        check_positive(classes=classes, size=size)
        self._projection = torch.randn(size, classes, generator=generator) / size**0.5
        self._products = torch.zeros(size, classes)  # R · sum of p pᵀ
        self._sum = torch.zeros(classes, dtype=torch.float64)
        self._examples = 0

    def add(self, probabilities: Float[Tensor, "batch classes"]) -> None:
        """Take a batch of predictions into account.

        Raises:
            ShapeError: If they are not of as many classes.
        """
        if probabilities.shape[1] != self._projection.shape[1]:
            found = f"{self._projection.shape[1]} classes, got {list(probabilities.shape)}"
            raise ShapeError(f"expected probabilities [batch, classes] of {found}")
        p = probabilities.float()
        self._products.addmm_((p @ self._projection.T).T, p)
        self._sum += p.sum(dim=0)
        self._examples += len(p)

    def columns(self) -> Float[Tensor, "classes size"]:
        """Return the projected column of each class.

        Raises:
            DataError: If there were fewer than two examples.
        """
        if self._examples < 2:
            raise DataError(f"expected two examples or more to covary, got {self._examples}")
        mean = (self._sum / self._examples).float()
        covariance = self._products / self._examples - torch.outer(self._projection @ mean, mean)
        return covariance.T.contiguous()


def group_classes(
    columns: Float[Tensor, "classes size"], *, groups: int, classes_per_group: int, seed: int
) -> tuple[Int64[Tensor, " special"], ...]:
    """Find groups of classes that the generalist confuses, by online k-means over the columns.

    Columns are scaled to length 1: what counts is with which classes a class is confused, not how
    often. A group is the classes whose columns point most nearly to its center. So all groups are
    of one size, a class may be in several groups or in none, as in the paper's table 4.

    Args:
        columns: Of the covariance of the generalist's predictions, or projections of them.
        groups: How many.
        classes_per_group: Of each, two or more.
        seed: Of k-means.

    Returns:
        The classes of each group, ascending.

    Raises:
        AttarError: If the sizes don't fit the classes, or the columns are not finite.
        DataError: If the predictions do not vary, so that there is nothing to go by.

    Source: Hinton et al. (2015), sec. 5.3; how the paper makes groups of clusters, and of which
    size, it does not say.
    """
    classes = len(columns)
    if not 2 <= classes_per_group <= classes or not 1 <= groups <= classes:
        raise AttarError(
            f"expected 1 group or more of 2 classes or more, at most {classes} of either, "
            f"got {groups} groups of {classes_per_group}"
        )
    if not columns.isfinite().all():
        raise AttarError("expected finite columns of the covariance, got some that are not")
    lengths = columns.norm(dim=1, keepdim=True)
    if not (lengths > 0).any():
        raise DataError("expected predictions that vary, got a covariance of zeros")
    unit = columns / lengths.clamp(min=torch.finfo(columns.dtype).tiny)  # [classes, size]
    from sklearn.cluster import MiniBatchKMeans  # here: importing it takes a second

    kmeans = MiniBatchKMeans(groups, random_state=seed, batch_size=1024, n_init=3, max_iter=50)
    kmeans.fit(unit.numpy())
    centers = torch.from_numpy(kmeans.cluster_centers_).to(unit.dtype)
    centers = centers / centers.norm(dim=1, keepdim=True).clamp(min=1e-12)
    nearest = (centers @ unit.T).topk(classes_per_group, dim=1).indices  # [groups, special]
    return tuple(each.sort().values for each in nearest)


def count_cover(groups: Sequence[Tensor], classes: int) -> Int64[Tensor, " classes"]:
    """Count for each class the groups that have it: the rows of the paper's table 4."""
    cover = torch.zeros(classes, dtype=torch.int64)
    for group in groups:
        cover[group] += 1
    return cover


def check_groups(groups: Sequence[Tensor], classes: int) -> None:
    """Raise `AttarError` unless each group has at least two classes, each of them once."""
    if not groups:
        raise AttarError("expected one group of classes or more, got none")
    for place, group in enumerate(groups):
        if group.ndim != 1 or group.dtype != torch.int64:
            found = f"{group.dtype} {list(group.shape)}"
            raise AttarError(f"expected group {place} as a list of class indices, got {found}")
        if len(group) < 2:
            raise AttarError(
                f"expected at least two classes for a specialist, got {len(group)} in group "
                f"{place}; one class leaves nothing to tell apart"
            )
        if len(group.unique()) < len(group) or int(group.min()) < 0 or int(group.max()) >= classes:
            raise AttarError(
                f"expected group {place} to have classes in 0..{classes - 1}, each once, "
                f"got {group.tolist()[:5]}..."
            )
