import copy
import dataclasses
from itertools import islice

import pytest
import torch
from labeled import CLASSES, EXAMPLES, Counting, make_jittered, make_network, make_set
from torch.nn import functional as F  # noqa: N812

from attar import Dense, Jitter, Sparse, TrainingRun, TrainingSettings, TransferSet, distill, label
from attar.data import Batch
from attar.distillation import soft_target_loss
from attar.errors import AttarError, FolderError, StoreError
from attar.losses import distillation_loss
from attar.targets import SoftTargets, TargetWriter

ALL = torch.arange(EXAMPLES)
OPTIONS = {
    "temperature": 4.0, "soft_weight": 1.0, "hard_weight": 0.5, "epochs": 2, "batch_size": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return label(make_network(), make_set(), tmp_path_factory.mktemp("store"), shard_examples=4)


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    networks = [make_network(1), make_network(2), make_network(3)]
    return label(networks, make_set(), tmp_path_factory.mktemp("members"))


@pytest.fixture(scope="module")
def jittered(tmp_path_factory):
    folder = tmp_path_factory.mktemp("views")
    return label(make_network(), make_jittered(), folder, views=(2, 0, 5), encoding=Sparse(k=3))


def loss_by(store, *, transfer_set=None, **options):
    """The loss of fixed student logits for all examples."""
    options = {"temperature": 4.0, "soft_weight": 1.0, "hard_weight": 0.5} | options
    data = transfer_set or make_set()
    logits = torch.randn(EXAMPLES, CLASSES, generator=torch.Generator().manual_seed(9))
    return soft_target_loss(store, **options)(logits, data.batch(ALL)), logits


def soft_term(logits, p, temperature):
    """T² times the soft cross-entropy, the mean over the examples, written out."""
    return temperature**2 * -(p * (logits / temperature).log_softmax(1)).sum(1).mean()


def test_a_step_is_that_of_plain_torch(tmp_path):
    # In float64, which is never multiplied in bfloat16.
    student, some = make_network(8).double(), make_set()
    names = some.class_names
    data = TransferSet(some.batch(ALL).inputs.double(), some.hard_targets, class_names=names)
    scores = torch.randn(EXAMPLES, CLASSES, generator=torch.Generator().manual_seed(0))
    store = label(scores, data, tmp_path)
    plain, told = copy.deepcopy(student), []
    options = OPTIONS | {"epochs": 1, "batch_size": EXAMPLES}
    distill(
        student, data, store, **options, optimizer="sgd", learning_rate=0.1, progress=told.append
    )
    v = store.batch(ALL).logits
    z = plain(data.batch(ALL).inputs)
    loss = soft_term(z, (v / 4).softmax(1), 4.0) + 0.5 * F.cross_entropy(z, data.hard_targets)
    loss.backward()
    (step,) = told
    assert step.loss == pytest.approx(loss.item(), rel=1e-5)
    for found, parameter in zip(student.parameters(), plain.parameters(), strict=True):
        # Nesterov's first step is 1.9 gradients long.
        expected = parameter - step.learning_rate * 1.9 * parameter.grad
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("encoding", [Sparse(k=CLASSES), Sparse(k=4)])
def test_a_sparse_store_is_near_the_dense_one(store, tmp_path, encoding):
    sparse = label(make_network(), make_set(), tmp_path, encoding=encoding)
    expected, _ = loss_by(store)
    assert loss_by(sparse)[0].item() == pytest.approx(expected.item(), rel=1e-3)  # one class left


@pytest.mark.parametrize("weights", [None, (1.0, 2.0, 5.0), (0.0, 1.0, 0.0)])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_arithmetic_mean_is_that_of_probabilities(members, weights, temperature):
    found, z = loss_by(members, temperature=temperature, hard_weight=0.0, member_weights=weights)
    shares = torch.tensor(weights or (1.0,) * 3)[:, None, None]
    v = members.batch(ALL).logits
    p = ((v / temperature).softmax(-1) * shares).sum(0) / shares.sum()
    torch.testing.assert_close(found, soft_term(z, p, temperature))


@pytest.mark.parametrize("weights", [None, (1.0, 2.0, 5.0)])
def test_the_geometric_mean_is_that_of_logits(members, weights):
    found, z = loss_by(members, hard_weight=0.0, mean="geometric", member_weights=weights)
    shares = torch.tensor(weights or (1.0,) * 3)[:, None, None]
    v = (members.batch(ALL).logits * shares).sum(0) / shares.sum()
    torch.testing.assert_close(found, soft_term(z, (v / 4).softmax(-1), 4.0))


@pytest.mark.parametrize("temperature", [1.0, 4.0, 50.0])
def test_the_mean_of_dense_members_has_one_softmax_of_the_student(
    members, temperature, monkeypatch
):
    # It was one loss for each member.
    calls = []

    def spy(logits, teacher_logits, hard_targets, **weights):
        calls.append(teacher_logits)
        return distillation_loss(logits, teacher_logits, hard_targets, **weights)

    monkeypatch.setattr("attar.distillation.distillation_loss", spy)
    loss_by(members, temperature=temperature)
    p = (members.batch(ALL).logits.double() / temperature).softmax(-1).mean(0)
    (v,) = calls
    torch.testing.assert_close((v.double() / temperature).softmax(-1), p, rtol=2e-6, atol=0)


@pytest.mark.parametrize("encoding", [Dense(), Sparse(k=2)])
@pytest.mark.parametrize("networks", [1, 2])
def test_soft_targets_go_to_the_students_device(tmp_path, monkeypatch, encoding, networks):
    teacher = [make_network(seed) for seed in range(networks)]
    store = label(teacher, make_set(), tmp_path, encoding=encoding)
    soft, moved = store.batch(ALL), []
    kind = type(soft)
    assert {each.device.type for each in tensors(soft.to(torch.device("meta")))} == {"meta"}
    monkeypatch.setattr(kind, "to", lambda self, device: moved.append(device) or self)
    loss_by(store)
    assert moved == [torch.device("cpu")]


def tensors(soft):
    found = [getattr(soft, field.name) for field in dataclasses.fields(soft)]
    return [each for each in found if isinstance(each, torch.Tensor)]


def test_the_hard_term_counts_once_however_many_members(members):
    found, z = loss_by(members, soft_weight=0.0)
    torch.testing.assert_close(found, 0.5 * F.cross_entropy(z, make_set().hard_targets))


def test_sparse_members_have_an_arithmetic_mean_but_no_geometric_one(members, tmp_path):
    networks = [make_network(1), make_network(2), make_network(3)]
    sparse = label(networks, make_set(), tmp_path, encoding=Sparse(k=CLASSES))
    torch.testing.assert_close(loss_by(sparse)[0], loss_by(members)[0], rtol=1e-3, atol=0)
    with pytest.raises(AttarError, match="the geometric mean needs a dense store"):
        distill(make_network(8), make_set(), sparse, **OPTIONS, mean="geometric")


def test_unlabeled_examples_have_the_soft_term_alone(tmp_path):
    data = make_set(unlabeled=EXAMPLES)
    store = label(make_network(), data, tmp_path)
    found, z = loss_by(store, transfer_set=data)
    torch.testing.assert_close(found, soft_term(z, (store.batch(ALL).logits / 4).softmax(1), 4.0))
    some = make_set(unlabeled=10)
    store = label(make_network(), some, tmp_path / "some")
    soft, _ = loss_by(store, transfer_set=some, hard_weight=0.0)
    hard = F.cross_entropy(z[10:], some.hard_targets[10:], reduction="sum") / EXAMPLES
    torch.testing.assert_close(loss_by(store, transfer_set=some)[0], soft + 0.5 * hard)


def test_epochs_go_through_the_views_that_were_labeled_pixel_by_pixel(jittered):
    student, data = Counting(8), make_jittered()
    distill(student, data, jittered, **OPTIONS | {"epochs": 4, "batch_size": EXAMPLES})
    for seen, view in zip(student.seen, (2, 0, 5, 2), strict=True):
        rows = {row.numpy().tobytes() for row in seen}
        assert rows == {row.numpy().tobytes() for row in data.batch(ALL, view).inputs}


def test_the_soft_targets_are_those_of_the_view_that_is_shown(jittered):
    losses = {
        view: soft_target_loss(jittered, temperature=2.0, soft_weight=1.0, hard_weight=0.0)(
            torch.eye(CLASSES)[:3], Batch(torch.zeros(3, 1), torch.zeros(3).long(), ALL[:3], view)
        ).item()
        for view in (0, 2, 5)
    }
    assert len(set(losses.values())) == 3


def test_the_student_comes_back_ready_to_be_used(store, tmp_path):
    for _ in range(2):  # the second time there is nothing left to do
        student = make_network(8, hidden_dropout=0.5)
        checkpoint = str(tmp_path / "run.safetensors")
        found = distill(student, make_set(), store.folder, **OPTIONS, checkpoint=checkpoint)
        assert found is student
        assert not any(module.training for module in student.modules())


def test_distilling_makes_the_student_agree_with_the_teacher(tmp_path):
    teacher, data = make_network(), make_set(unlabeled=EXAMPLES)
    store = label(teacher, data, tmp_path)
    options = OPTIONS | {"epochs": 100, "hard_weight": 0.0, "learning_rate": 0.01}
    student = distill(make_network(8, units=60), data, store, **options | {"temperature": 1.0})
    inputs = data.batch(ALL).inputs
    agreement = (student(inputs).argmax(1) == teacher.eval()(inputs).argmax(1)).float().mean()
    assert agreement >= 0.8


# What is refused


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (make_set(1), "was made for the transfer set .*…, got .*…"),
        (make_set().subset(ALL[:20]), "was made for the transfer set"),
        (make_set(class_names="abcdf"), "was made for the transfer set"),  # names count as data
    ],
)
def test_a_store_of_other_data_is_refused(store, data, message):
    with pytest.raises(StoreError, match=message):
        distill(make_network(8), data, store, **OPTIONS)


