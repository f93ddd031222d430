"""No byte of a finished run's folder can change and change a number that the run reports."""

import os
import random
from dataclasses import asdict

import pytest

from attar.errors import AttarError
from attar.recipes import ensemble, losses, mnist, temperature
from attar.records import ExperimentResult

TRIALS = 20  # of an experiment, two or three a file
TINY = {
    temperature: temperature.Config(
        seeds=1, teacher_units=6, teacher_epochs=1, student_units="5", temperatures="1,4,10",
        distilled_epochs="1", batch_size=100,
    ),
    ensemble: ensemble.Config(
        seeds=1, members=2, teacher_units=6, teacher_epochs=1, student_units=5,
        distilled_epochs=1, batch_size=100,
    ),
    mnist: mnist.Config(
        seeds=1, teacher_units=6, teacher_epochs=1, student_units=5, student_epochs=1,
        distilled_epochs=1,
    ),
    losses: losses.Config(
        seeds=1, teacher_units=6, teacher_epochs=1, student_units=4, temperatures="2",
        soft_weights="1,4", choice_epochs=1, epochs=1, batch_size=100, held_out=100,
    ),
}  # fmt: skip


def run(recipe, folder):
    """Run an experiment, or what is left of it; return all that it reports."""
    list(recipe.run(TINY[recipe], folder, command="attar ..."))
    result = asdict(ExperimentResult.read(folder / f"{recipe.EXPERIMENT}.json"))
    del result["machine"]  # which made the table: this one
    return result


def flip(content, lots):
    changed = bytearray(content)
    changed[lots.randrange(len(content))] ^= 1 << lots.randrange(8)
    return bytes(changed)


def try_flips(recipe, folder, trials, seed=0):
    """Change one bit at a time, and run again; return the files whose change altered a result."""
    expected = run(recipe, folder)
    name = f"{recipe.EXPERIMENT}.json"
    # Nothing reads pictures and pages: they are made from the result.
    before = {
        path: path.read_bytes()
        for path in sorted(folder.iterdir())
        if path.suffix in (".json", ".safetensors")
    }
    lots, altered = random.Random(seed), []
    for trial in range(trials):
        for path, content in before.items():
            path.write_bytes(content)
        damaged = list(before)[trial % len(before)]
        damaged.write_bytes(flip(before[damaged], lots))
        if damaged.name != name:
            (folder / name).unlink()  # so that it is made again from the other files
        try:
            found = run(recipe, folder)
        except AttarError:
            continue
        if found != expected:
            altered.append(damaged.name)
    return altered


@pytest.mark.parametrize("recipe", [temperature, mnist], ids=lambda recipe: recipe.EXPERIMENT)
def test_a_changed_byte_is_told_or_changes_nothing(recipe, tmp_path, monkeypatch, few_digits):
    monkeypatch.setattr(recipe, "load_mnist", lambda: few_digits)
    monkeypatch.setattr(temperature, "draw_curves", lambda *arguments, **options: None)
    monkeypatch.setattr(os, "fsync", lambda file: None)
    assert try_flips(recipe, tmp_path, TRIALS) == []
