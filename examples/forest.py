"""A forest of trees, distilled into a network of a thousand weights: `python examples/forest.py`.

A forest of scikit-learn is a good teacher and dear to serve. Its student is a network of one
hidden layer. The data are the 1,797 handwritten digits that come with scikit-learn. Here 300 of
them have a hard target, and 700 have none: the forest has an opinion about these as well, and the
student learns from all thousand.
"""

import argparse
import time
from functools import partial
from pathlib import Path

import torch
from shared import (
    Accuracy,
    choose,
    count_weights,
    measure,
    time_in_turn,
)
from sklearn.datasets import load_digits
from sklearn.ensemble import ExtraTreesClassifier
from torch import nn

import attar

LABELED = 300
TEMPERATURES = (0.5, 1.0, 2.0)  # below 1 too: the mean of many trees is softer than each


def run(
    folder: Path, *, trees: int = 300, epochs: int = 150, seeds: int = 5
) -> dict[str, Accuracy]:
    """Do all of it; return the test accuracies."""
    transfer, validation, test = load_sets()
    labeled = transfer.subset(torch.arange(LABELED))
    forest = ExtraTreesClassifier(trees, random_state=0)
    forest.fit(labeled.inputs.flatten(1), labeled.hard_targets)

    # Runs once; resumes if interrupted.
    targets = attar.label(forest, transfer, folder / f"targets-{trees}-trees")

    def distill(temperature: float, seed: int) -> nn.Module:
        return attar.distill(
            make_student(seed), transfer, targets, temperature=temperature, soft_weight=1.0,
            hard_weight=0.0, epochs=epochs, batch_size=64, learning_rate=2e-3, seed=seed,
        )  # fmt: skip

    def train_hard(passes: int, seed: int) -> nn.Module:
        return attar.train(
            make_student(seed), labeled, epochs=passes, batch_size=64, learning_rate=2e-3, seed=seed
        )

    # Each student has its choice, on the same validation examples. With hard targets that is
    # between as many passes over its examples, and as many steps, as the other takes.
    passes = choose((epochs, epochs * len(transfer) // LABELED), train_hard, validation)
    temperature = choose(TEMPERATURES, distill, validation)
    right = forest.predict(test.inputs.flatten(1)) == test.hard_targets.numpy()
    hard, _ = measure(partial(train_hard, passes), test, seeds)
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
    print(f"hard targets {passes} epochs")
    found = {
        "forest": Accuracy(float(right.mean())),
        "student, hard targets": hard,
        "student, distilled": soft,
    }
    print(f"accuracy on {len(test)} test examples; of students {seeds} seeds")
    for name, accuracy in found.items():
        print(f"  {name:<24}{accuracy}")
    return found


def load_sets() -> tuple[attar.TransferSet, attar.TransferSet, attar.TransferSet]:
    """Split the digits: 1,000 to learn from, 297 to choose by, 500 to test on."""
    digits = load_digits()
    images = torch.from_numpy(digits.images / 16).float()  # [1797, 8, 8]
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    hard_targets = torch.from_numpy(digits.target)
    everything = attar.TransferSet(images, hard_targets)
    learned, validation, test = order.split([1000, 297, 500])
    known = hard_targets[learned]
    known[LABELED:] = -1
    transfer = attar.TransferSet(images[learned], known, class_names=everything.class_names)
    return transfer, everything.subset(validation), everything.subset(test)


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
