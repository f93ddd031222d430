from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

import attar
from attar.errors import AttarError, DataError, FolderError
from attar.specialists import (
    Specialist,
    SpecialistEnsemble,
    SpecialistWeights,
    load_specialist,
    measure_oversampling,
    narrow_output,
    save_specialist,
    specialist_path,
    to_special_probabilities,
    train_specialist,
    train_specialists,
)

CLASSES, SIZE = 12, 6
GROUPS = (torch.tensor([0, 1, 2, 3]), torch.tensor([3, 4, 5]), torch.tensor([8, 9, 10, 11]))


@pytest.fixture(scope="module")
def blobs():
    """Noisy patterns, and a generalist that has seen them once."""
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(CLASSES, SIZE, generator=generator)

    def draw(examples):
        hard_targets = torch.arange(examples) % CLASSES
        noise = torch.randn(examples, SIZE, generator=generator)
        return attar.TransferSet(centers[hard_targets] + 0.5 * noise, hard_targets, classes=CLASSES)

    train, test = draw(360), draw(240)
    generalist = attar.mlp(SIZE, [], CLASSES, generator=generator)
    attar.train(generalist, train, epochs=3, batch_size=32, learning_rate=0.02)
    return train, test, generalist.eval()


def make(blobs, number, *, seed=0, **weights):
    train, _, generalist = blobs
    classes = GROUPS[number]
    special = int(torch.isin(train.hard_targets, classes).sum())
    oversampling = measure_oversampling(special=special, examples=len(train), special_share=0.5)
    narrow = narrow_output(generalist[-1], classes, oversampling=oversampling)
    return train_specialist(
        nn.Sequential(nn.Flatten(), narrow),
        train,
        classes,
        attar.TrainingSettings(epochs=8, batch_size=16, learning_rate=0.1, seed=seed),
        trunk=nn.Identity(),
        generalist=generalist,
        weights=SpecialistWeights(**weights),
    )


def weights_of(specialist):
    return torch.cat([each.flatten() for each in specialist.network.state_dict().values()])


@pytest.fixture(scope="module")
def specialists(blobs):
    return [make(blobs, number) for number in range(len(GROUPS))]


def ensemble_of(blobs, specialists, **options):
    return SpecialistEnsemble(nn.Identity(), blobs[2], specialists, classes=CLASSES, **options)


def ask(ensemble, place, inputs):
    with torch.no_grad():
        v = ensemble.generalist(inputs)
    return ensemble.ask(place, inputs, v)


def test_specialists_are_better_than_the_generalist_at_their_classes(blobs, specialists):
    _, test, generalist = blobs
    right = {"generalist": 0, "specialist": 0}
    with torch.no_grad():
        for specialist in specialists:
            chosen = torch.isin(test.hard_targets, specialist.classes)
            inputs, truth = test.inputs[chosen], test.hard_targets[chosen]
            for name, logits in (
                ("generalist", generalist(inputs)[:, specialist.classes]),
                ("specialist", specialist.network(inputs)[:, :-1]),
            ):
                right[name] += int((specialist.classes[logits.argmax(1)] == truth).sum())
    assert right["specialist"] > right["generalist"]


def test_the_same_arguments_give_the_same_weights(blobs, specialists):
    again, other = make(blobs, 1), make(blobs, 1, seed=1)
    assert torch.equal(weights_of(again), weights_of(specialists[1]))
    assert not torch.equal(weights_of(other), weights_of(specialists[1]))


def test_soft_targets_keep_what_the_generalist_knows_of_other_classes(blobs):
    _, test, generalist = blobs
    others = test.subset((~torch.isin(test.hard_targets, GROUPS[0])).nonzero()[:, 0])
    with torch.no_grad():
        v = generalist(others.inputs).softmax(1)
        expected = to_special_probabilities(v, GROUPS[0])
    losses = []
    for soft_weight in (0.0, 5.0):
        found = make(blobs, 0, soft_weight=soft_weight)
        ensemble = ensemble_of(blobs, [found])
        log_q = ask(ensemble, 0, others.inputs).log_softmax(1)
        losses.append(-(expected * log_q).sum(1).mean())
    assert losses[1] < losses[0]


def test_dustbin_probabilities_are_about_natural_after_the_correction(blobs, specialists):
    _, test, _ = blobs
    ensemble = ensemble_of(blobs, specialists)
    for place, specialist in enumerate(specialists):
        mean = ask(ensemble, place, test.inputs).softmax(1).mean(0)[-1]
        natural = 1 - len(specialist.classes) / CLASSES
        assert mean.item() == pytest.approx(natural, abs=0.1)


def test_the_ensemble_is_compared_like_any_network(blobs, specialists):
    _, test, generalist = blobs
    models = {"generalist": generalist, "with specialists": ensemble_of(blobs, specialists)}
    result = attar.compare(models, test, latency=False)
    assert result.model("with specialists").mean("errors") < result.model("generalist").mean(
        "errors"
    )
    assert "with specialists" in str(result)


def test_examples_of_classes_that_nobody_knows_keep_the_generalists_answer(blobs, specialists):
    _, test, generalist = blobs
    ensemble = ensemble_of(blobs, specialists)
    with torch.no_grad():
        logits = generalist(test.inputs).log_softmax(1)
    log_q = ensemble(test.inputs)
    alone = torch.isin(logits.argmax(1), torch.tensor([6, 7]))
    assert alone.any()
    torch.testing.assert_close(log_q[alone], logits[alone])
    assert not torch.allclose(log_q[~alone], logits[~alone], atol=1e-3)
    torch.testing.assert_close(log_q.exp().sum(1), torch.ones(len(test)))


