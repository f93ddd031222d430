import copy
import json

import pytest
import safetensors.torch
import torch
from labeled import CLASSES, make_network, make_set
from torch import nn

from attar import (
    Cohort,
    EnsembleNetwork,
    TrainingRun,
    TrainingSettings,
    as_teacher,
    compute_logits,
    evaluate,
    label,
    load_ensemble,
    mlp,
    save_ensemble,
    train,
)
from attar.data import mix_seed
from attar.errors import AttarError, DataError, FolderError, ShapeError
from attar.evaluation import evaluate_members, measure_logits
from attar.tensor_files import write_tensors

OPTIONS = {"epochs": 3, "batch_size": 8, "learning_rate": 0.01, "seed": 7}


def make(generator):
    return mlp(36, [9], CLASSES, generator=generator)


def assert_same_weights(network, other, **tolerances):
    for one, two in zip(network.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, two, **tolerances)


@pytest.fixture(scope="module")
def ensemble():
    return train(make, make_set(), members=3, **OPTIONS)


def test_members_are_the_networks_trained_alone(ensemble):
    assert isinstance(ensemble, EnsembleNetwork)
    assert not ensemble.training
    for place, member in enumerate(ensemble.networks):
        alone = make(torch.Generator().manual_seed(mix_seed(7, place)))
        assert_same_weights(train(alone, make_set(), **OPTIONS), member, rtol=1e-4, atol=1e-5)


def test_a_single_network_is_trained_in_place_with_plain_cross_entropy():
    network, by_hand = make_network(3), make_network(3)
    assert train(network, make_set(), **OPTIONS) is network
    settings = TrainingSettings(**OPTIONS, optimizer="adamw", warmup_epochs=0.3)
    loss_fn = lambda z, batch: nn.functional.cross_entropy(z, batch.hard_targets)  # noqa: E731
    list(TrainingRun(by_hand, make_set(), loss_fn, settings))
    assert_same_weights(network, by_hand, rtol=0, atol=0)


def test_a_function_may_make_the_single_network():
    network = train(make, make_set(), **OPTIONS)
    alone = make(torch.Generator().manual_seed(mix_seed(7, 0)))
    assert_same_weights(network, train(alone, make_set(), **OPTIONS), rtol=0, atol=0)


def test_networks_that_draw_from_torchs_generator_differ():
    ensemble = train(lambda generator: nn.Sequential(nn.Flatten(), nn.Linear(36, 5)), make_set(),
                     members=2, **OPTIONS)  # fmt: skip
    first, second = ensemble.networks
    assert not torch.equal(first[1].weight, second[1].weight)


def test_examples_without_hard_targets_are_left_out():
    some, part = make_set(unlabeled=4), make_set(unlabeled=4).subset(torch.arange(4, 22))
    networks = [train(make_network(3), each, **OPTIONS) for each in (some, part)]
    assert_same_weights(*networks, rtol=0, atol=0)
    with pytest.raises(DataError, match="expected hard targets in the set, got none"):
        train(make_network(3), make_set(unlabeled=22), **OPTIONS)


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_the_answer_is_a_mean_of_probabilities(ensemble, mean):
    inputs = make_set().batch(torch.arange(6)).inputs
    p = torch.stack([network(inputs).softmax(1) for network in ensemble.networks])
    expected = p.mean(0) if mean == "arithmetic" else p.log().mean(0).softmax(1)
    found = EnsembleNetwork(ensemble.networks, mean=mean)(inputs)
    torch.testing.assert_close(found.softmax(1), expected)
    if mean == "arithmetic":
        torch.testing.assert_close(found, p.mean(0).log())


def test_an_ensemble_is_evaluated_and_asked_as_any_network(ensemble):
    some = make_set()
    logits = compute_logits(ensemble, some)
    assert logits.shape == (22, CLASSES)
    assert evaluate(ensemble, some) == measure_logits(logits, some.hard_targets)


def test_a_cohorts_members_are_evaluated_each(shape_hints_off):
    some, networks = make_set(), [make_network(seed) for seed in range(3)]
    with pytest.raises(ShapeError, match=r"got \[3, 22, 5\]; try attar\.evaluate_members"):
        evaluate(Cohort(networks), some)
    found = evaluate_members(Cohort(networks), some)
    for network, one in zip(networks, found, strict=True):
        alone = evaluate(network, some)
        assert one.errors == alone.errors
        assert one.nll == pytest.approx(alone.nll)


