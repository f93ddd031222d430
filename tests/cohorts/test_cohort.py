import copy

import pytest
import torch
from torch import nn

from attar import TransferSet, mlp
from attar.cohorts import Cohort
from attar.cohorts.layers import StackedMlp
from attar.errors import AttarError, DivergedError, FolderError
from attar.losses import MemberWeights, distillation_loss, member_distillation_loss
from attar.models import Dropout, MaxNormLinear
from attar.training import TrainingRun, TrainingSettings

EXAMPLES, INPUTS, CLASSES = 60, 12, 4
WEIGHTS = [
    MemberWeights(temperature=1.0, soft_weight=1.0, hard_weight=0.0),
    MemberWeights(temperature=2.5, soft_weight=0.5, hard_weight=0.3),
    MemberWeights(temperature=20.0, soft_weight=0.0, hard_weight=2.0),
]


def generator(seed):
    return torch.Generator().manual_seed(seed)


def make_mlp(seed, **options):
    return mlp(INPUTS, [9, 7], CLASSES, generator=generator(seed), **options).double()


class Tied(nn.Module):
    """Convolutions, normalization, a branch, and one layer that is used twice."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv1d(1, 3, 3, padding=1)
        self.norm = nn.LayerNorm(INPUTS)
        self.shared = nn.Linear(INPUTS, INPUTS)
        self.again = self.shared
        self.head = nn.Linear(3 * INPUTS, CLASSES)

    def forward(self, inputs):
        hidden = self.norm(torch.tanh(self.convolution(inputs.unsqueeze(1))))
        hidden = hidden + torch.relu(self.again(self.shared(hidden)))
        return self.head(hidden.flatten(1))


def make_other(kind, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return kind().double()


def batch_normalized():
    return nn.Sequential(nn.Linear(INPUTS, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, CLASSES))


MAKERS = {
    "mlp": make_mlp,
    "mlp, max-norm": lambda seed: make_mlp(seed, max_norm=0.8),
    "mlp, fixed first layer": lambda seed: fixed(make_mlp(seed)),
    "no bias, no flatten": lambda seed: make_other(
        lambda: nn.Sequential(nn.Linear(INPUTS, 5, bias=False), nn.ReLU(), nn.Linear(5, CLASSES)),
        seed,
    ),
    "tied": lambda seed: make_other(Tied, seed),
    "batch normalization": lambda seed: make_other(batch_normalized, seed),
    "nested, max-norm": lambda seed: make_other(
        lambda: nn.Sequential(make_mlp(seed, max_norm=0.8), nn.Tanh()), seed
    ),
}
FAST = ("mlp", "mlp, max-norm", "mlp, fixed first layer", "no bias, no flatten")


def fixed(network):
    network[1].requires_grad_(False)
    return network


@pytest.fixture(scope="module")
def data():
    inputs = torch.randn(EXAMPLES, INPUTS, generator=generator(0), dtype=torch.float64)
    return TransferSet(inputs, torch.randint(CLASSES, (EXAMPLES,), generator=generator(1)))


@pytest.fixture(scope="module")
def teacher_logits():
    return 3 * torch.randn(EXAMPLES, CLASSES, generator=generator(2), dtype=torch.float64)


def settings(**options):
    defaults = {"epochs": 10, "batch_size": 12, "learning_rate": 0.05, "seed": 3}
    return TrainingSettings(**defaults | options)


def cohort_loss(teacher_logits, weights=WEIGHTS):
    def loss_fn(logits, batch):
        losses = member_distillation_loss(
            logits, teacher_logits[batch.indices], batch.hard_targets, weights
        )
        return losses.mean(dim=1).sum()

    return loss_fn


def alone_loss(teacher_logits, weights):
    def loss_fn(logits, batch):
        return distillation_loss(
            logits,
            teacher_logits[batch.indices],
            batch.hard_targets,
            temperature=weights.temperature,
            soft_weight=weights.soft_weight,
            hard_weight=weights.hard_weight,
        ).mean()

    return loss_fn


def train(network, data, loss_fn, **options):
    for _ in TrainingRun(network, data, loss_fn, settings(**options)):
        pass
    return network


def assert_alike(network, other, tolerance=1e-9):
    ours, theirs = network.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=tolerance, atol=tolerance, msg=name)


CASES = [(kind, {}) for kind in MAKERS]
CASES += [(kind, {"optimizer": "adamw", "clip_norm": 0.1}) for kind in ("mlp", "tied")]


@pytest.mark.parametrize(("kind", "options"), CASES, ids=str)
def test_a_member_equals_the_network_trained_alone(kind, options, data, teacher_logits):
    networks = [MAKERS[kind](seed) for seed in range(len(WEIGHTS))]
    cohort = Cohort(networks)
    assert isinstance(cohort.networks, StackedMlp) == (kind in FAST)
    train(cohort, data, cohort_loss(teacher_logits), **options)  # 50 steps
    for network, weights, member in zip(networks, WEIGHTS, cohort.members(), strict=True):
        before = copy.deepcopy(network)
        train(network, data, alone_loss(teacher_logits, weights), **options)
        assert_alike(member, network)
        assert type(member) is type(network)
        with pytest.raises(AssertionError):
            assert_alike(member, before)


def test_a_clipped_member_does_not_hang_on_the_others(data, teacher_logits):
    """Bug that a common norm would be: a wild member's long gradient shortens a tame one's."""
    tame, wild = make_mlp(0), make_mlp(1)
    weights = [WEIGHTS[0], MemberWeights(temperature=9.0, soft_weight=1e3, hard_weight=0.0)]
    cohort = train(Cohort([tame, wild]), data, cohort_loss(teacher_logits, weights), clip_norm=1.0)
    alone = train(Cohort([tame]), data, cohort_loss(teacher_logits, weights[:1]), clip_norm=1.0)
    assert_alike(cohort.member(0), alone.member(0))


@pytest.mark.parametrize("kind", MAKERS)
def test_in_evaluation_mode_logits_are_the_members_own(kind, data):
    networks = [MAKERS[kind](seed).eval() for seed in range(3)]
    cohort = Cohort(networks)
    assert len(cohort) == cohort.stacked_members == 3
    inputs = data.batch(torch.arange(5)).inputs
    expected = torch.stack([network(inputs) for network in networks])  # [members, batch, classes]
    torch.testing.assert_close(cohort(inputs), expected)
    assert not any(member.training for member in cohort.members())


def test_the_networks_are_copied(data, teacher_logits):
    network = make_mlp(0)
    before = copy.deepcopy(network)
    cohort = train(Cohort([network]), data, cohort_loss(teacher_logits, WEIGHTS[:1]))
    assert_alike(network, before, tolerance=0)
    with torch.no_grad():
        cohort.member(0)[1].weight.zero_()
    assert cohort.member(0)[1].weight.any()


@pytest.mark.parametrize("wrap", [lambda network: network, nn.Sequential], ids=["fast", "general"])
@pytest.mark.parametrize("dropout", ["input_dropout", "hidden_dropout"])
def test_each_member_drops_units_of_its_own(wrap, dropout):
    ones = mlp(40, [40], 40, generator=generator(0), **{dropout: 0.5})
    for layer in ones:
        if isinstance(layer, nn.Linear):
            nn.init.eye_(layer.weight)
    cohort = Cohort([wrap(copy.deepcopy(ones)) for _ in range(3)])
    assert isinstance(cohort.networks, StackedMlp) == (wrap is not nn.Sequential)
    inputs = torch.ones(50, 40)
    first, again = (run_seeded(cohort, inputs) for _ in range(2))
    assert torch.equal(first, again)  # the seed decides
    kept = first > 0  # [members, batch, units]
    assert 0.45 < kept.float().mean() < 0.55
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert 0.4 < (kept[one] == kept[other]).float().mean() < 0.6
    assert 0.4 < (kept[:, 0] == kept[:, 1]).float().mean() < 0.6  # examples', too
    assert torch.equal(cohort.eval()(inputs), torch.ones(3, 50, 40))


def run_seeded(network, inputs):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return network(inputs)


def test_a_member_has_the_layers_of_its_networks():
    networks = [mlp(4, [5], 3, generator=generator(i), hidden_dropout=0.3) for i in range(2)]
    for wrapped in (networks, [nn.Sequential(network) for network in networks]):
        member = Cohort(wrapped).member(1)
        assert repr(member) == repr(wrapped[1])
        assert any(isinstance(layer, Dropout) for layer in member.modules())


def test_max_norm_holds_for_each_member(data, teacher_logits):
    for wrap in (nn.Sequential, lambda network: network):
        cohort = Cohort([wrap(make_mlp(seed, max_norm=0.3)) for seed in range(3)])
        train(cohort, data, cohort_loss(teacher_logits), epochs=1)
        for member in cohort.members():
            for layer in member.modules():
                if isinstance(layer, MaxNormLinear):
                    assert layer.weight.norm(dim=1).max() <= 0.3 + 1e-9


@pytest.mark.parametrize("kind", ["mlp", "batch normalization"])
def test_a_stopped_training_goes_on_with_the_same_bytes(kind, data, teacher_logits, tmp_path):
    def make_run(name):
        networks = [MAKERS[kind](seed) for seed in range(len(WEIGHTS))]
        loss_fn = cohort_loss(teacher_logits)
        path = tmp_path / name
        return TrainingRun(
            Cohort(networks), data, loss_fn, settings(), checkpoint=path, checkpoint_seconds=0
        )

    whole = make_run("whole")
    list(whole)
    for step in make_run("parts"):
        if step.index == 23:
            break
    parts = make_run("parts")
    assert parts.steps_done == 23
    list(parts)
    assert_alike(parts.network, whole.network, tolerance=0)
    (tmp_path / "parts").write_bytes(b"")
    with pytest.raises(FolderError):
        make_run("parts")


def test_the_member_that_diverged_is_named(data, teacher_logits):
    networks = [make_mlp(seed) for seed in range(3)]
    with torch.no_grad():
        networks[1][1].weight.fill_(float("nan"))
    with pytest.raises(DivergedError, match=r"step 1: the loss is nan of member 1 at learning"):
        train(Cohort(networks), data, cohort_loss(teacher_logits))


class Choosing(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(INPUTS, CLASSES)

    def forward(self, inputs):
        logits = self.layer(inputs)
        return logits if logits.sum() > 0 else -logits


class Remembering(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(INPUTS, CLASSES)
        self.seen = torch.zeros(CLASSES, dtype=torch.float64)

    def forward(self, inputs):
        logits = self.layer(inputs)
        self.seen += logits.mean(dim=0)
        return logits


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Choosing, "the course of its forward depends on the data"),
        (Remembering, "changes a tensor in place that all members share"),
    ],
)
def test_networks_that_cannot_be_stacked_are_refused_with_the_reason(kind, reason, data):
    cohort = Cohort([make_other(kind, seed) for seed in range(2)])
    with pytest.raises(AttarError, match=f"got {kind.__name__}: .*{reason}.* one after another"):
        cohort(data.batch(torch.arange(5)).inputs)


def test_an_error_that_has_nothing_to_do_with_stacking_stays_what_it_is(data):
    cohort = Cohort([make_other(Tied, seed) for seed in range(2)])
    with pytest.raises(RuntimeError) as caught:
        cohort(data.batch(torch.arange(5)).inputs[:, :3])
    assert not isinstance(caught.value, AttarError)


@pytest.mark.parametrize(
    ("networks", "message"),
    [
        ([], "got an empty cohort"),
        (
            [nn.Linear(2, 3), nn.Linear(2, 4)],
            "s=3.* in the first.*out_features=4.* at 1",
        ),
        ([nn.Linear(2, 3), nn.Linear(2, 3).double()], "float32.*float64"),
        ([nn.Dropout(0.1), nn.Dropout(0.2)], "p=0.1.*p=0.2"),
        ([nn.Linear(2, 3), nn.Linear(2, 3).requires_grad_(False)], "learning.*fixed"),
        ([nn.ReLU(), nn.Sequential(nn.ReLU(), nn.ReLU())], "ReLU.*Sequential"),
    ],
    ids=str,
)
def test_networks_that_are_not_alike_are_refused(networks, message):
    with pytest.raises(AttarError, match=message):
        Cohort(networks)


def test_one_network_twice_is_refused():
    network = nn.Linear(2, 3)
    with pytest.raises(AttarError, match="got one twice, at 1; copy it"):
        Cohort([network, network])


@pytest.mark.parametrize("index", [-1, 2])
def test_a_member_that_is_not_there_is_refused(index):
    with pytest.raises(AttarError, match=rf"expected a member in 0\.\.1, got {index}"):
        Cohort([nn.Linear(2, 3), nn.Linear(2, 3)]).member(index)


# What the reviews found: the stacked layers are the networks' own in these cases, too


def make_layers(*layers):
    return lambda: nn.Sequential(*(make() for make in layers), nn.Linear(INPUTS, CLASSES))


UNUSUAL = {
    "relu first": make_layers(nn.ReLU),
    "flatten, relu first": make_layers(nn.Flatten, nn.ReLU),
    "relu after dropout after relu": make_layers(
        lambda: nn.Linear(INPUTS, INPUTS), nn.ReLU, lambda: nn.Dropout(0.0), nn.ReLU
    ),
    "relu in place first": make_layers(
        lambda: nn.Linear(INPUTS, INPUTS), lambda: nn.ReLU(inplace=True)
    ),
}


@pytest.mark.parametrize("kind", UNUSUAL)
@pytest.mark.parametrize("shape", [(6,), (6, 5), (2, 3, 4)])
def test_a_cohort_equals_its_networks_and_leaves_its_inputs_alone(kind, shape):
    if "flatten" in kind and len(shape) > 1:
        pytest.skip("it flattens")
    networks = [make_other(UNUSUAL[kind], seed) for seed in (0, 1)]
    cohort = Cohort(networks)
    assert isinstance(cohort.networks, StackedMlp)
    inputs = torch.randn(*shape, INPUTS, generator=generator(0), dtype=torch.float64)
    before = inputs.clone()
    logits = cohort(inputs)
    assert torch.equal(inputs, before)
    for found, network in zip(logits, networks, strict=True):
        torch.testing.assert_close(found, network(inputs))
    logits.square().sum().backward()
    for network in networks:
        network(inputs).square().sum().backward()
    for index, network in enumerate(networks):
        for name, tensor in cohort.networks.stacked().items():
            torch.testing.assert_close(tensor.grad[index], network.get_parameter(name).grad)


@pytest.mark.parametrize("kind", [batch_normalized, make_layers(lambda: nn.Dropout(0.5))])
def test_a_frozen_layer_of_the_members_stays_frozen(kind, data, teacher_logits):
    networks = [make_other(kind, seed) for seed in (0, 1, 2)]
    place = next(i for i, layer in enumerate(networks[0]) if not isinstance(layer, nn.Linear))
    for network in networks:
        network[place].eval()
    alone = copy.deepcopy(networks)
    cohort = train(Cohort(networks), data, cohort_loss(teacher_logits), epochs=2)
    for network, weights, member in zip(alone, WEIGHTS, cohort.members(), strict=True):
        train(network, data, alone_loss(teacher_logits, weights), epochs=2)
        assert_alike(member, network)
        assert not member[place].training
        assert member[1 - place].training


def test_members_that_freeze_other_layers_are_refused():
    networks = [make_other(batch_normalized, seed) for seed in (0, 1)]
    networks[1][1].eval()
    with pytest.raises(AttarError, match=r"BatchNorm1d.* in another mode than the network at 1"):
        Cohort(networks)
