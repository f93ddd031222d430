"""What the students of `attar reproduce losses` learn from: digits, or characters of many fonts."""

from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from attar.data import Mnist, TransferSet
from attar.errors import AttarError
from attar.recipes.generalist import choose_classes, choose_faces, load_glyphs


@dataclass(frozen=True, slots=True)
class Examples:
    """Those to learn from, with which settings are chosen, and those to measure on."""

    train_set: TransferSet
    test_set: TransferSet
    first: Int64[Tensor, " first"]  # of the training examples: to learn from while choosing
    held_out: Int64[Tensor, " held_out"]  # all others, to choose on


def take_digits(data: Mnist, held_out: int) -> Examples:
    """Take MNIST; the last `held_out` training examples are there to choose on.

    Raises:
        AttarError: If that leaves none to learn from.
    """
    kept = len(data.train) - held_out
    if kept < 1:
        raise AttarError(f"expected held_out below {len(data.train)}, got {held_out}")
    first, last = torch.arange(len(data.train)).split([kept, held_out])
    return Examples(data.train, data.test, first, last)


def take_glyphs(data: str, classes: int, held_out_faces: int) -> Examples:
    """Take the first classes of a folder of glyphs; some training faces are there to choose on.

    Raises:
        FolderError: If the folder holds no glyphs to learn from, or none to measure on.
        DataError: If they are damaged.
        AttarError: If there are not so many classes or faces.
    """
    glyphs = load_glyphs(data)
    train, test = glyphs["train"], glyphs["val"]
    train_set = choose_classes(train.examples, classes)
    known = train.examples.hard_targets < train_set.classes  # their order stays
    is_held_out = torch.isin(train.faces[known], choose_faces(train, held_out_faces))
    first, held_out = (which.nonzero()[:, 0] for which in (~is_held_out, is_held_out))
    if not len(first) or not len(held_out):
        raise AttarError(
            f"expected characters of {train_set.classes} classes by the {held_out_faces} faces "
            f"held out and by others, got {len(held_out)} and {len(first)}; hold out other faces"
        )
    return Examples(train_set, choose_classes(test.examples, classes), first, held_out)
