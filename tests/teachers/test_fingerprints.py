"""A fingerprint changes with whatever changes a model's answers, and with nothing else."""

import argparse
import functools
import importlib.util
import sys
import textwrap
from dataclasses import dataclass
from types import SimpleNamespace

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


@dataclass
class Config:
    k: float


class Plain:
    def __init__(self, k):
        self.k = k

    def scale(self, inputs):
        return self.k * inputs


class Renaming(nn.Module):
    """Keeps its argument under another name, and notes what happens while it runs."""

    def __init__(self, k):
        super().__init__()
        self.scale = k
        self.calls, self.seen, self.last, self.table = 0, [], None, {}

    def forward(self, inputs):
        self.calls += 1
        self.seen.append(inputs.shape)
        self.last = inputs
        self.table[len(self.seen)] = inputs
        return inputs


@pytest.mark.parametrize(
    "make",
    [
        Config,
        Plain,
        lambda k: Plain(k).scale,
        lambda k: SimpleNamespace(k=k),
        lambda k: argparse.Namespace(k=k),
        lambda k: functools.partial(torch.mul, k),
        lambda k: [Plain(k)],
        lambda k: {"a": Config(k)},
    ],
)
@pytest.mark.parametrize("kind", [Scaled, Renaming])
def test_an_argument_of_any_kind_counts(kind, make):
    assert hash_network(kind(make(1.0))) == hash_network(kind(make(1.0)))
    assert hash_network(kind(make(1.0))) != hash_network(kind(make(-9.0)))


def test_an_attribute_set_later_counts_unless_the_network_changes_it_itself():
    network = Renaming(1.0)
    before = hash_network(network)
    network(torch.ones(2))
    assert hash_network(network) == before
    network.scale = 2.0
    assert hash_network(network) != before
    network.scale, network.extra = 1.0, 3
    assert hash_network(network) != before


def test_hooks_count_by_their_code():
    def make(hook):
        network = nn.Sequential(nn.Linear(2, 2))
        with torch.no_grad():
            network[0].weight.fill_(1.0)
            network[0].bias.zero_()
        network[0].register_forward_hook(hook)
        return hash_network(network)

    seen = []

    def note(module, inputs, output):
        seen.append(output)

    def negate(module, inputs, output):
        return -output

    first = make(note)
    seen.append(1)
    assert make(note) == first != make(negate)


def test_an_attribute_without_a_stable_state_does_no_harm(tmp_path):
    with (tmp_path / "log").open("w") as log:
        assert hash_network(Renaming(log)) == hash_network(Renaming(log))


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


def test_the_globals_and_helpers_that_forward_uses_count(load):
    text = """
        from torch import nn
        scale = {}
        def helper(x):
            return {} * x
        class Net(nn.Module):
            def forward(self, inputs):
                return scale * helper(inputs)
    """
    first, same, other, helper = (
        hash_network(load(text.format(*pair)).Net()) for pair in ((1, 2), (1, 2), (3, 2), (1, 3))
    )
    assert first == same
    assert len({first, other, helper}) == 3


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


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("weight = 2.0", "weight = 3.0"),  # of another module of the user
        ("return 2 * x", "return 3 * x"),
    ],
)
def test_other_modules_of_the_user_that_a_function_uses_count(load, monkeypatch, before, after):
    text = "weight = 2.0\ndef f(x):\n    return 2 * x"

    def make(text):
        mine = load(text)
        monkeypatch.setitem(sys.modules, "mine", mine)
        return load("import mine\ndef loss(x):\n    return mine.f(x) * mine.weight").loss

    assert hash_value(make(text)) == hash_value(make(text))
    assert hash_value(make(text)) != hash_value(make(text.replace(before, after)))


def test_base_classes_and_helpers_of_a_callable_object_count(load):
    text = """
        def helper(x):
            return {} * x
        class Base:
            scale = {}
            def apply(self, x):
                return {} * helper(x)
        class Loss(Base):
            def __call__(self, x):
                return self.apply(x)
    """
    hashes = [hash_value(load(text.format(*numbers)).Loss()) for numbers in
              [(1, 1, 1), (1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2)]]  # fmt: skip
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 4


def test_a_decorated_function_counts_by_its_own_code(load):
    text = """
        import functools
        def double(f):
            @functools.wraps(f)
            def wrapper(x):
                return {} * f(x)
            return wrapper
        @double
        def loss(x):
            return x
    """
    first, same, other = (hash_value(load(text.format(n)).loss) for n in (2, 2, 3))
    assert first == same != other


def test_a_global_that_only_shares_an_attributes_name_does_not_count(load):
    text = "view = {}\ndef loss(batch):\n    return batch.view"
    assert hash_value(load(text.format(1)).loss) == hash_value(load(text.format(2)).loss)


def test_the_kind_of_a_recurrent_layer_counts():
    torch.manual_seed(0)
    tanh, relu = nn.RNN(3, 2), nn.RNN(3, 2, nonlinearity="relu")
    relu.load_state_dict(tanh.state_dict())
    assert hash_network(tanh) != hash_network(relu)