def test_more_probable_classes_call_more_specialists(blobs, specialists):
    _, test, _ = blobs
    everyone = ensemble_of(blobs, specialists, most_probable=CLASSES)
    found = everyone.answer(test.inputs)
    assert not torch.allclose(found.log_probabilities, ensemble_of(blobs, specialists)(test.inputs))
    with pytest.raises(AttarError, match="most_probable of 12 at most, got 13"):
        ensemble_of(blobs, specialists, most_probable=13)


def sure_ensemble(margin, *, changed, most_probable):
    """Make a generalist of 1,000 classes that is as sure as one that is right on 99 %."""
    generator = torch.Generator().manual_seed(1)
    patterns = nn.functional.normalize(torch.randn(1000, 128, generator=generator))
    truth = torch.randint(1000, (200,), generator=generator)
    output = nn.Linear(128, 1000)
    found = []
    with torch.no_grad():
        output.weight.copy_(margin * patterns)
        output.bias.zero_()
        for first in range(0, 1000, 100):
            classes = torch.arange(first, min(first + 120, 1000))  # 20 are the next one's too
            network = narrow_output(output, classes, oversampling=9.0)
            noise = torch.randn(network.weight.shape, generator=generator)
            network.weight.add_(changed * noise)
            network.bias[-1] += 6 * changed
            found.append(Specialist(classes, network, 9.0))
    ensemble = SpecialistEnsemble(
        nn.Identity(), output, found, classes=1000, most_probable=most_probable
    )
    inputs = patterns[truth] + 0.03 * torch.randn(200, 128, generator=generator)
    return ensemble, inputs, truth


@pytest.mark.parametrize("most_probable", [1, 3])
@pytest.mark.parametrize("margin", [20.0, 25.0, 30.0, 35.0])
def test_a_sure_ensemble_answers_in_float32_as_in_float64(margin, most_probable):
    ensemble, inputs, truth = sure_ensemble(margin, changed=0.5, most_probable=most_probable)
    with torch.no_grad():
        log_q = ensemble(inputs)
        assert (log_q.double().exp().sum(1) - 1).abs().max() < 1e-6
        expected = ensemble.double()(inputs.double())
    assert torch.equal(log_q.argmax(1), expected.argmax(1))
    torch.testing.assert_close(log_q.double(), expected, rtol=1e-4, atol=2e-4)
    assert (expected.argmax(1) == truth).all()


@pytest.mark.parametrize("margin", [5.0, 25.0, 35.0])
def test_an_ensemble_of_untrained_specialists_is_the_generalist(margin):
    ensemble, inputs, _ = sure_ensemble(margin, changed=0.0, most_probable=3)
    with torch.no_grad():
        expected = ensemble.generalist(inputs).log_softmax(1)
        torch.testing.assert_close(ensemble(inputs), expected, rtol=1e-4, atol=1e-4)


def test_specialists_are_kept_one_by_one(blobs, specialists, tmp_path):
    calls = []

    def make_one(number):
        calls.append(number)
        if number == 2 and calls.count(2) == 1:
            raise KeyboardInterrupt
        return specialists[number]

    with pytest.raises(KeyboardInterrupt):
        list(train_specialists(make_one, 3, tmp_path, made_of="x"))
    before = specialist_path(tmp_path, 0).stat().st_mtime_ns
    with ThreadPoolExecutor(2) as pool:
        numbers = train_specialists(make_one, 3, tmp_path, made_of="x", map_fn=pool.map)
        assert list(numbers) == [0, 1, 2]
    assert calls == [0, 1, 2, 2]
    assert specialist_path(tmp_path, 0).stat().st_mtime_ns == before

    def make_network(classes):
        return nn.Sequential(nn.Flatten(), nn.Linear(SIZE, len(classes) + 1))

    for number, expected in enumerate(specialists):
        got = load_specialist(specialist_path(tmp_path, number), make_network)
        assert torch.equal(weights_of(got), weights_of(expected))
        assert torch.equal(got.classes, expected.classes)
        assert got.oversampling == expected.oversampling


def test_files_of_others_and_damaged_ones_are_refused(specialists, tmp_path):
    path = specialist_path(tmp_path, 0)
    save_specialist(path, specialists[0], made_of="one generalist")
    with pytest.raises(FolderError, match="of another generalist, group or setting"):
        list(train_specialists(lambda number: specialists[number], 1, tmp_path, made_of="other"))
    with pytest.raises(FolderError, match="is no specialist"):
        load_specialist(path, lambda classes: nn.Linear(2, 2))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(FolderError, match=r"is damaged .* remove it to train it again"):
        load_specialist(path, lambda classes: nn.Linear(2, 2))
    with pytest.raises(FolderError, match="cannot read"):
        load_specialist(tmp_path / "none", lambda classes: nn.Linear(2, 2))


def test_wrong_arguments_are_told(blobs, specialists):
    train, _, generalist = blobs
    settings = attar.TrainingSettings(epochs=1, batch_size=16, learning_rate=0.1, seed=0)
    options = {"trunk": nn.Identity(), "generalist": generalist, "weights": SpecialistWeights()}
    network = nn.Linear(SIZE, 2)
    with pytest.raises(AttarError, match="one class leaves nothing to tell apart"):
        train_specialist(network, train, torch.tensor([0]), settings, **options)
    few = train.subset(torch.tensor([4, 5, 6]))
    with pytest.raises(DataError, match="got 0 of 3"):
        train_specialist(network, few, torch.tensor([0, 1]), settings, **options)
    with pytest.raises(AttarError, match="one group of classes or more"):
        ensemble_of(blobs, [])
    stray = Specialist(torch.tensor([3, 12]), network, 1.0)
    with pytest.raises(AttarError, match=r"classes in 0\.\.11"):
        ensemble_of(blobs, [stray])
