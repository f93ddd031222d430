"""Single-byte flips in files that attar wrote: they change nothing that is computed, unnoticed.

Stores have tests of their own in tests/targets, experiments in tests/recipes. A larger number:
`PYTHONPATH=tests python -m test_flips 600`.
"""

import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest
import torch
from labeled import CLASSES, make_network, make_set

from attar import (
    Comparison,
    EnsembleNetwork,
    TemperatureSearch,
    compare,
    distill,
    label,
    load_ensemble,
    mlp,
    save_ensemble,
)
from attar.errors import AttarError
from attar.training import (
    TrainingRun,
    TrainingSettings,
    hard_target_loss,
    load_weights,
    save_weights,
)

SETTINGS = TrainingSettings(epochs=2, batch_size=8, learning_rate=0.1, seed=0, optimizer="adamw")
SEARCH = {
    "temperature": TemperatureSearch(temperatures=(1.0, 4.0), held_out=0.4),
    "soft_weight": 1.0, "hard_weight": 0.1, "epochs": 1, "batch_size": 8,
}  # fmt: skip


def state(network):
    return [tensor.numpy().tobytes() for tensor in network.state_dict().values()]


class Weights:
    name = "w.safetensors"

    def make(self, folder):
        save_weights(folder / self.name, make_network(1))

    def use(self, folder):
        network = make_network(2)
        load_weights(folder / self.name, network)
        return state(network)


class Ensembles:
    name = "e.safetensors"

    def make(self, folder):
        save_ensemble(folder / self.name, EnsembleNetwork([make_network(1), make_network(2)]))

    def use(self, folder):
        def make(generator):
            return mlp(36, [9], CLASSES, generator=generator)

        ensemble = load_ensemble(folder / self.name, make)
        return len(ensemble), ensemble.mean, state(ensemble)


class Checkpoints:
    name = "run.safetensors"

    def run(self, folder):
        path = folder / self.name
        network = make_network(3, hidden_dropout=0.5)
        return TrainingRun(
            network, make_set(), hard_target_loss, SETTINGS, checkpoint=path, checkpoint_seconds=0.0
        )

    def make(self, folder):
        for step in self.run(folder):
            if step.index == 4:
                return

    def use(self, folder):
        run = self.run(folder)
        list(run)
        return state(run.network), [epoch.mean_loss for epoch in run.history]


class Choices:
    name = "s.choice.json"

    def make(self, folder):
        store = label(make_network(1), make_set(), folder / "store")
        distill(make_network(4), make_set(), store, **SEARCH, checkpoint=folder / "s")

    def use(self, folder):
        # The student's own checkpoint stays: what its choice says is read and compared with it.
        return state(
            distill(
                make_network(4), make_set(), folder / "store", **SEARCH, checkpoint=folder / "s"
            )
        )


class Comparisons:
    name = "comparison.json"

    def make(self, folder):
        models = {"teacher": make_network(1), "student": make_network(2)}
        compare(models, make_set(), latency=False).save(folder / self.name)

    def use(self, folder):
        return Comparison.read(folder / self.name)


KINDS = (Weights(), Ensembles(), Checkpoints(), Choices(), Comparisons())


def try_flips(kind, folder, count, seed=0):
    """Flip one bit at a time, and count what follows: refused, the same, or, never, another."""
    kind.make(folder)
    path = folder / kind.name
    kept = {each: each.read_bytes() for each in folder.iterdir() if each.is_file()}
    expected = kind.use(folder)
    draw, found = random.Random(seed), Counter()
    for _ in range(count):
        for each, content in kept.items():
            each.write_bytes(content)
        changed = bytearray(kept[path])
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
        path.write_bytes(changed)
        try:
            found["same" if kind.use(folder) == expected else "other"] += 1
        except AttarError:
            found["refused"] += 1
    return found


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: type(kind).__name__)
def test_no_flipped_byte_changes_what_is_computed(kind, tmp_path):
    torch.set_num_threads(1)
    found = try_flips(kind, tmp_path, 25)
    assert found["other"] == 0
    assert found["refused"] > 15


if __name__ == "__main__":
    torch.set_num_threads(1)
    for each in KINDS:
        with tempfile.TemporaryDirectory() as place:
            told = dict(try_flips(each, Path(place), int(sys.argv[1])))
            sys.stdout.write(f"{type(each).__name__} {told}\n")
