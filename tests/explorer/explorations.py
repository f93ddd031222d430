"""Small explorations: ten noisy patterns, and networks that nobody trained."""

import torch

from attar.data import TransferSet
from attar.evaluation import compute_logits
from attar.explorer import ExampleSet, Exploration, Model
from attar.models import mlp


def make_network(inputs, classes, *, seed, hidden=(12,)):
    """An untrained network with logits as large as a trained one's."""
    generator = torch.Generator().manual_seed(seed)
    network = mlp(inputs, list(hidden), classes, generator=generator).eval()
    with torch.no_grad():
        network[-1].weight.mul_(6)
        network[-1].bias.copy_(torch.linspace(-1, 1, classes))
    return network


def explore_sets(sets, *, title="digits", names=("teacher", "student", "other"), temperature=4.0):
    """Three networks on the sets, by name."""
    first = next(iter(sets.values()))
    inputs, classes = first.inputs[0].numel(), first.classes
    models = [
        Model(name, make_network(inputs, classes, seed=seed)) for seed, name in enumerate(names)
    ]
    shown = tuple(
        ExampleSet(
            name,
            examples,
            {model.name: compute_logits(model.network, examples) for model in models},
        )
        for name, examples in sets.items()
    )
    return Exploration(
        title=title,
        teacher=models[0],
        students=tuple(models[1:]),
        sets=shown,
        temperature=temperature,
    )


def with_class_names(examples, names):
    return TransferSet(examples.inputs, examples.hard_targets, class_names=names)
