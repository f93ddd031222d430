"""What `attar init` writes: a job that runs as it is, and the networks it names."""

from pathlib import Path

from attar.errors import FolderError
from attar.files import make_folder, write_atomically

JOB = """\
# A distillation, from the teacher to the comparison.
#
#   attar plan {name}    what it will take: bytes, time, memory; writes nothing
#   attar run {name}     all of it; stopped and started again, it goes on where it was
#
# Steps whose inputs have not changed are skipped. Results go to {stem}/, beside this file.
# Paths and file.py:name are relative to this file; docs/job.md explains every key.

[transfer_set]               # the inputs that the teacher labels and the students learn from
source = "mnist"             # or "data.npz", "data.parquet", "data.csv", a folder of images with a
                             # folder for each class, or "data.py:make_set"
examples = 20000             # the first so many; without this line, all
# target = "species"         # the column, or array, of hard targets; by default "hard_targets"
# unlabeled = true           # if there is none; then say classes = 10, or class_names = [...]
jitter = 2                   # views that show each image shifted by up to 2 pixels: to a teacher
                             # that is trained, another one every epoch

[test_set]                   # what the models are compared on
source = "mnist"

[teacher]                    # write [[teacher]], several times, for an ensemble
source = "networks.py:make_teacher"  # or "teacher.onnx", or scores made elsewhere: "scores.npy"
# weights = "teacher.safetensors"    # of one that is trained already, instead of what follows

[teacher.train]              # trains it on the hard targets; leave it out if there are weights
epochs = 10
batch_size = 128
learning_rate = 0.002
optimizer = "adamw"          # or "sgd"

[soft_targets]               # what is kept of the teacher's answers
encoding = "dense"           # every logit; "sparse" keeps the k largest and the tail
# k = 32                     # for sparse ones
views = [0]                  # 0 is the plain example; with jitter also 1, 2, ...

[student]
source = "networks.py:make_student"

[distill]                    # minimizes soft_weight * T^2 * soft + hard_weight * hard
temperature = 4.0            # or "auto": several are tried on examples that are held out
soft_weight = 1.0
hard_weight = 0.1
epochs = 20
batch_size = 128
learning_rate = 0.002
optimizer = "adamw"
seeds = [0]                  # a student for each; several tell what is chance

[baseline]                   # the same students on hard targets alone; leave it out to save time

[compare]
report = true                # a page for your browser
"""

NETWORKS = '''\
"""The networks of the job file. Put yours in their place: any torch module that returns logits."""

import torch

import attar


def make_teacher() -> torch.nn.Module:
    """Make the cumbersome network."""
    return attar.mlp(
        784, [1200, 1200], 10, hidden_dropout=0.2, max_norm=2.0, generator=torch.default_generator
    )


def make_student() -> torch.nn.Module:
    """Make the small one, with first weights by the seed: the job seeds the default generator."""
    return attar.mlp(784, [300, 300], 10, generator=torch.default_generator)
'''
FILE = "networks.py"


def write_template(path: Path) -> tuple[Path, ...]:
    """Write an example of a job file, and `networks.py` beside it, unless there is one.

    Returns:
        The files that were written.

    Raises:
        FolderError: If there is a file at the path already, or it cannot be written.
    """
    if path.suffix != ".toml":
        raise FolderError(f"expected the path of a .toml file, got {path}; try {path}/job.toml")
    if path.exists():
        raise FolderError(f"{path} is there already; give another path, or remove it")
    make_folder(path.parent)
    write_atomically(path, JOB.format(name=path.name, stem=path.stem).encode())
    networks = path.with_name(FILE)
    if networks.exists():
        return (path,)
    write_atomically(networks, NETWORKS.encode())
    return path, networks
