"""`temperature = "auto"` in a job file: chosen once, told, kept; refused before all else."""

import json
import math

import numpy as np
import pytest

from attar.errors import JobError
from attar.jobs import planning, read_job, running
from attar.jobs.planning import plan_job

LOOKS_AT_THE_DATA = """

class Looking(nn.Linear):
    def forward(self, inputs):
        logits = super().forward(inputs.flatten(1).float())
        return logits if logits.sum() > 0 else -logits


def make_looking():
    return Looking(16, 3)
"""


@pytest.fixture
def auto(folder):
    folder.edit("4.0", '"auto"')
    return folder


def test_a_chosen_temperature_is_told_and_kept(auto):
    told = auto.run()
    record = json.loads((auto.root / "job/distill/seed-0/temperature.json").read_text())
    chosen = next(line for line in told if line.startswith("distill seed-0: temperature "))
    assert chosen.startswith(f"distill seed-0: temperature {record['temperature']:g}, hard weight")
    assert record["temperature"] in {each["temperature"] for each in record["candidates"]}
    assert (auto.root / "job/distill/seed-0/temperature.svg").read_text().startswith("<?xml")
    assert not auto.contents("**/*checkpoint*")
    before = auto.contents("**/*.*")
    assert "distill seed-0: nothing has changed, skipped" in auto.run()
    assert auto.contents("**/*.*") == before


def test_going_on_after_the_choice_does_not_choose_again(auto, monkeypatch):
    told = auto.run()
    auto_bytes = auto.contents()
    place = auto.root / "job/distill/seed-0"
    kept = (place / "temperature.json").read_bytes()
    record = json.loads((place / "step.json").read_text())
    for path in place.iterdir():
        path.unlink()
    (place / "step.json").write_text(json.dumps(record | {"done": False, "outputs": {}}))
    (place / "checkpoint.safetensors.choice.json").write_bytes(kept)
    monkeypatch.setattr("attar.temperatures.choice.Cohort", None)  # so that no search can begin
    again = auto.run("distill")
    assert next(line for line in told if ": temperature" in line) in again
    assert auto.contents() == auto_bytes


def test_progress_of_the_search_and_the_training_is_told_apart(auto):
    told = []
    running.run_job(read_job(auto.path), ("train", "label", "distill"), told.append)
    shown = [each for each in told if not isinstance(each, str)]
    for title in ("distill seed-0, the temperature", "distill seed-0"):
        fractions = [each.fraction for each in shown if each.title == title]
        assert fractions == sorted(fractions)
        assert math.isclose(fractions[-1], 1.0)


def run_all(job):
    running.run_job(job, running.PARTS, print)


@pytest.mark.parametrize("check", [plan_job, run_all])
def test_what_cannot_be_searched_is_refused_before_anything_is_spent(auto, check):
    spent = auto.root / "job" / "train"
    few = np.load(auto.root / "train.npz")
    targets = np.where(np.arange(40) < 4, few["hard_targets"], -1)
    np.savez(auto.root / "train.npz", inputs=few["inputs"], hard_targets=targets)
    with pytest.raises(JobError, match=r"19, distill.temperature: too few examples with hard tar"):
        check(read_job(auto.path))
    np.savez(auto.root / "train.npz", **few)
    with (auto.root / "networks.py").open("a") as file:
        file.write(LOOKS_AT_THE_DATA)
    auto.edit("make_student", "make_looking")
    with pytest.raises(
        JobError, match=r"distill.temperature: expected networks that.*; or try tem"
    ):
        check(read_job(auto.path))
    assert not spent.exists()


def test_the_plan_asks_for_what_the_search_tries():
    assert planning.SEARCH.temperatures[0] >= 1  # sparse soft targets know no other
