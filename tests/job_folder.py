"""A user's folder with a job in small: job file, networks, data."""

from pathlib import Path

import numpy as np

from attar.jobs import PARTS, read_job, run_job

NETWORKS = """
import torch
from torch import nn


def make_teacher():
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3))


def make_student():
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.ReLU(), nn.Linear(4, 3))
"""
JOB = """\
# a job in small
[transfer_set]
source = "train.npz"

[test_set]
source = "test.npz"

[teacher]
source = "networks.py:make_teacher"
[teacher.train]
epochs = 2
batch_size = 16
learning_rate = 0.01

[student]
source = "networks.py:make_student"

[distill]
temperature = 4.0
soft_weight = 1.0
hard_weight = 0.1
epochs = 2
batch_size = 16

[baseline]

[compare]
latency = false
"""


WRONG_TEACHER = """
import torch


class Wrong(torch.nn.Module):
    def forward(self, inputs):
        return torch.tensor([2.0, 0.0, 0.0]).expand(len(inputs), 3)


"""


class JobFolder:
    """A user's folder with a job file, its networks and its data."""

    def __init__(self, root: Path, *, new: bool = True) -> None:
        self.root, self.path = root, root / "job.toml"
        if not new:
            return
        self.path.write_text(JOB, encoding="utf-8")
        (root / "networks.py").write_text(NETWORKS, encoding="utf-8")
        for name, examples in (("train", 40), ("test", 30)):
            draw = np.random.default_rng(examples)
            hard_targets = np.arange(examples) % 3
            images = draw.integers(60, size=(examples, 4, 4)) + 90 * hard_targets[:, None, None]
            np.savez(
                root / f"{name}.npz", inputs=images.astype(np.uint8), hard_targets=hard_targets
            )

    def edit(self, before: str, after: str, name: str = "job.toml") -> None:
        text = (self.root / name).read_text(encoding="utf-8")
        assert before in text
        (self.root / name).write_text(text.replace(before, after), encoding="utf-8")

    def spoil_teacher(self, examples: int = 120) -> None:
        """Take a teacher that always answers the same class, and examples enough to tell."""
        self.edit("[teacher.train]\nepochs = 2\nbatch_size = 16\nlearning_rate = 0.01\n", "")
        self.edit("networks.py:make_teacher", "wrong.py:Wrong")
        (self.root / "wrong.py").write_text(WRONG_TEACHER, encoding="utf-8")
        hard_targets = np.arange(examples) % 3
        images = np.repeat(80 * hard_targets, 16).reshape(examples, 4, 4).astype(np.uint8)
        np.savez(self.root / "train.npz", inputs=images, hard_targets=hard_targets)

    def run(self, *parts: str) -> list[str]:
        """Run the job; answer the lines that it says, without times."""
        told: list[object] = []
        run_job(read_job(self.path), parts or PARTS, told.append)
        lines = [each for each in told if isinstance(each, str)]
        return [line.partition(" (the earlier")[0] for line in lines if ": done in " not in line]

    def contents(self, *patterns: str) -> dict[str, bytes]:
        """The files of the job's folder that people keep, by path."""
        found = self.root / "job"
        return {
            str(path.relative_to(found)): path.read_bytes()
            for pattern in patterns or ("**/*.safetensors", "**/*.arrow", "**/manifest.json")
            for path in sorted(found.glob(pattern))
        }