@pytest.mark.parametrize("views", [None, Jitter(pixels=1, seed=4), Jitter(pixels=2, seed=3)])
def test_a_store_of_other_views_is_refused_with_both_sides_named(jittered, views):
    both = f"made for views of Jitter.*seed=3.*, got .* views of {views!r}"
    with pytest.raises(StoreError, match=both.replace("(", "[(]").replace(")", "[)]")):
        distill(make_network(8), make_set(views=views), jittered, **OPTIONS)


def test_an_unfinished_store_and_no_store_are_refused(store, tmp_path):
    TargetWriter(tmp_path / "begun", store.plan)
    with pytest.raises(StoreError, match="begun is unfinished: 6 of 6 shards are missing"):
        distill(make_network(8), make_set(), tmp_path / "begun", **OPTIONS)
    with pytest.raises(StoreError, match="gone is not a soft-target store"):
        distill(make_network(8), make_set(), str(tmp_path / "gone"), **OPTIONS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "expected temperature > 0"),
        ({"soft_weight": 0.0, "hard_weight": 0.0}, "got 0 for both"),
        ({"hard_weight": -1.0}, "expected hard_weight >= 0"),
        ({"mean": "harmonic"}, "expected mean to be arithmetic or geometric, got 'harmonic'"),
        ({"member_weights": (1.0,)}, r"one weight >= 0 for each of 3 members.* got \[1.0\]"),
        ({"member_weights": (0.0, 0.0, 0.0)}, "not all 0"),
        ({"member_weights": (1.0, -1.0, 1.0)}, "one weight >= 0"),
        ({"member_weights": (1.0, float("nan"), 1.0)}, "one weight >= 0"),
        ({"epochs": 0}, "expected epochs > 0"),
    ],
)
@pytest.mark.usefixtures("no_type_hints")
def test_arguments_out_of_range_are_named(members, options, message):
    with pytest.raises(AttarError, match=message):
        distill(make_network(8), make_set(), members, **OPTIONS | options)