def test_as_a_teacher_each_member_is_stored(ensemble, tmp_path):
    some = make_set()
    teacher = as_teacher(ensemble, classes=CLASSES)
    assert teacher.members == 3
    store = label(ensemble, some, tmp_path / "store")
    assert store.plan.member_count == 3
    for place, network in enumerate(ensemble.networks):
        found = store.batch(torch.arange(22), member=place).logits.log_softmax(1)
        expected = compute_logits(network, some).log_softmax(1)
        torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2)  # float16


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_a_saved_ensemble_comes_back(ensemble, tmp_path, mean):
    path = tmp_path / "ensemble.safetensors"
    saved = EnsembleNetwork(ensemble.networks, mean=mean)
    save_ensemble(path, saved)
    loaded = load_ensemble(path, make)
    assert (len(loaded), loaded.mean, loaded.training) == (3, mean, False)
    assert_same_weights(loaded, saved, rtol=0, atol=0)
    again = path.read_bytes()
    save_ensemble(path, loaded)
    assert path.read_bytes() == again


def test_a_file_that_is_no_such_ensemble_is_refused(ensemble, tmp_path):
    path = tmp_path / "ensemble.safetensors"
    with pytest.raises(FolderError, match="cannot read"):
        load_ensemble(path, make)
    save_ensemble(path, ensemble)
    with pytest.raises(FolderError, match="is not an ensemble of such networks"):
        load_ensemble(path, lambda generator: mlp(36, [8], CLASSES, generator=generator))
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(FolderError, match=r"ensemble\.safetensors"):
        load_ensemble(path, make)
    for metadata in (None, {"ensemble": "[]"}, {"ensemble": '{"format": "other"}'}):
        path.write_bytes(safetensors.torch.save({"x": torch.zeros(1)}, metadata=metadata))
        with pytest.raises(FolderError, match=r"is not an ensemble .* pass a file written by"):
            load_ensemble(path, make)
    write_tensors(path, {}, kind="ensemble", version=9, members=1, mean="arithmetic")
    with pytest.raises(FolderError, match="format 9 of ensemble, but this release reads up to 2"):
        load_ensemble(path, make)


@pytest.mark.parametrize("members", [0, 2.5, 10**9, None])
@pytest.mark.parametrize("mean", ["arithmetic", "harmonic", None])
def test_a_header_that_makes_no_sense_is_refused(tmp_path, members, mean):
    path = tmp_path / "ensemble.safetensors"
    write_tensors(
        path, {"0.x": torch.ones(1)}, kind="ensemble", version=2, members=members, mean=mean
    )
    with pytest.raises(FolderError, match="is not an ensemble"):
        load_ensemble(path, make)


def test_an_ensemble_of_format_1_is_read(ensemble, tmp_path):
    path = tmp_path / "ensemble.safetensors"
    tensors = {
        f"{place}.{name}": tensor.clone()
        for place, network in enumerate(ensemble.networks)
        for name, tensor in network.state_dict().items()
    }
    header = {
        "format": "attar ensemble",
        "version": 1,
        "members": len(ensemble),
        "mean": "geometric",
    }
    metadata = {"ensemble": json.dumps(header)}
    path.write_bytes(safetensors.torch.save(tensors, metadata=metadata))
    found = load_ensemble(path, make)
    assert found.mean == "geometric"
    for one, other in zip(found.parameters(), ensemble.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_changed_number_of_members_is_noticed(ensemble, tmp_path):
    path = tmp_path / "ensemble.safetensors"
    save_ensemble(path, ensemble)
    content = path.read_bytes()
    assert content.count(rb"\"members\": 3") == 1
    path.write_bytes(content.replace(rb"\"members\": 3", rb"\"members\": 2"))
    with pytest.raises(FolderError, match="its checksum does not match"):
        load_ensemble(path, make)


def test_a_stopped_ensemble_goes_on(ensemble, tmp_path):
    class StopError(Exception):
        pass

    def stop(step):
        if step.index == 4:
            raise StopError

    path = tmp_path / "checkpoint"
    with pytest.raises(StopError):
        train(make, make_set(), members=3, checkpoint=path, progress=stop, **OPTIONS)
    assert_same_weights(
        train(make, make_set(), members=3, checkpoint=path, **OPTIONS), ensemble, rtol=0, atol=0
    )


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        (make_network(), {"members": 2}, r"a function that makes a network, for 2 members, got"),
        (make, {"members": 0}, "expected members > 0"),
        (make, {"members": 2, "mean": "harmonic"}, "expected mean to be arithmetic or geometric"),
        (lambda generator: 3, {}, "expected a function that makes a network, got int"),
        (make, {"epochs": 0}, "expected epochs > 0"),
    ],
)
def test_wrong_arguments_are_refused_at_once(shape_hints_off, network, options, message):
    with pytest.raises(AttarError, match=message):
        train(network, make_set(), **OPTIONS | options)


def test_an_ensemble_of_nothing_or_of_ensembles_is_refused(ensemble):
    with pytest.raises(AttarError, match="got an empty ensemble"):
        EnsembleNetwork([])
    with pytest.raises(AttarError, match="list all of their members"):
        EnsembleNetwork([copy.deepcopy(ensemble)])
