"""Weights come from attar's files, other safetensors and torch checkpoints, or nothing changes."""

import os
import pickle
from collections import OrderedDict

import pytest
import safetensors.torch
import torch
from torch import nn

import attar
from attar.errors import AttarError, FolderError
from attar.weights import load_weights, read_weights, save_weights


def make(seed: int = 0, units: int = 6) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, units), nn.BatchNorm1d(units), nn.Linear(units, 3))


def prefixed(prefix: str, network: nn.Module) -> dict:
    return {prefix + name: tensor for name, tensor in network.state_dict().items()}


def expect_loaded(path, network=None) -> None:
    expected, found = (network or make()).state_dict(), make(seed=1)
    load_weights(path, found)
    assert all(torch.equal(found.state_dict()[name], each) for name, each in expected.items())


def expect_refused(path, told) -> None:
    """Raise the error, and leave the network as it was."""
    network, before = make(seed=1), make(seed=1).state_dict()
    with pytest.raises(FolderError, match=told) as error:
        load_weights(path, network)
    assert path.name in str(error.value)
    assert all(torch.equal(network.state_dict()[name], each) for name, each in before.items())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "student.safetensors"


# attar's own files


def test_weights_come_back_to_the_bit_in_plain_safetensors(path):
    save_weights(path, make())
    expect_loaded(path)
    assert safetensors.torch.load_file(path).keys() == make().state_dict().keys()
    assert read_weights(path).keys() == make().state_dict().keys()


def test_equal_weights_make_equal_files(path):  # safetensors writes metadata in any order
    contents = set()
    for _ in range(8):
        save_weights(path, make())
        contents.add(path.read_bytes())
    assert len(contents) == 1


def test_a_flipped_byte_is_noticed(path):  # it was loaded as another weight
    network = nn.Linear(2, 2)
    save_weights(path, network)
    content = path.read_bytes()
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 4
        path.write_bytes(changed)
        loaded = nn.Linear(2, 2)
        try:
            load_weights(path, loaded)
        except FolderError:
            continue
        assert torch.equal(loaded.weight, network.weight)
        assert torch.equal(loaded.bias, network.bias)


@pytest.mark.parametrize("part", [0, 4, 50, -1])
def test_truncated_weights_are_named(path, part):
    save_weights(path, make())
    path.write_bytes(path.read_bytes()[:part])
    expect_refused(path, r"is damaged or is not a safetensors file \(.+")


def test_a_file_that_is_not_there_is_named(path):
    expect_refused(path, "cannot read .*: No such file")


def test_a_network_of_more_than_tensors_is_refused(path):
    class Counted(nn.Linear):
        def get_extra_state(self):
            return {"count": 1}

    with pytest.raises(AttarError, match=r"only tensors in the state of Counted, got _extra_stat"):
        save_weights(path, Counted(2, 2))


def test_weights_of_tied_layers_are_read(path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(3, 3)
            self.second = nn.Linear(3, 3)
            self.second.weight = self.first.weight

    network, loaded = Tied(), Tied()
    for save in (save_weights, lambda path, network: safetensors.torch.save_model(network, path)):
        save(path, network)
        load_weights(path, loaded)
        assert torch.equal(loaded.second.weight, network.first.weight)


# Files of others


@pytest.mark.parametrize("name", ["w.pth", "best.pth.tar", "w.ckpt", "pytorch_model.bin", "w.pt"])
def test_a_torch_checkpoint_is_read(tmp_path, name):
    torch.save(make().state_dict(), tmp_path / name)
    expect_loaded(tmp_path / name)
    torch.save(make().state_dict(), tmp_path / name, _use_new_zipfile_serialization=False)
    expect_loaded(tmp_path / name)


def test_the_content_says_what_a_file_is_and_not_its_name(tmp_path):
    torch.save(make().state_dict(), tmp_path / "w.safetensors")
    expect_loaded(tmp_path / "w.safetensors")
    safetensors.torch.save_file(make().state_dict(), tmp_path / "w.bin")
    expect_loaded(tmp_path / "w.bin")
    for length in (0x280, 0x4B50):  # of a header: the first bytes are a pickle's or a zip file's
        header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(length)
        content = length.to_bytes(8, "little") + header + torch.ones(1).numpy().tobytes()
        (tmp_path / "w.bin").write_bytes(content)
        assert read_weights(tmp_path / "w.bin") == {"a": torch.ones(1)}


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "module._orig_mod.", "net."])
def test_what_wrappers_put_before_every_name_is_left_out(tmp_path, prefix):
    path = tmp_path / "w.pth"
    torch.save(prefixed(prefix, make()), path)
    expect_loaded(path)
    torch.save({**prefixed(prefix, make()), "0.scale": torch.ones(1)}, path)
    expect_refused(path, r"9 missing: 0\.weight, .*\.\.\.; 10 unexpected: ")


def test_a_name_that_the_network_has_is_no_prefix(tmp_path):
    class Holder(nn.Module):
        def __init__(self, seed=0):
            super().__init__()
            self.model = make(seed)

    network, loaded = Holder(), Holder(seed=1)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    load_weights(tmp_path / "w.pth", loaded)
    assert torch.equal(loaded.model[0].weight, network.model[0].weight)


