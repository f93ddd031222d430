"""Transfer sets, their seeded views, and MNIST."""

from attar.data.counter import draw_bits, draw_integers, draw_uniform, mix_seed
from attar.data.datasets import from_dataset
from attar.data.distortion import Distortion
from attar.data.example_set import ExampleSet, cut
from attar.data.glyphs import Glyphs, read_glyph_folder, read_glyphs
from attar.data.idx import read_idx
from attar.data.images import read_image_folder
from attar.data.mnist import Mnist, load_mnist
from attar.data.streamed_set import StreamedSet
from attar.data.streams import stream_images, stream_table
from attar.data.tables import read_arrays, read_table
from attar.data.transfer_set import Batch, TransferSet, ViewFn
from attar.data.views import Jitter, name_views

__all__ = [
    "Batch",
    "Distortion",
    "ExampleSet",
    "Glyphs",
    "Jitter",
    "Mnist",
    "StreamedSet",
    "TransferSet",
    "ViewFn",
    "cut",
    "draw_bits",
    "draw_integers",
    "draw_uniform",
    "from_dataset",
    "load_mnist",
    "mix_seed",
    "name_views",
    "read_arrays",
    "read_glyph_folder",
    "read_glyphs",
    "read_idx",
    "read_image_folder",
    "read_table",
    "stream_images",
    "stream_table",
]
