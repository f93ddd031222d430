"""A folder of images, and a convolutional teacher of torch: `python examples/images.py`.

The folder is made here, of the MNIST digits that attar brings along: a folder for each class, with
PNG files in it. Put your own in its place: `--train FOLDER --test FOLDER`, images of 28 × 28.
The teacher is a convolutional network; its student, a single hidden layer of 32 units.
"""

import argparse
import time
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from shared import (
    Accuracy,
    choose,
    count_weights,
    measure,
    time_in_turn,
)
from torch import nn

import attar

SIDE = 28
TEMPERATURES = (2.0, 4.0, 8.0)


def run(
    folder: Path,
    train_folder: Path,
    test_folder: Path,
    *,
    teacher_epochs: int = 16,
    epochs: int = 20,
    seeds: int = 3,
) -> dict[str, Accuracy]:
    """Do all of it; return the test accuracies."""
    everything = attar.read_image_folder(train_folder, size=(SIDE, SIDE), colors="L")
    test = attar.read_image_folder(
        test_folder, size=(SIDE, SIDE), colors="L", class_names=everything.class_names
    )
    order = torch.randperm(len(everything), generator=torch.Generator().manual_seed(0))
    validation, train = (everything.subset(part) for part in order.split_with_sizes(
        [len(order) // 5, len(order) - len(order) // 5]
    ))  # fmt: skip

    teacher = make_teacher(train.classes)
    shifted = train.with_views(attar.Jitter(pixels=2))  # every epoch shows another view
    attar.train(teacher, shifted, epochs=teacher_epochs, batch_size=64, learning_rate=2e-3)
    targets = attar.label(teacher, train, folder / "targets")

    def distill(temperature: float, seed: int) -> nn.Module:
        return attar.distill(
            make_student(train.classes, seed), train, targets, temperature=temperature,
            soft_weight=1.0, hard_weight=0.0, epochs=epochs, batch_size=64, learning_rate=3e-3,
            seed=seed,
        )  # fmt: skip

    def train_hard(passes: int, seed: int) -> nn.Module:
        return attar.train(
            make_student(train.classes, seed), train, epochs=passes, batch_size=64,
            learning_rate=3e-3, seed=seed,
        )  # fmt: skip

    # Each student has its choice, on the same validation images.
    passes = choose((max(1, epochs // 4), epochs), train_hard, validation)
    temperature = choose(TEMPERATURES, distill, validation)
    hard, _ = measure(partial(train_hard, passes), test, seeds)
    soft, student = measure(partial(distill, temperature), test, seeds)

    one = test.batch(torch.tensor([0])).inputs
    cost = time_in_turn({"teacher": lambda: teacher(one), "student": lambda: student(one)})
    for name, network in (("teacher", teacher), ("student", student)):
        print(f"{name}: {count_weights(network):,} weights, {cost[name]:.3f} ms an image")
    print(f"chosen on {len(validation)} validation images: T = {temperature:g}, and for")
    print(f"hard targets {passes} epochs")
    found = {
        "convolutional teacher": Accuracy(attar.evaluate(teacher, test).accuracy),
        "student, hard targets": hard,
        "student, distilled": soft,
    }
    print(f"accuracy on {len(test)} test images; of students {seeds} seeds")
    for name, accuracy in found.items():
        print(f"  {name:<24}{accuracy}")
    return found


def make_teacher(classes: int) -> nn.Module:
    """Make a convolutional network."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),  # [16, 14, 14]
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),  # [32, 7, 7]
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(32 * 7 * 7, 128),
            nn.ReLU(),
            nn.Linear(128, classes),
        )


def make_student(classes: int, seed: int) -> nn.Module:
    """Make the network that is going to be served."""
    generator = torch.Generator().manual_seed(seed)
    return attar.mlp(SIDE * SIDE, [32], classes, generator=generator)


def make_image_folder(folder: Path, digits: attar.TransferSet) -> Path:
    """Write a PNG file for each digit, into the folder of its class; once."""
    if folder.exists():
        return folder
    half_made = folder.with_name(f"{folder.name}.partial")
    for index, (pixels, hard_target) in enumerate(
        zip(digits.inputs, digits.hard_targets.tolist(), strict=True)
    ):
        path = half_made / str(hard_target) / f"{index:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.reshape(SIDE, SIDE).numpy()).save(path)
    return half_made.rename(folder)


def main() -> None:
    """Read the options, make the folders, run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/images"), help="of what is kept")
    parser.add_argument("--train", type=Path, help="a folder of images for each class")
    parser.add_argument("--test", type=Path, help="the same, to test on")
    options = parser.parse_args()
    if (options.train is None) != (options.test is None):
        parser.error("expected both --train and --test, or neither")
    started = time.monotonic()
    folders = options.train, options.test
    if options.train is None:
        mnist = attar.load_mnist()
        folders = (
            make_image_folder(options.folder / "train", mnist.train.subset(torch.arange(10_000))),
            make_image_folder(options.folder / "test", mnist.test.subset(torch.arange(5_000))),
        )
    run(options.folder, *folders)
    seconds = time.monotonic() - started
    print(f"in {seconds:.0f} seconds, {time.process_time():.0f} of processor time")


if __name__ == "__main__":
    main()