def checkpoint(**more) -> dict:
    """A checkpoint of a training: weights beside epoch, optimizer and more."""
    network = make()
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.zeros(2, 4)).sum().backward()
    optimizer.step()
    return {"epoch": 7, "best": 0.9, "optimizer": optimizer.state_dict(), **more}


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict", "module", "whatever"])
def test_the_weights_in_a_checkpoint_are_found(tmp_path, key):
    path = tmp_path / "w.pth.tar"
    torch.save(checkpoint(**{key: make().state_dict()}), path)
    expect_loaded(path)
    torch.save(checkpoint(**{key: {"state_dict": prefixed("module.", make())}}), path)
    expect_loaded(path)
    other = {"scale": torch.ones(1)}
    torch.save(checkpoint(**{key: OrderedDict(make().state_dict()), "scaler": other}), path)
    expect_loaded(path)


def test_two_sets_of_weights_are_not_chosen_between(tmp_path):
    path = tmp_path / "w.pth"
    parts = {"state_dict": make().state_dict(), "state_dict_ema": make(seed=2).state_dict()}
    torch.save(checkpoint(**parts), path)
    expect_refused(path, "several parts that fit this network: state_dict, state_dict_ema; load it")
    with pytest.raises(FolderError, match="several parts that may be weights: state_dict, state_d"):
        read_weights(path)


def test_weights_of_another_network_say_what_differs(path):
    save_weights(path, make(units=7))
    expect_refused(path, r"network \(7 of another shape: 0\.weight \[7, 4\], in the network \[")
    torch.save(checkpoint(model=nn.Linear(4, 3).state_dict()), path)
    expect_refused(
        path, r"in model do not fit the network \(9 missing: 0\.weight, .*\.; 2 unexpected: weigh"
    )


def test_a_checkpoint_without_weights_lists_its_keys(tmp_path):
    torch.save(checkpoint(), tmp_path / "w.pth")
    expect_refused(tmp_path / "w.pth", "got the keys epoch, best, optimizer; save only the weights")
    torch.save(torch.ones(3), tmp_path / "w.pth")
    expect_refused(tmp_path / "w.pth", "a mapping of names to tensors, got <class 'torch.Tensor'>")


def test_other_types_are_converted(tmp_path):
    half = {name: each.half() for name, each in make().state_dict().items()}
    torch.save(half, tmp_path / "w.pth")
    expected = make()
    expected.load_state_dict(half)
    expect_loaded(tmp_path / "w.pth", expected)


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("dump", [pickle.dump, torch.save])
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_python_objects_are_refused_and_not_made(tmp_path, name, dump):
    with (tmp_path / name).open("wb") as file:
        dump({"network": Trap(tmp_path / "sprung"), **make().state_dict()}, file)
    expect_refused(tmp_path / name, r"objects other than tensors \((a pickle|posix\.mkdir)")
    assert not (tmp_path / "sprung").exists()


def test_a_pickled_network_says_how_its_weights_are_saved(tmp_path):
    torch.save(make(), tmp_path / "w.pth")
    expect_refused(
        tmp_path / "w.pth", r"contains Python objects .* torch.save\(network.state_dict\(\)"
    )


@pytest.mark.parametrize("part", [2, 100, -1])
def test_damaged_checkpoints_are_named(tmp_path, part):
    torch.save(make().state_dict(), tmp_path / "w.pth")
    content = (tmp_path / "w.pth").read_bytes()
    (tmp_path / "w.pth").write_bytes(content[:part])
    expect_refused(
        tmp_path / "w.pth", r"w\.pth is damaged or no (torch checkpoint|safetensors file)"
    )


def test_own_weights_are_neither_pickled_nor_unpickled(path, monkeypatch):
    def fail(*arguments, **options):
        raise AssertionError("pickled")

    for module, name in ((pickle, "load"), (pickle, "dump"), (torch, "load"), (torch, "save")):
        monkeypatch.setattr(module, name, fail)
    save_weights(path, make())
    expect_loaded(path)


def test_a_checkpoint_can_be_exported(tmp_path):
    torch.save(checkpoint(state_dict=prefixed("module.", make())), tmp_path / "best.pth.tar")
    network = make(seed=1)
    load_weights(str(tmp_path / "best.pth.tar"), network)
    data = attar.TransferSet(torch.randn(8, 4), torch.arange(8) % 3)
    (exported,) = attar.export_student(network, tmp_path, data, formats=["safetensors"])
    expect_loaded(tmp_path / "student.safetensors")
    assert exported.largest_difference == 0


@pytest.mark.parametrize("change", [torch.Tensor.char, lambda each: each.to(torch.complex64)])
def test_numbers_of_another_kind_are_refused(tmp_path, change):
    network = torch.nn.Linear(2, 2)
    path = tmp_path / "w.pth"
    torch.save({name: change(tensor) for name, tensor in network.state_dict().items()}, path)
    before = network.weight.clone()
    with pytest.raises(FolderError, match="of another type: weight torch"):
        load_weights(path, network)
    assert torch.equal(network.weight, before)
