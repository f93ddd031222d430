import copy

import pytest
import torch
from torch import nn

from attar import TransferSet, mlp
from attar.cohorts import Cohort
from attar.cohorts.layers import StackedMlp
from attar.data import mix_seed
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


@pytest.mark.parametrize("options", [{}, {"optimizer": "adamw"}, {"clip_norm": 0.5}], ids=str)
@pytest.mark.parametrize("kind", MAKERS)
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
