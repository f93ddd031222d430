"""Transfer sets, their seeded views, and MNIST."""

from attar.data.counter import draw_bits, draw_integers, draw_uniform, mix_seed
from attar.data.idx import read_idx
from attar.data.mnist import Mnist, load_mnist
from attar.data.transfer_set import Batch, TransferSet, ViewFn
from attar.data.views import Jitter, name_views

__all__ = [
    "Batch",
    "Jitter",
    "Mnist",
    "TransferSet",
    "ViewFn",
    "draw_bits",
    "draw_integers",
    "draw_uniform",
    "load_mnist",
    "mix_seed",
    "name_views",
    "read_idx",
]
