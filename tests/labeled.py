"""A small transfer set, teachers and a student, for labeling and distilling."""

import threading

import torch
from torch import nn

from attar import Jitter, TransferSet, mlp
from attar.teachers import as_teacher

EXAMPLES, CLASSES = 22, 5


def make_set(seed=0, *, views=None, class_names="abcde", unlabeled=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (EXAMPLES, 6, 6), generator=generator).to(torch.uint8)
    hard_targets = torch.arange(EXAMPLES) % CLASSES
    hard_targets[:unlabeled] = -1
    return TransferSet(images, hard_targets, class_names=tuple(class_names), views=views)


def make_jittered(seed=3, **options):
    return make_set(views=Jitter(pixels=1, seed=seed), **options)


def make_network(seed=1, units=9, **options):
    return mlp(36, [units], CLASSES, generator=torch.Generator().manual_seed(seed), **options)


class Counting(nn.Module):
    """A network that notes the size of every batch, the thread that asked, and what it saw."""

    def __init__(self, seed=1, fail_at=None):
        super().__init__()
        self.network = make_network(seed)
        self._fails_on = fail_at  # private: the test changes it
        self.sizes, self.threads, self.seen, self.training_modes = [], set(), [], set()
        self.torch_threads = set()

    def forward(self, inputs):
        self.sizes.append(len(inputs))
        self.threads.add(threading.get_ident())
        self.torch_threads.add(torch.get_num_threads())
        self.training_modes.add(self.training)
        self.seen.append(inputs)
        if self._fails_on is not None and (inputs == self._fails_on).flatten(1).all(1).any():
            raise RuntimeError("this example is too much")
        return self.network(inputs)


def make_teacher(network):
    return as_teacher(network, classes=CLASSES)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}
