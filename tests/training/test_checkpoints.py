import os
import pickle
import re

import pytest
import safetensors.torch
import torch
from torch import nn

from attar.errors import FolderError
from attar.models import mlp
from attar.training import TrainingSettings, checkpoints, save_weights

RUN = {"data": "0123", "settings": {"epochs": 3}}
STATE = {"steps_done": 3, "loss": 0.1 + 0.2, "history": [{"errors": None}], "name": "é"}


def make(optimizer="sgd", *, units=6, steps=0, seed=0):
    """Make a network and its optimizer, and train it for a few steps."""
    network = mlp(4, [units], 3, generator=torch.Generator().manual_seed(seed))
    settings = TrainingSettings(
        epochs=1, batch_size=1, learning_rate=0.1, seed=0, optimizer=optimizer
    )
    made = settings.make_optimizer(network.parameters())
    for step in range(steps):
        made.zero_grad()
        network(torch.full((2, 4), float(step + 1))).square().sum().backward()
        made.step()
    return network, made


def save_checkpoint(path, network, optimizer, state):
    checkpoints.save_checkpoint(path, network, optimizer, run=RUN, state=state)


def load_checkpoint(path, network, optimizer):
    return checkpoints.load_checkpoint(path, network, optimizer, run=RUN)


def flatten(network, optimizer):
    tensors = dict(network.state_dict())
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"{index}.{name}": slot for name, slot in slots.items() if slot is not None}
    return tensors


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.checkpoint.safetensors"


@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_network_optimizer_and_state_come_back_to_the_bit(path, optimizer, steps):
    saved = make(optimizer, steps=steps)
    save_checkpoint(path, *saved, STATE)
    loaded = make(optimizer, seed=1)
    assert load_checkpoint(path, *loaded) == STATE
    expected, found = flatten(*saved), flatten(*loaded)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_same_run_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        save_checkpoint(tmp_path / name, *make(steps=2), STATE)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_tied_weights_and_buffers_are_kept(path):
    def tied():
        network = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))
        network[2].weight = network[0].weight
        return network, torch.optim.SGD(network.parameters())

    network, optimizer = tied()
    network(torch.arange(12.0).view(4, 3))  # fills the running means
    save_checkpoint(path, network, optimizer, {})
    loaded, other = tied()
    load_checkpoint(path, loaded, other)
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_an_unfinished_checkpoint_leaves_the_one_before(path, monkeypatch):
    save_checkpoint(path, *make(steps=1), STATE)
    before = path.read_bytes()

    def stop(file):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, *make(steps=2), STATE)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_is_our_error_and_leaves_the_one_before(path, full_disk):
    save_checkpoint(path, *make(steps=1), STATE)
    before = path.read_bytes()
    with full_disk(100), pytest.raises(FolderError, match=rf"cannot write .*{path.name}"):
        save_checkpoint(path, *make(steps=2), STATE)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def expect_refusal(path, what=".*"):
    """The file is refused by its name, and neither network nor optimizer has changed."""
    network, optimizer = make(seed=1)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    with pytest.raises(FolderError) as caught:
        load_checkpoint(path, network, optimizer)
    expected = rf"[^;]*{path.name} {what}; remove it to train from the start"
    assert re.fullmatch(expected, str(caught.value))
    after = list(network.parameters())
    assert all(torch.equal(one, other) for one, other in zip(after, before, strict=True))
    assert not optimizer.state_dict()["state"]


@pytest.mark.parametrize("part", [0, 4, 8, 50, 0.5, 0.9, -1])
def test_a_truncated_checkpoint_is_named(path, part):
    save_checkpoint(path, *make(steps=2), STATE)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content)) if isinstance(part, float) else part])
    expect_refusal(path)


@pytest.mark.parametrize("place", [3, 0.1, 0.3, 0.5, 0.7, 0.9, -1])
def test_a_flipped_bit_is_noticed(path, place):
    save_checkpoint(path, *make(steps=2), STATE)
    content = bytearray(path.read_bytes())
    content[int(place * len(content)) if isinstance(place, float) else place] ^= 4
    path.write_bytes(content)
    expect_refusal(path)


@pytest.mark.parametrize("kind", [b"I32", b"U32"])
def test_a_changed_type_of_a_tensor_is_noticed(path, kind):
    save_checkpoint(path, *make(steps=2), STATE)
    content = path.read_bytes()
    for place in (found.start() for found in re.finditer(b"F32", content)):
        path.write_bytes(content[:place] + kind + content[place + 3 :])
        expect_refusal(path, "is damaged: its checksum does not match its content")


def test_other_files_are_refused(path):
    network, _ = make()
    save_weights(path, network)
    expect_refusal(path)
    for content in (b"{}", b"\0" * 1000, b"PK\x03\x04" + bytes(100)):
        path.write_bytes(content)
        expect_refusal(path)


@pytest.mark.parametrize("state", ["", "[", "null", "{}", "[1]", '"run"'])
def test_a_checkpoint_with_another_state_is_refused(path, state):
    save_checkpoint(path, *make(steps=1), STATE)
    tensors = safetensors.torch.load(path.read_bytes())
    path.write_bytes(safetensors.torch.save(tensors, metadata={"checkpoint": state}))
    expect_refusal(path)


def test_a_checkpoint_of_another_network_is_refused(path):
    save_checkpoint(path, *make(units=7, steps=1), STATE)
    expect_refusal(path, r"is not a checkpoint of this network \(1.weight is \[7, 4\] .*\)")


@pytest.mark.parametrize(
    ("other", "names"),
    [
        (RUN | {"data": "4567"}, "data"),
        (RUN | {"settings": {"epochs": 4}}, "settings"),
        ({}, "data and settings"),
        (RUN | {"views": "jitter"}, "views"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_and_changes_nothing(path, other, names):
    save_checkpoint(path, *make(steps=2), STATE)
    network, optimizer = make(seed=1)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    expected = (
        rf"{path.name} is the checkpoint of a run with different {names}; choose another path"
    )
    with pytest.raises(FolderError, match=expected):
        checkpoints.load_checkpoint(path, network, optimizer, run=other)
    after = list(network.parameters())
    assert all(torch.equal(one, other) for one, other in zip(after, before, strict=True))
    assert not optimizer.state_dict()["state"]


def test_a_missing_checkpoint_is_named(path):
    with pytest.raises(FolderError, match=rf"cannot read .*{path.name}: No such file"):
        load_checkpoint(path, *make())


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("dump", [pickle.dump, torch.save])
def test_a_pickle_is_refused_and_not_run(path, tmp_path, dump):
    with path.open("wb") as file:
        dump({"network": Trap(tmp_path / "sprung")}, file)
    expect_refusal(path)
    assert not (tmp_path / "sprung").exists()


def test_nothing_is_pickled_or_unpickled(path, monkeypatch):
    def fail(*arguments, **options):
        raise AssertionError("pickled")

    for module, name in (
        (pickle, "load"),
        (pickle, "loads"),
        (pickle, "Unpickler"),
        (pickle, "dump"),
        (pickle, "dumps"),
        (torch, "load"),
        (torch, "save"),
    ):
        monkeypatch.setattr(module, name, fail)
    save_checkpoint(path, *make(steps=1), STATE)
    load_checkpoint(path, *make())


def test_an_optimizers_state_follows_its_parameters():
    network, optimizer = make("adamw", steps=2)
    network.to("meta")  # as a wrapper may move it after the state was restored
    checkpoints.move_state(optimizer)
    for parameter, slots in optimizer.state.items():
        assert slots["exp_avg"].device == parameter.device
        assert slots["step"].device.type == "cpu"
