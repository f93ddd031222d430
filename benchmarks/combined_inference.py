"""What specialists cost at inference: `python benchmarks/combined_inference.py`.

Prints, and with `--out FILE` writes as JSON: the time in which a generalist of 15,000 classes and
its active specialists answer 1,000 examples, the solve for q included, as a multiple of the
generalist's alone; for specialists that share its convolutions, and for ones that share nothing.
Networks are untrained, but normalized so that their most probable classes vary; with `--run FOLDER
--on FILE.npz` it is those of `attar reproduce specialists`, on glyphs. Kinds take turns.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from attar.models import ConvNet, conv_net
from attar.precision import keep_freed_memory
from attar.recipes.specialist_models import load_models
from attar.recipes.specialist_parts import split_generalist
from attar.records import this_machine, write_json
from attar.specialists import Specialist, SpecialistEnsemble

CLASSES, SPECIALISTS, SPECIAL, EXAMPLES, SIDE = 15_000, 48, 375, 1_000, 32


def make_generalist(images: Tensor) -> ConvNet:
    """Make an untrained network whose features are normalized on these images."""
    generator = torch.Generator().manual_seed(0)
    network = conv_net(SIDE, CLASSES, generator=generator)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = None  # the mean over all that it sees
    with torch.no_grad():
        network.train()(images)
    return network.eval()


def make_ensemble(generalist: ConvNet, trains: str) -> SpecialistEnsemble:
    """Give it specialists of random classes."""
    generator = torch.Generator().manual_seed(1)
    halves = split_generalist(generalist, trains=trains)
    specialists = []
    for _ in range(SPECIALISTS):
        classes = torch.randperm(CLASSES, generator=generator)[:SPECIAL].sort().values
        specialists.append(Specialist(classes, halves.narrow(classes).eval(), oversampling=39.0))
    return SpecialistEnsemble(halves.trunk, halves.upper, specialists, classes=CLASSES)


def take_turns(actions: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Run each action in turn; return median seconds of the processor. A first round warms up."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(rounds + 1):
        for name, action in actions.items():
            start = time.process_time()
            action()
            if turn:
                times[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def measure(images: Tensor, networks: dict[str, nn.Module], rounds: int) -> dict[str, float]:
    """Measure the networks, one of which is the generalist, on these images."""
    figures: dict[str, float] = {}
    with torch.inference_mode():
        for name, network in networks.items():
            if isinstance(network, SpecialistEnsemble):
                found = network.answer(network.trunk(images))
                chosen = networks["generalist"](images).argmax(dim=1)
                active = network.known[chosen].sum(dim=1).double().mean()
                figures[f"{name}: active specialists of an example"] = float(active)
                figures[f"{name}: steps of the descent"] = found.steps
        actions = {name: lambda net=net: net(images) for name, net in networks.items()}
        seconds = take_turns(actions, rounds)
    for name, value in seconds.items():
        figures[f"{name}: processor ms for {len(images):,} examples"] = 1000 * value
        if name != "generalist":
            figures[f"{name}: times the generalist alone"] = value / seconds["generalist"]
    return figures


def measure_untrained(rounds: int) -> dict[str, float]:
    """Measure networks of 15,000 classes that are not trained."""
    images = torch.rand(EXAMPLES, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    generalist = make_generalist(images)
    networks: dict[str, nn.Module] = {
        "generalist": generalist,
        "shared convolutions": make_ensemble(generalist, "upper"),
        "nothing shared": make_ensemble(generalist, "all"),
    }
    return measure(images, networks, rounds)


def main() -> None:
    """Measure, print, and write if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--run", type=Path, help="of `attar reproduce specialists`")
    parser.add_argument("--on", type=Path, help="glyphs of its classes, a .npz file")
    options = parser.parse_args()
    keep_freed_memory()
    if options.run:
        models, examples = load_models(options.run, options.on)
        chosen = torch.randperm(len(examples), generator=torch.Generator().manual_seed(0))
        images = examples.batch(chosen[:EXAMPLES]).inputs
        figures = measure(images, models, options.rounds)
    else:
        figures = measure_untrained(options.rounds)
    for name, value in figures.items():
        print(f"{name:68} {value:10.3f}")
    if options.out:
        write_json(options.out, {"figures": figures, "machine": asdict(this_machine())})


if __name__ == "__main__":
    main()
