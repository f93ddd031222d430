import torch

from attar.data import Batch

INPUTS = torch.tensor([[0.0, 1.0, 2.0], [3.0, -1.0, 0.5], [1.0, 1.0, 1.0], [0.0, -2.0, 4.0]])


def make_batch(inputs=INPUTS, indices=None) -> Batch:
    indices = torch.arange(len(inputs)) if indices is None else torch.tensor(indices)
    return Batch(inputs, torch.full((len(inputs),), -1), indices)
