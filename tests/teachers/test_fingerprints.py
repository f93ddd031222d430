"""A fingerprint changes with whatever changes a model's answers, and with nothing else."""

import functools
import importlib.util
import sys
import textwrap

import pytest
import torch
from torch import nn

from attar.errors import DataError
from attar.teachers.fingerprints import hash_network, hash_value


class Scaled(nn.Module):
    def __init__(self, factor, shift=0.0, table=None):
        super().__init__()
        self.factor, self._shift, self.table = factor, shift, table
        self.calls = 0  # not an argument: it may change while the network runs

    def forward(self, inputs):
        self.calls += 1
        return self.factor * inputs + self._shift


def test_an_argument_that_repr_leaves_out_counts():
    assert hash_network(Scaled(1.0)) == hash_network(Scaled(1.0))
    others = [Scaled(-9.0), Scaled(1.0, 2.0), Scaled(1.0, table=torch.ones(2))]
    hashes = {hash_network(each) for each in [Scaled(1.0), *others]}
    assert len(hashes) == 4
    nested = {hash_network(nn.Sequential(each)) for each in [Scaled(1.0), *others]}
    assert len(nested) == 4


def test_what_a_network_counts_while_it_runs_does_not():
    network = Scaled(1.0)
    before = hash_network(network)
    network(torch.ones(1))
    network.eval()
    assert hash_network(network) == before


@pytest.fixture(name="load")
def make_load(tmp_path, monkeypatch):
    """Run a text as a module; all of them have one name, and files of their own."""

    def load(text):
        path = tmp_path / str(len(list(tmp_path.iterdir()))) / "made.py"
        path.parent.mkdir()
        path.write_text(textwrap.dedent(text))
        spec = importlib.util.spec_from_file_location("made", path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "made", module)
        spec.loader.exec_module(module)
        return module

    return load


NETWORK = """
    from torch import nn
    class Net(nn.Module):
        def forward(self, inputs):
            {body}
"""


def test_the_code_of_a_users_class_counts_and_its_comments_do_not(load):
    bodies = ["return inputs", "return inputs  # as they are", "return -inputs"]
    hashes = [hash_network(load(NETWORK.format(body=body)).Net()) for body in bodies]
    assert hashes[0] == hashes[1] != hashes[2]


def make_loss(weight, scale=1.0):
    def loss(logits, factor=2.0):
        return factor * weight * scale * logits.sum()

    return loss


def test_a_function_counts_by_its_code_and_what_it_closes_over():
    assert hash_value(make_loss(1.0)) == hash_value(make_loss(1.0))
    assert hash_value(make_loss(1.0)) != hash_value(make_loss(2.0))
    assert hash_value(make_loss(torch.ones(2))) != hash_value(make_loss(torch.zeros(2)))
    doubled, tripled = lambda value: 2 * value, lambda value: 3 * value
    assert hash_value(doubled) != hash_value(tripled)
    first = functools.partial(make_loss, scale=1.0)
    assert hash_value(first) != hash_value(functools.partial(make_loss, scale=2.0))


@pytest.mark.parametrize(
    ("text", "is_same"),
    [("weight = 2.0", True), ("weight = 3.0", False), ("weight = 2.0  # more", True)],
)
def test_the_globals_that_a_function_uses_count(load, text, is_same):
    source = (
        "{}\nother = 5\ndef helper(x):\n    return weight * x\ndef loss(x):\n    return helper(x)"
    )
    first = hash_value(load(source.format("weight = 2.0")).loss)
    second = hash_value(load(source.format(text) + "\nother = 6").loss)
    assert (first == second) == is_same


def test_heads_of_attention_count_though_repr_leaves_them_out():
    torch.manual_seed(0)
    two = nn.MultiheadAttention(4, 2)
    four = nn.MultiheadAttention(4, 4)
    four.load_state_dict(two.state_dict())
    assert hash_network(two) != hash_network(four)


def test_a_function_without_source_text_counts_by_its_code():
    scope = {}
    exec("def first(x):\n    return x + 1\ndef second(x):\n    return x + 2", scope)
    assert hash_value(scope["first"]) != hash_value(scope["second"])


def test_a_function_that_calls_itself_has_a_fingerprint():
    def count(number):
        return number and count(number - 1)

    assert hash_value(count) == hash_value(count)


def test_what_has_no_stable_state_is_refused(tmp_path):
    with (tmp_path / "file").open("w") as file, pytest.raises(DataError, match="fingerprint"):
        hash_value(lambda: file)
