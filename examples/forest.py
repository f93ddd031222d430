"""A random forest, distilled into a network of a thousand weights: `python examples/forest.py`.

A forest of scikit-learn is a good teacher and dear to serve. Its student is a network of one
hidden layer. The data are the 1,797 handwritten digits that come with scikit-learn.

A teacher can be asked about any input, so the transfer set need not end where the labeled examples
do. Here each gets crossings with its near neighbors, without a hard target, in the manner of
Buciluă, Caruana & Niculescu-Mizil (2006), "Model compression".
"""

import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from shared import (
    Accuracy,
    choose,
    count_weights,
    measure,
    time_in_turn,
    train_on_hard_targets,
)
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import NearestNeighbors
from torch import nn

import attar

TEMPERATURES = (1.0, 2.0, 4.0)


def run(
    folder: Path, *, trees: int = 500, crossings: int = 9, epochs: int = 30, seeds: int = 5
) -> dict[str, Accuracy]:
    """Do all of it; return the test accuracies."""
    train, validation, test = load_sets()
    forest = RandomForestClassifier(trees, random_state=0)
    forest.fit(train.inputs.flatten(1), train.hard_targets)

    # Once. Stopped and started again it goes on where it was.
    transfer = add_crossings(train, crossings)
    targets = attar.label(forest, transfer, folder / f"targets-{trees}-{crossings}")

    def distill(temperature: float, seed: int) -> nn.Module:
        return attar.distill(
            make_student(seed), transfer, targets, temperature=temperature,
            soft_weight=1.0, hard_weight=0.0, epochs=epochs, batch_size=64, seed=seed,
        )  # fmt: skip

    def train_hard(longer: int, seed: int) -> nn.Module:
        return train_on_hard_targets(make_student(seed), train, epochs=longer * epochs, seed=seed)

    # Each student has its choice, on the same validation examples. With hard targets that is
    # between as many passes over the labeled examples, and as many steps, as the other takes.
    longer = choose((1, 1 + crossings), train_hard, validation)
    temperature = choose(TEMPERATURES, distill, validation)
    right = forest.predict(test.inputs.flatten(1)) == test.hard_targets.numpy()
    hard, _ = measure(partial(train_hard, longer), test, seeds)
    soft, student = measure(partial(distill, temperature), test, seeds)

    one = test.inputs[:1]
    milliseconds = time_in_turn(
        {
            "forest": lambda: forest.predict_proba(one.flatten(1)),
            "student": lambda: student(one),
        }
    )
    nodes = sum(tree.tree_.node_count for tree in forest.estimators_)
    print(f"forest: {nodes:,} nodes, {milliseconds['forest']:.2f} ms an example")
    print(f"student: {count_weights(student):,} weights, {milliseconds['student']:.3f} ms")
    print(f"chosen on {len(validation)} validation examples: T = {temperature:g}, and for")
    print(f"hard targets {longer * epochs} epochs")
    found = {
        "random forest": Accuracy(float(right.mean())),
        "student, hard targets": hard,
        "student, distilled": soft,
    }
    print(f"accuracy on {len(test)} test examples; of students {seeds} seeds")
    for name, accuracy in found.items():
        print(f"  {name:<24}{accuracy}")
    return found


def load_sets() -> tuple[attar.TransferSet, attar.TransferSet, attar.TransferSet]:
    """Split the digits: 1,000 to train on, 297 to choose by, 500 to test on."""
    digits = load_digits()
    images = torch.from_numpy(digits.images / 16).float()  # [1797, 8, 8]
    everything = attar.TransferSet(images, digits.target)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    train, validation, test = order.split([1000, 297, 500])
    return everything.subset(train), everything.subset(validation), everything.subset(test)


def add_crossings(train: attar.TransferSet, crossings: int) -> attar.TransferSet:
    """Add unlabeled examples: each pixel from an example, or from one of its near neighbors."""
    images, draw = train.inputs, np.random.default_rng(0)
    finder = NearestNeighbors(n_neighbors=6).fit(images.flatten(1))
    near = finder.kneighbors(images.flatten(1), return_distance=False)[:, 1:]  # [examples, 5]
    parts = [images]
    for _ in range(crossings):
        chosen = near[np.arange(len(images)), draw.integers(near.shape[1], size=len(images))]
        from_neighbor = torch.from_numpy(draw.random(images.shape) < 0.5)
        parts.append(torch.where(from_neighbor, images[torch.from_numpy(chosen)], images))
    unlabeled = torch.full((crossings * len(images),), -1)
    hard_targets = torch.cat([train.hard_targets, unlabeled])
    return attar.TransferSet(torch.cat(parts), hard_targets, class_names=train.class_names)


def make_student(seed: int) -> nn.Module:
    """Make the network that is going to be served."""
    return attar.mlp(64, [16], 10, generator=torch.Generator().manual_seed(seed))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/forest"), help="of soft targets")
    started = time.monotonic()
    run(parser.parse_args().folder)
    seconds = time.monotonic() - started
    print(f"in {seconds:.0f} seconds, {time.process_time():.0f} of processor time")