@pytest.fixture
def no_type_hints(shape_hints_off):
    """Let a wrong literal come as far as our own check."""


def test_sparse_soft_targets_below_temperature_1_are_refused(jittered):
    with pytest.raises(AttarError, match=r"expected temperature >= 1 for sparse .*, got 0\.5"):
        distill(make_network(8), make_jittered(), jittered, **OPTIONS | {"temperature": 0.5})


# Going on from a checkpoint


@pytest.fixture
def stopped(members, tmp_path):
    """The checkpoint of a distillation that was stopped after its first step, in one file."""
    path = tmp_path / "run.safetensors"
    distill(make_network(8), make_set(), members, **OPTIONS, checkpoint=path)
    return path


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"temperature": 5.0}, "temperature"),
        ({"soft_weight": 2.0}, "soft_weight"),
        ({"hard_weight": 0.0}, "hard_weight"),
        ({"mean": "geometric"}, "mean"),
        ({"member_weights": (1.0, 1.0, 2.0)}, "member_weights"),
        ({"seed": 1}, "settings"),
    ],
)
def test_the_checkpoint_of_another_distillation_is_refused(stopped, members, change, name):
    # Once, a checkpoint knew its settings and data alone, and went on with another loss.
    with pytest.raises(FolderError, match=f"checkpoint of a run with different {name}; choose"):
        distill(make_network(8), make_set(), members, **OPTIONS | change, checkpoint=stopped)


