"""The files that `attar init` writes: a job that runs unchanged, and its networks."""

from pathlib import Path

from attar.errors import FolderError
from attar.files import make_folder, write_atomically

JOB = """\
# A distillation job: train a teacher, label, distill, compare.
#
#   attar plan {name}    estimates size, time and memory; writes nothing
#   attar run {name}     runs the job; resumes if interrupted
#
# Steps whose inputs have not changed are skipped. Results go to {stem}/, beside this file.
# Paths and file.py:name are relative to this file; docs/job.md explains every key.

[transfer_set]               # inputs on which the students see soft targets
source = "mnist"             # or "data.npz", "data.parquet", "data.csv", "data.py:make_set", or a
                             # folder with one folder of images per class
examples = 20000             # the first N examples; all without this line
# target = "species"         # column or array of hard targets; by default "hard_targets"
# unlabeled = true           # no hard targets; then set classes = 10 or class_names = [...]
jitter = 2                   # views shift each image by up to 2 pixels; a trained teacher sees
                             # a different view in every epoch

[test_set]                   # examples on which the models are compared
source = "mnist"

[teacher]                    # for an ensemble, write several tables [[teacher]]
source = "networks.py:make_teacher"  # or "teacher.onnx", or stored scores: "scores.npy"
# weights = "teacher.safetensors"    # of a trained teacher, instead of [teacher.train]

[teacher.train]              # trains the teacher on the hard targets
epochs = 10
batch_size = 128
learning_rate = 0.002
optimizer = "adamw"          # or "sgd"

[soft_targets]               # how the teacher's outputs are stored
encoding = "dense"           # all logits; "sparse" keeps the k largest and the tail
# k = 32                     # for the sparse encoding
views = [0]                  # 0 is the plain example; with jitter also 1, 2, ...

[student]
source = "networks.py:make_student"

[distill]                    # minimizes soft_weight * T^2 * soft + hard_weight * hard
temperature = 4.0            # or "auto": chosen by errors on held-out examples
soft_weight = 1.0
hard_weight = 0.1
epochs = 20
batch_size = 128
learning_rate = 0.002
optimizer = "adamw"
seeds = [0]                  # one student per seed; several seeds show the spread

[baseline]                   # the same students on hard targets alone; remove it to save time

[compare]
report = true                # write an HTML report
"""

NETWORKS = '''\
"""The networks of the job file. Replace them by your torch modules that return logits."""

import torch

import attar


def make_teacher() -> torch.nn.Module:
    """Make the cumbersome network."""
    return attar.mlp(
        784, [1200, 1200], 10, hidden_dropout=0.2, max_norm=2.0, generator=torch.default_generator
    )


def make_student() -> torch.nn.Module:
    """Make the small network. The job seeds torch's default generator."""
    return attar.mlp(784, [300, 300], 10, generator=torch.default_generator)
'''
FILE = "networks.py"


def write_template(path: Path) -> tuple[Path, ...]:
    """Write an example job file, and `networks.py` beside it unless it exists.

    Returns:
        The files that were written.

    Raises:
        FolderError: If the file exists already, or cannot be written.
    """
    if path.suffix != ".toml":
        raise FolderError(f"expected the path of a .toml file, got {path}; try {path}/job.toml")
    if path.exists():
        raise FolderError(f"{path} exists already; pass another path or remove it")
    make_folder(path.parent)
    write_atomically(path, JOB.format(name=path.name, stem=path.stem).encode())
    networks = path.with_name(FILE)
    if networks.exists():
        return (path,)
    write_atomically(networks, NETWORKS.encode())
    return path, networks
