import pytest
import torch
from labeled import CLASSES, EXAMPLES, make_network, make_set
from torch import nn

import attar
from attar import Dense, Sparse, TransferSet, label, train_controls
from attar.comparison import CONTROLS, compare
from attar.comparison.controls import _shuffle
from attar.errors import AttarError, DataError
from attar.losses import DenseTargets, to_probabilities

SETTINGS = {
    "temperature": 2.0, "soft_weight": 1.0, "hard_weight": 0.5, "epochs": 2, "batch_size": 8,
}  # fmt: skip


def weights(network):
    return torch.cat([each.detach().flatten() for each in network.parameters()])


@pytest.mark.parametrize("encoding", [Dense(), Sparse(k=2)])
def test_each_control_is_a_trained_student_for_each_seed(tmp_path, encoding):
    data, told = make_set(unlabeled=3), []
    store = label([make_network(1), make_network(2)], data, tmp_path / "s", encoding=encoding)
    trained = train_controls(
        make_network, data, store, seeds=(5, 6), progress=told.append, **SETTINGS
    )
    assert tuple(trained) == CONTROLS
    for networks in trained.values():
        first, second = map(weights, networks)
        assert not torch.equal(first, second)
        assert not torch.equal(first, weights(make_network(5)))
        assert not networks[0].training
    assert told[-1].fraction == 1
    assert [now.fraction for now in told] == sorted(now.fraction for now in told)
    assert str(told[0]).startswith("control “hard targets”, seed 5 · epoch 1 of 2 · loss")
    result = compare(
        {"teacher": make_network(1)},
        make_set(),
        controls=trained,
        latency=False,
        resamples=50,
    )
    roles = {model.name: model.role for model in result.models}
    assert roles["hard targets"] == "baseline"
    assert roles["shuffled teacher"] == roles["label smoothing"] == "control"


def test_the_control_on_hard_targets_is_distillation_without_soft_targets(tmp_path):
    data = make_set()
    store = label(make_network(1), data, tmp_path / "store")
    (control,) = train_controls(
        make_network, data, store, controls=["hard targets"], seeds=[3], **SETTINGS
    )["hard targets"]
    options = {**SETTINGS, "soft_weight": 0.0, "hard_weight": 1.0}
    student = attar.distill(make_network(3), data, store, seed=3, **options)
    torch.testing.assert_close(weights(control), weights(student))


def test_a_shuffled_teacher_is_as_sure_but_thinks_of_other_classes():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 6, generator=generator)
    indices = torch.arange(50)
    shuffled = _shuffle(DenseTargets(logits), indices, seed=1).logits
    assert torch.equal(shuffled.sort(dim=-1).values, logits.sort(dim=-1).values)
    assert torch.equal(shuffled.argmax(dim=-1), logits.argmax(dim=-1))
    assert (shuffled != logits).any(dim=-1).float().mean() > 0.9
    again = _shuffle(DenseTargets(logits[20:30]), indices[20:30], seed=1).logits
    assert torch.equal(again, shuffled[20:30])  # whatever the batch
    assert not torch.equal(_shuffle(DenseTargets(logits), indices, seed=2).logits, shuffled)


@pytest.mark.parametrize("encoding", [Dense(), Sparse(k=2)])
def test_a_shuffled_ensemble_has_the_weights_of_its_members(tmp_path, encoding):
    data = make_set()
    both = label([make_network(1), make_network(2)], data, tmp_path / "both", encoding=encoding)
    alone = label(make_network(2), data, tmp_path / "alone", encoding=encoding)
    options = {**SETTINGS, "controls": ["shuffled teacher"]}
    (weighted,) = train_controls(make_network, data, both, member_weights=[0, 1], **options)[
        "shuffled teacher"
    ]
    (expected,) = train_controls(make_network, data, alone, **options)["shuffled teacher"]
    torch.testing.assert_close(weights(weighted), weights(expected))
    with pytest.raises(AttarError, match="one weight >= 0 for each of 2 members"):
        train_controls(make_network, data, both, member_weights=[1], **options)


def test_a_shuffled_sparse_teacher_keeps_its_probabilities(tmp_path):
    data = make_set()
    store = label(make_network(1), data, tmp_path / "store", encoding=Sparse(k=2))
    soft = store.batch(torch.arange(EXAMPLES))
    shuffled = _shuffle(soft, torch.arange(EXAMPLES), seed=1)
    assert torch.equal(shuffled.indices[:, 0], soft.indices[:, 0])
    assert (shuffled.indices[:, 1] != soft.indices[:, 1]).any()
    assert (shuffled.indices[:, 0] != shuffled.indices[:, 1]).all()
    assert int(shuffled.indices.max()) < CLASSES
    before, after = (to_probabilities(each, temperature=2.0) for each in (soft, shuffled))
    assert torch.equal(before.largest, after.largest)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"controls": ["magic"]}, "expected some of the controls"),
        ({"controls": []}, "expected some of the controls"),
        ({"seeds": []}, "at least one seed"),
        ({"seeds": [1, 1]}, "all different"),
        ({"label_smoothing": 1.5}, r"label_smoothing in 0\.\.1"),
    ],
)
def test_wrong_options_are_told(options, text, tmp_path, shape_hints_off):
    with pytest.raises(AttarError, match=text):
        train_controls(make_network, make_set(), tmp_path, **SETTINGS, **options)


def test_without_hard_targets_only_the_shuffled_teacher_can_be_trained(tmp_path):
    data = TransferSet(make_set().inputs, class_names=tuple("abcde"))
    store = label(make_network(1), data, tmp_path / "store")
    with pytest.raises(DataError, match="shuffled teacher"):
        train_controls(make_network, data, store, **SETTINGS)
    options = {**SETTINGS, "hard_weight": 0.0}
    trained = train_controls(make_network, data, store, controls=["shuffled teacher"], **options)
    assert isinstance(trained["shuffled teacher"][0], nn.Module)
