"""SIGKILL at random moments, in short: labeling and distilling end with the same bytes."""

import json
import os
import subprocess
import sys

import pytest

KILLED = """
import json, os, random, signal, sys, time
from functools import partial
from pathlib import Path
import torch
from attar import Jitter, Sparse, TransferSet, distill, distillation, label, mlp
from attar.training import TrainingRun, TrainingSettings, save_weights

folder = Path(sys.argv[1])
torch.set_num_threads(1)
distillation.TrainingRun = partial(TrainingRun, checkpoint_seconds=0.0)


def make_network(seed):
    return mlp(64, [20], 6, generator=torch.Generator().manual_seed(seed), hidden_dropout=0.5)


def make_set():
    images = torch.randint(256, (120, 8, 8), generator=torch.Generator().manual_seed(0))
    return TransferSet(images.to(torch.uint8), torch.arange(120) % 6, views=Jitter(pixels=1))


def run_label(name):
    told = []
    label(
        [make_network(1), make_network(2)], make_set(), folder / name, encoding=Sparse(k=2),
        views=(0, 1), workers=2, batch_size=2, shard_examples=8, progress=told.append,
    )
    with (folder / f"{name}.starts").open("a") as file:
        file.write(f"{told[0].rows}\\n")


def run_distill(name):
    student, steps = make_network(3), []
    distill(
        student, make_set(), folder / "label", temperature=3.0, soft_weight=1.0, hard_weight=0.5,
        epochs=10, batch_size=12, checkpoint=folder / f"{name}.checkpoint",
        progress=lambda step: steps.append(step.index),
    )
    save_weights(folder / f"{name}.weights", student)
    with (folder / f"{name}.starts").open("a") as file:
        file.write(f"{steps[0] - 1 if steps else -1}\\n")


def start(run, name):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            run(name)
            code = 0
        finally:
            os._exit(code)
    return child


def state(name):
    # What tells that it goes on: finished shards, or the checkpoint's last change.
    path = folder / f"{name}.checkpoint"
    shards = len(list((folder / name).glob("shard*"))) if (folder / name).exists() else 0
    return shards, path.stat().st_mtime_ns if path.exists() else 0


def kill_often(run, name, times):
    kills = 0
    while True:
        child = start(run, name)
        to_pass, passed, before, done, status = draw.randrange(12), 0, state(name), 0, 0
        while not done and (kills == times or passed < to_pass):
            time.sleep(0.0005)
            now = state(name)
            passed, before = passed + (now != before), now
            done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return kills, status
        time.sleep(draw.uniform(0, 0.004))
        os.kill(child, signal.SIGKILL)
        kills += os.waitpid(child, 0)[1] == signal.SIGKILL


# What torch imports at the first use of an optimizer: here, so that the children need not.
TrainingSettings(epochs=1, batch_size=1, learning_rate=0.1, seed=0).make_optimizer(
    torch.nn.Linear(1, 1).parameters()
).step()
draw, found = random.Random(0), {}
for run, name in ((run_label, "label"), (run_distill, "distill")):
    os.waitpid(start(run, name), 0)
    found[name] = kill_often(run, f"{name}-killed", 6)
print(json.dumps(found))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_random_moments_store_and_student_are_the_same(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name, (kills, status) in json.loads(done.stdout).items():
        assert status == 0, (name, done.stderr)
        assert kills >= 2, name
        starts = (tmp_path / f"{name}-killed.starts").read_text().split()
        assert int(starts[-1]) > 0, name  # it went on where another had been killed
    whole, killed = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("label", "label-killed")
    )
    assert killed == whole
    weights = [(tmp_path / f"{n}.weights").read_bytes() for n in ("distill", "distill-killed")]
    assert weights[0] == weights[1]
