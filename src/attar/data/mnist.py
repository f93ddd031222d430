"""MNIST, the digits of the paper's section 3, out of the package itself."""

from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from attar.data.idx import read_idx
from attar.data.transfer_set import TransferSet

SHA256 = {
    "train-images-idx3-ubyte.gz": (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
    ),
    "train-labels-idx1-ubyte.gz": (
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
    ),
    "t10k-images-idx3-ubyte.gz": (
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
    ),
}


@dataclass(frozen=True, slots=True)
class Mnist:
    """The 60,000 training and the 10,000 test digits."""

    train: TransferSet
    test: TransferSet


def load_mnist(folder: Path | None = None) -> Mnist:
    """Load MNIST: images `[28, 28]`, stored as bytes and answered in [0, 1]; ten classes.

    Args:
        folder: Where the four gzipped IDX files lie; by default in this package.

    Returns:
        Both sets, without views.

    Raises:
        DataError: If a file is missing, or is not byte for byte the canonical one.

    Source: LeCun, Cortes & Burges, "The MNIST database of handwritten digits".
    """
    source: Traversable = folder or files("attar.data") / "files" / "mnist"
    remedy = "copy the canonical file there" if folder else "reinstall attar"
    return Mnist(
        train=_load_digits(source, "train", remedy), test=_load_digits(source, "t10k", remedy)
    )


def _load_digits(source: Traversable, part: str, remedy: str) -> TransferSet:
    images, labels = f"{part}-images-idx3-ubyte.gz", f"{part}-labels-idx1-ubyte.gz"
    return TransferSet(
        read_idx(source / images, sha256=SHA256[images], remedy=remedy),  # [examples, 28, 28]
        read_idx(source / labels, sha256=SHA256[labels], remedy=remedy),  # [examples]
        classes=10,
    )