def test_the_checkpoint_with_another_store_is_refused(stopped, tmp_path):
    networks = [make_network(1), make_network(2), make_network(4)]
    other = label(networks, make_set(), tmp_path / "other")
    with pytest.raises(FolderError, match="checkpoint of a run with different store; choose"):
        distill(make_network(8), make_set(), other, **OPTIONS, checkpoint=stopped)


def test_the_same_arguments_in_other_words_go_on(stopped, members):
    before = stopped.read_bytes()
    options = OPTIONS | {"temperature": 4, "member_weights": [3, 3, 3]}
    again = SoftTargets.open(members.folder)
    distill(make_network(8), make_set(), again, **options, checkpoint=str(stopped))
    assert stopped.read_bytes() == before


def test_the_checkpoint_of_another_student_is_refused_and_it_is_unchanged(stopped, members):
    # Once, network 7 went on from network 8's checkpoint, and came back with its weights.
    student = make_network(7)
    before = copy.deepcopy(student.state_dict())
    with pytest.raises(
        FolderError, match="checkpoint of a run with different initial network; choose"
    ):
        distill(student, make_set(), members, **OPTIONS, checkpoint=stopped)
    assert all(torch.equal(each, before[name]) for name, each in student.state_dict().items())


def test_a_distillation_that_was_stopped_ends_with_the_same_bits(jittered, tmp_path):
    def make_run(**options):
        loss_fn = soft_target_loss(jittered, temperature=4.0, soft_weight=1.0, hard_weight=0.5)
        settings = TrainingSettings(epochs=4, batch_size=8, learning_rate=0.1, seed=0)
        student = make_network(8, hidden_dropout=0.5)
        return TrainingRun(student, make_jittered(), loss_fn, settings, views=(2, 0, 5), **options)

    whole = make_run()
    list(whole)
    options = {"checkpoint": tmp_path / "run", "checkpoint_seconds": 0.0}
    list(islice(make_run(**options), 5))
    second = make_run(**options)
    assert second.steps_done == 5
    list(second)
    pairs = zip(whole.network.parameters(), second.network.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_stores_of_the_same_content_have_the_same_fingerprint(store, tmp_path):
    same = label(make_network(), make_set(), tmp_path / "same", shard_examples=4)
    other = label(make_network(), make_set(), tmp_path / "other", encoding=Dense())
    assert same.fingerprint() == store.fingerprint() != other.fingerprint()
