import gc
import re
import threading
import time
import tracemalloc
import warnings

import pytest
import torch
from labeled import CLASSES, EXAMPLES, Counting, contents, make_jittered, make_network, make_set
from labeled import make_teacher as as_counted
from torch import nn

from attar import Dense, Jitter, Sparse, TransferSet, label
from attar.errors import (
    AttarError,
    DataError,
    ShapeError,
    StoreError,
    StoreWarning,
    TeacherWarning,
)
from attar.targets import SoftTargets, TargetWriter
from attar.targets.manifest import write_entry, write_plan
from attar.teachers import Ensemble, as_teacher

ALL = torch.arange(EXAMPLES)
SMALL = {"shard_examples": 4, "batch_size": 3}  # 6 shards, 2 batches in most
DENSE_SHARDS = -(-EXAMPLES // 4)


def plain_logits(network, transfer_set=None, view=0):
    """What a dense store has to hold: logits relative to the largest, as float16."""
    inputs = (transfer_set or make_set()).batch(ALL, view).inputs
    with torch.no_grad():
        logits = network.eval()(inputs)
    return (logits - logits.amax(dim=1, keepdim=True)).half().float()


# What is stored


@pytest.mark.parametrize("encoding", [Dense(), Sparse(k=5), None])
def test_the_store_holds_the_networks_logits(tmp_path, encoding):
    network = make_network()
    store = label(network, make_set(), tmp_path / "store", encoding=encoding, **SMALL)
    soft = store.batch(ALL)
    expected = plain_logits(network)
    if isinstance(encoding, Sparse):
        expected = expected.gather(1, soft.indices)
    torch.testing.assert_close(soft.logits, expected, rtol=0, atol=2e-3)
    store.verify()


@pytest.mark.parametrize("encoding", [Dense(), Sparse(k=2), Sparse(k=2, draws=3)])
def test_the_bytes_do_not_hang_on_the_number_of_workers(tmp_path, encoding):
    for workers in (1, 2, 5):
        label(
            [make_network(1), make_network(2)], make_jittered(), tmp_path / str(workers),
            views=(0, 2), encoding=encoding, workers=workers, **SMALL,
        )  # fmt: skip
    assert contents(tmp_path / "1") == contents(tmp_path / "2") == contents(tmp_path / "5")


def test_the_batch_size_changes_at_most_the_last_bit(tmp_path):
    stores = [
        label(make_network(units=300), make_set(), tmp_path / str(size), batch_size=size)
        for size in (1, 7, 256)
    ]
    first, *others = [store.batch(ALL).logits for store in stores]
    for other in others:
        torch.testing.assert_close(first, other, rtol=2**-10, atol=1e-6)


def test_a_sparse_store_has_the_largest_classes_and_the_tail(tmp_path):
    network = make_network()
    soft = label(network, make_set(), tmp_path, encoding=Sparse(k=2), **SMALL).batch(ALL)
    logits = plain_logits(network)
    assert torch.equal(soft.indices, logits.topk(2).indices)
    rest = logits.scatter(1, soft.indices, -torch.inf).logsumexp(dim=1)
    torch.testing.assert_close(soft.tail[:, -1], rest, rtol=0, atol=2e-3)  # at β = 1


def test_views_are_those_of_the_set(tmp_path):
    network, data = make_network(), make_jittered()
    store = label(network, data, tmp_path, views=(3, 0, 1), **SMALL)
    for view in (3, 0, 1):
        expected = plain_logits(network, data, view)
        torch.testing.assert_close(store.batch(ALL, view).logits, expected, rtol=0, atol=2e-3)
    assert [view.number for view in store.plan.views] == [3, 0, 1]


def test_each_member_is_stored_and_asked_for_its_own_shards_alone(tmp_path):
    networks = [Counting(1), Counting(2)]
    store = label(networks, make_set(), tmp_path / "store", workers=3, **SMALL)
    assert [sum(network.sizes) for network in networks] == [EXAMPLES, EXAMPLES]
    for place, network in enumerate(networks):
        found = store.batch(ALL, member=place).logits
        torch.testing.assert_close(found, plain_logits(network), rtol=0, atol=2e-3)
    (tmp_path / "half").mkdir()
    plan = store.plan
    writer = TargetWriter(tmp_path / "half", plan)
    for shard in writer.missing()[:DENSE_SHARDS]:  # all of the first member
        writer.write(shard, [plain_logits(networks[0])[shard.start : shard.stop]])
    for network in networks:
        network.sizes.clear()
    label(networks, make_set(), tmp_path / "half", **SMALL)
    assert [sum(network.sizes) for network in networks] == [0, EXAMPLES]


def test_members_may_share_layers_while_several_threads_ask_them(tmp_path):
    # Once, the first member to finish a batch woke the dropout of the other's trunk.
    trunk = nn.Sequential(nn.Flatten(), nn.Linear(36, 30), nn.Dropout(0.9))
    members = [nn.Sequential(trunk, nn.Linear(30, CLASSES)) for _ in range(3)]
    options = {"shard_examples": 2, "batch_size": 1}
    label(members, make_set(), tmp_path / "four", workers=4, **options)
    label(members, make_set(), tmp_path / "one", workers=1, **options)
    assert contents(tmp_path / "one") == contents(tmp_path / "four")
    assert all(module.training for member in members for module in member.modules())


def test_scores_that_were_stored_elsewhere_are_kept_as_well(tmp_path):
    scores = torch.randn(EXAMPLES, CLASSES, generator=torch.Generator().manual_seed(0))
    store = label(scores, make_set(), tmp_path / "store", **SMALL)
    expected = (scores - scores.amax(dim=1, keepdim=True)).half().float()
    assert torch.equal(store.batch(ALL).logits, expected)
    with pytest.raises(DataError, match=r"only view 0 for stored scores, .*got views \[0, 1\]"):
        label(scores, make_jittered(), tmp_path / "views", views=(0, 1))


def test_a_function_is_labeled_by_way_of_as_teacher_as_the_error_says(tmp_path):
    # label asked for version=, which it does not take.
    def double(inputs):
        return 2 * inputs.flatten(1)[:, :CLASSES]

    data = make_set()
    with pytest.raises(AttarError, match=r'double; try as_teacher\(.*double, .*version="1"\)'):
        label(double, data, tmp_path)
    teacher = as_teacher(double, classes=CLASSES, version="1")
    store = label(teacher, data, tmp_path)
    expected = double(data.batch(ALL).inputs)
    expected = expected - expected.amax(dim=1, keepdim=True)
    torch.testing.assert_close(store.batch(ALL).logits, expected, rtol=0, atol=2e-3)


def test_one_example_is_enough(tmp_path):
    one = make_set().subset(torch.tensor([7]))
    store = label(make_network(), one, tmp_path, workers=5)
    expected = plain_logits(make_network())[7:8]
    torch.testing.assert_close(store.batch(torch.tensor([0])).logits, expected, rtol=0, atol=2e-3)


# Going on


@pytest.mark.parametrize("finished", range(DENSE_SHARDS + 1))
def test_a_run_stopped_after_any_shard_labels_the_others_alone(tmp_path, finished):
    undisturbed = label(Counting(), make_set(), tmp_path / "whole", **SMALL)

    class StopError(Exception):
        pass

    stored = []

    def stop(now):
        stored.append(now.rows)
        if len(stored) == finished + 1:
            raise StopError

    first, second = Counting(), Counting()
    with pytest.raises(StopError):
        label(first, make_set(), tmp_path / "store", workers=1, progress=stop, **SMALL)
    left = TargetWriter(tmp_path / "store", undisturbed.plan).missing()
    label(second, make_set(), tmp_path / "store", **SMALL)
    assert sum(second.sizes) == sum(shard.stop - shard.start for shard in left)
    assert len(left) <= DENSE_SHARDS - finished
    assert contents(tmp_path / "store") == contents(undisturbed.folder)


def test_a_finished_store_is_returned_without_asking_the_teacher(tmp_path):
    network, told = Counting(), []
    label(network, make_set(), tmp_path / "store", **SMALL)
    before = contents(tmp_path / "store")
    assert sum(network.sizes) == EXAMPLES
    network.sizes.clear()
    store = label(network, make_set(), tmp_path / "store", progress=told.append, **SMALL)
    assert isinstance(store, SoftTargets)
    assert network.sizes == []
    assert contents(tmp_path / "store") == before
    assert [(now.rows, now.total_rows) for now in told] == [(EXAMPLES, EXAMPLES)]


def test_lost_and_damaged_shards_of_a_finished_store_are_labeled_again(tmp_path):
    # `attar.label` said that nothing was missing, and reading said to label into another folder.
    network, told = Counting(), []
    label(network, make_set(), tmp_path / "store", **SMALL)
    before = contents(tmp_path / "store")
    (tmp_path / "store/shard-00002.arrow").unlink()
    damaged = bytearray(before["shard-00004.arrow"])
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "store/shard-00004.arrow").write_bytes(damaged)
    network.sizes.clear()
    with pytest.warns(StoreWarning, match=r"shard-0000\d.arrow is (missing|damaged)") as warned:
        store = label(network, make_set(), tmp_path / "store", progress=told.append, **SMALL)
    assert len(warned) == 2
    assert contents(tmp_path / "store") == before
    assert sum(network.sizes) == 8  # examples of two shards
    assert [now.rows for now in told] == [EXAMPLES - 8, EXAMPLES - 4, EXAMPLES]
    store.verify()


def test_what_a_killed_writer_left_goes_away(tmp_path):
    (tmp_path / ".shard-00001.arrow.4711.partial").write_bytes(b"half of it")
    label(make_network(), make_set(), tmp_path, **SMALL)
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".partial"]


@pytest.mark.parametrize("stopped", [False, True])
@pytest.mark.parametrize(
    ("change", "both"),
    [
        ({"teacher": make_network(5)}, r"teacher '\w+', not '\w+'"),
        ({"data": make_jittered(seed=4)}, "views number 1 .*seed=3.*, not .*seed=4"),
        ({"data": make_set(1, views=Jitter(pixels=1, seed=3))}, r"data '\w+', not '\w+'"),
        ({"data": make_jittered(class_names="abcdf")}, "class names number 4 'e', not 'f'"),
        ({"encoding": Sparse(k=2)}, r"encoding Dense\(\), not Sparse\(k=2, "),
        ({"views": (0, 2)}, "views number 1 .*number=1.*, not .*number=2"),
        ({"shard_examples": 5}, "shard examples 4, not 5"),
        ({"teacher": [make_network(), make_network(2)]}, "teacher '"),
    ],
)
def test_a_folder_of_another_store_is_refused_and_left_alone(tmp_path, change, both, stopped):
    options = {"teacher": make_network(), "data": make_jittered(), "views": (0, 1)}
    run(tmp_path, **options)
    if stopped:
        leave_unfinished(tmp_path, shards=1)
    before = contents(tmp_path)
    with pytest.raises(StoreError, match=f"{tmp_path.name} contains soft targets with {both}"):
        run(tmp_path, **options | change)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "change", [{"teacher": make_network(5)}, {"encoding": Sparse(k=2)}, {"shard_examples": 5}]
)
def test_a_store_without_a_finished_shard_gives_way_to_another(tmp_path, change):
    # A teacher that failed at once, and was mended, was refused: its plan stood in the folder.
    options = {"teacher": make_network(), "data": make_set()}
    run(tmp_path / "store", **options)
    leave_unfinished(tmp_path / "store", shards=0)
    (tmp_path / "store" / "shard-00005.arrow").write_bytes(b"half of it")
    run(tmp_path / "store", **options | change)
    run(tmp_path / "fresh", **options | change)
    assert contents(tmp_path / "store") == contents(tmp_path / "fresh")


def test_a_writer_whose_folder_another_claimed_leaves_no_shard_in_it(tmp_path):
    plans = [
        label(make_network(seed), make_set(), tmp_path / str(seed), **SMALL).plan for seed in (1, 2)
    ]
    first = TargetWriter(tmp_path / "store", plans[0])
    second = TargetWriter(tmp_path / "store", plans[1])
    with pytest.raises(StoreError, match=r"contains soft targets with teacher '\w+', not '\w+'"):
        first.write(first.plan.shards[0], [torch.zeros(4, CLASSES)])
    assert second.missing() == second.plan.shards
    assert not list(second.folder.glob("shard*"))


def leave_unfinished(folder, *, shards):
    """Bring a finished store back to what a run leaves that was killed after some shards."""
    store = SoftTargets.open(folder)
    (folder / "manifest.json").unlink()
    for entry in store.entries[shards:]:
        (folder / entry.shard.name).unlink()
    write_plan(folder, store.plan)
    for entry in store.entries[:shards]:
        write_entry(folder, entry)


def run(folder, *, teacher, data, **options):
    return label(teacher, data, folder, **SMALL | options)


# Errors


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("workers", [1, 3])
def test_logits_that_are_not_finite_name_the_example(tmp_path, value, workers):
    scores = torch.zeros(EXAMPLES, CLASSES)
    scores[17, 2] = value
    hint = "replace -inf by a large negative" if value < 0 else "run the teacher in float32, and ch"
    with pytest.raises(DataError, match=f"got {value} for example 17, view 0, member 0; {hint}"):
        label(scores, make_set(), tmp_path, workers=workers, **SMALL)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_an_error_of_the_teacher_arrives_and_finished_shards_stay(tmp_path, workers):
    data = make_set()
    network = Counting(fail_at=data.batch(torch.tensor([13])).inputs[0])
    threads, torch_threads = threading.active_count(), torch.get_num_threads()
    expected = r"fails on example 13, view 0: RuntimeError: this example is too much; check"
    with pytest.raises(DataError, match=expected):
        label(network, data, tmp_path, workers=workers, **SMALL)
    assert threading.active_count() == threads
    assert torch.get_num_threads() == torch_threads
    assert all(module.training for module in network.modules())
    asked = sum(network.sizes)
    network._fails_on = None
    label(network, data, tmp_path, workers=workers, **SMALL)
    if workers == 1:
        # Three whole shards, the batch that failed, its examples up to the one it failed on, and
        # another, to see whether it fails on all.
        assert asked == 12 + 3 + 2 + 1
        assert sum(network.sizes) == asked + EXAMPLES - 12
    label(Counting(), data, tmp_path / "whole", **SMALL)
    whole = contents(tmp_path / "whole")
    assert files(tmp_path) == whole


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_an_error_stops_the_other_workers_at_their_next_batch(tmp_path):
    class Slow(nn.Module):
        def __init__(self):
            super().__init__()
            self.calls = 0

        def forward(self, inputs):
            self.calls += 1
            if threading.current_thread().name.endswith("_0"):
                raise RuntimeError("the first worker is out")
            time.sleep(0.02)
            return torch.zeros(len(inputs), CLASSES)

    network = Slow()
    expected = r"fails on every example \(first error: RuntimeError: the first worker is out; \d t"
    with pytest.raises(DataError, match=expected):
        label(network, make_set(), tmp_path, workers=2, batch_size=1, shard_examples=11)
    assert network.calls < 9 + 11


def test_a_batch_that_is_too_large_is_told_from_an_example_that_is_wrong(tmp_path):
    class Narrow(nn.Module):
        def forward(self, inputs):
            if len(inputs) > 1:
                raise MemoryError("no room for two")
            return torch.zeros(len(inputs), CLASSES)

    expected = (
        r"fails on the batch of examples 0 to 2, view 0, but on no single one of them: "
        r"MemoryError: no room for two; try a smaller batch_size"
    )
    with pytest.raises(DataError, match=expected):
        label(Narrow(), make_set(), tmp_path, workers=1, **SMALL)


def test_a_teacher_that_fails_on_every_example_is_not_blamed_on_one(tmp_path):
    # It said "fails on example 0 ...; look at it, or leave it out", which was no help.
    data = TransferSet(torch.randn(600, 4), classes=2)
    expected = (
        r"the teacher fails on every example \(first error: RuntimeError: .*1x4 and 5x2.*; 8 t"
        r"ried, view 0\); does it accept .* \['batch', 4\] torch.float32\? If it needs other "
        r"inputs than the student, compute its logits from them and pass these: attar.label"
    )
    with pytest.raises(DataError, match=expected):
        label(nn.Linear(5, 2), data, tmp_path, workers=1)


def test_a_batch_on_which_all_fails_is_told_from_a_set_on_which_all_fails(tmp_path):
    class Half(nn.Module):
        def forward(self, inputs):
            if (inputs[:, 0] < 300).any():
                raise RuntimeError("too small")
            return inputs

    data = TransferSet(torch.arange(600.0)[:, None].expand(600, 2), classes=2)
    with pytest.raises(DataError, match=r"fails on example 0, view 0: RuntimeError: too small; ch"):
        label(Half(), data, tmp_path, workers=1)


def test_an_error_in_progress_reaches_the_caller(tmp_path):
    threads = threading.active_count()

    def fail(now):
        if now.rows:
            raise KeyError(now.rows)

    with pytest.raises(KeyError):
        label(make_network(), make_set(), tmp_path, progress=fail, **SMALL)
    gc.collect()
    assert threading.active_count() == threads


@pytest.mark.parametrize("make", [lambda n: n, lambda n: as_teacher(n, classes=4)])
def test_a_teacher_of_another_number_of_classes_is_refused(tmp_path, make):
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 4))
    with pytest.raises(ShapeError, match=r"the transfer set's 5 classes|5 class"):
        label(make(network), make_set(), tmp_path)


def test_a_given_teacher_of_other_classes_is_refused_before_the_folder_is_claimed(tmp_path):
    teacher = as_teacher(nn.Linear(36, 4), classes=4)
    with pytest.raises(ShapeError, match="5 classes, got one of 4"):
        label(teacher, make_set(), tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_views_of_a_set_without_views_are_refused_before_the_folder_is_claimed(tmp_path):
    with pytest.raises(DataError, match=r"set without views, got views \[1\]; try with_views"):
        label(make_network(), make_set(), tmp_path / "store", views=(1,))
    assert not (tmp_path / "store").exists()


def test_a_teacher_of_one_class_is_refused_as_its_softmax_is_always_1(tmp_path):
    # A regressor, wrapped as the errors advised, left a store of zeros without a word.
    data = TransferSet(torch.randn(50, 3), classes=1)
    with pytest.raises(AttarError, match=r"at least two classes, got 1; .* attar.TrainingRun"):
        as_teacher(lambda inputs: inputs.sum(1, keepdim=True), classes=1, version="1")
    with pytest.raises(AttarError, match=r"at least two classes, got 1; .* attar.TrainingRun"):
        label(nn.Linear(3, 1), data, tmp_path / "store")
    assert not (tmp_path / "store").exists()


class Several:
    """Has members, but cannot be asked for one alone."""

    classes, members, reads_inputs = CLASSES, 2, True

    def logits(self, batch):
        return torch.zeros(2, len(batch.inputs), CLASSES)

    def fingerprint(self):
        return "0" * 64


def test_members_that_cannot_be_asked_alone_are_refused(tmp_path):
    with pytest.raises(
        AttarError, match=r"expected an Ensemble or a list of teachers, got Several of 2 members"
    ):
        label(Several(), make_set(), tmp_path / "store")


@pytest.mark.parametrize("name", ["batch_size", "workers"])
def test_numbers_that_must_be_positive_are_named(tmp_path, name):
    with pytest.raises(AttarError, match=f"expected {name} > 0 and finite, got 0"):
        label(make_network(), make_set(), tmp_path, **{name: 0})


@pytest.mark.parametrize("views", [(), (0, 0), (-1,)])
def test_views_that_make_no_sense_are_named(tmp_path, views):
    with pytest.raises(AttarError, match="expected views with different numbers >= 0"):
        label(make_network(), make_jittered(), tmp_path, views=views)


def shift(inputs, example_ids, view):
    return inputs.roll(view, dims=-1)


def test_a_function_makes_views_under_its_name(tmp_path):
    store = label(make_network(), make_set(views=shift), tmp_path, views=(1,))
    assert store.plan.views[0].maker == f"{__name__}.shift"


def test_views_that_show_only_their_address_are_refused(tmp_path):
    # Their repr was in the plan, so that another process could neither go on nor distill.
    with pytest.raises(DataError, match="expected views that say what they do"):
        label(make_network(), make_set(views=lambda *_: None), tmp_path, views=(1,))


# What the caller sees meanwhile


def test_progress_counts_up_to_the_total(tmp_path):
    told, caller = [], []

    def tell(now):
        told.append(now)
        caller.append(threading.get_ident())

    teacher = [make_network(1), make_network(2)]
    label(teacher, make_jittered(), tmp_path, views=(0, 1, 2), progress=tell, **SMALL)
    total = 3 * 2 * EXAMPLES
    rows = [now.rows for now in told]
    assert rows == sorted(set(rows))
    assert (rows[0], rows[-1]) == (0, total)
    assert {now.total_rows for now in told} == {total}
    assert told[0].seconds_left is None
    assert told[-1].seconds_left == 0
    for now in told[1:]:
        assert now.rows_per_second > 0
        assert now.seconds_left == pytest.approx((total - now.rows) / now.rows_per_second)
    assert set(caller) == {threading.get_ident()}


def test_every_worker_computes_on_one_thread_and_the_callers_count_stays(tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        network, seen = Counting(), []
        label(
            network, make_set(), tmp_path, workers=2,
            progress=lambda now: seen.append(torch.get_num_threads()), **SMALL,
        )  # fmt: skip
        assert torch.get_num_threads() == 3
        assert network.torch_threads == {1}
        assert set(seen) == {3}
        found = []
        thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert found == [3]  # what new threads start with
    finally:
        torch.set_num_threads(before)


def test_the_teacher_is_asked_in_evaluation_mode_and_gets_its_own_back(tmp_path):
    network = Counting()
    network.network[1].eval()
    before = [module.training for module in network.modules()]
    label(network, make_set(), tmp_path, workers=3, **SMALL)
    assert network.training_modes == {False}
    assert [module.training for module in network.modules()] == before


def test_the_callers_random_numbers_stay(tmp_path):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    label(make_network(hidden_dropout=0.5), make_jittered(), tmp_path, views=(0, 1))
    assert torch.equal(torch.rand(3), expected)


def test_memory_does_not_grow_with_the_number_of_examples(tmp_path):
    def peak(examples):
        data = TransferSet(torch.zeros(examples, 1), classes=200)
        teacher = as_teacher(nn.Linear(1, 200), classes=200)
        tracemalloc.start()
        label(teacher, data, tmp_path / str(examples), workers=2, shard_examples=500)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(1000)  # what is imported and cached at the first time
    few, many = peak(4000), peak(16000)  # both have more shards than are made at once
    assert many < 1.5 * few
    assert many < 16000 * 200  # half of the store


def test_an_ensemble_is_the_same_as_a_list(tmp_path):
    networks = [make_network(1), make_network(2)]
    label(networks, make_set(), tmp_path / "list")
    label(Ensemble([as_counted(each) for each in networks]), make_set(), tmp_path / "ensemble")
    assert contents(tmp_path / "list") == contents(tmp_path / "ensemble")


# Whether the teacher is right


def make_clusters(examples=180, *, sort=False, unlabeled=0):
    """Images of three brightnesses, in 0..255, and what a network needs to tell them apart."""
    generator = torch.Generator().manual_seed(0)
    hard_targets = torch.randint(3, (examples,), generator=generator)
    if sort:
        hard_targets = hard_targets.sort().values
    noise = torch.randn((examples, 8), generator=generator)
    images = (40 + 80 * hard_targets[:, None] + 15 * noise).clamp(0, 255).to(torch.uint8)
    hard_targets[:unlabeled] = -1
    return TransferSet(images, hard_targets, classes=3)


class Brightness(nn.Module):
    """Right on most of `make_clusters`, if its inputs are in 0..1, as those of a batch are."""

    def __init__(self, scale=1.0, order=(0, 1, 2)):
        super().__init__()
        self.scale, self.order, self.asked = scale, order, 0
        self.centers = nn.Parameter(torch.tensor([40.0, 120.0, 200.0]) / 255)

    def forward(self, inputs):
        self.asked += len(inputs)
        distances = inputs.mean(dim=1, keepdim=True) * self.scale - self.centers
        return (-40 * distances.abs())[:, self.order]


def test_the_store_tells_how_often_the_teacher_is_right(tmp_path):
    data = make_clusters(unlabeled=30)
    teacher = nn.Linear(8, 3)  # as it is drawn: right on a third
    with torch.no_grad():
        teacher.weight.mul_(5)
        logits = teacher.double()(data.batch(torch.arange(30, 180)).inputs.double())
    teacher.float()
    truth = data.hard_targets[30:]
    store = label_quietly(teacher, data, tmp_path)
    quality = store.teacher_quality
    assert (quality.labeled, quality.classes, quality.members) == (150, 3, ())
    assert quality.accuracy == pytest.approx((logits.argmax(1) == truth).double().mean().item())
    nll = nn.functional.cross_entropy(logits, truth).item()
    assert quality.nll == pytest.approx(nll, rel=1e-5)
    shares = truth.bincount().double() / 150
    assert quality.most_frequent_class_share == pytest.approx(shares.max().item())
    assert quality.class_entropy == pytest.approx(-(shares * shares.log()).sum().item())
    assert str(quality) == (
        f"right on {100 * quality.accuracy:.1f} % of 150 labeled examples "
        f"(most frequent class {100 * shares.max():.1f} %), NLL {quality.nll:.2f}"
    )


def label_quietly(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TeacherWarning)
        return label(*arguments, **options)


def test_the_quality_outlives_a_kill_and_does_not_depend_on_the_workers(tmp_path):
    data, options = make_clusters(), {"shard_examples": 20, "batch_size": 7}
    whole = label(Brightness(), data, tmp_path / "whole", workers=1, **options)

    class StopError(Exception):
        pass

    def stop(now):
        if now.rows >= 60:
            raise StopError

    with pytest.raises(StopError):
        label(Brightness(), data, tmp_path / "store", workers=1, progress=stop, **options)
    store = label(Brightness(), data, tmp_path / "store", workers=3, **options)
    assert store.teacher_quality == whole.teacher_quality
    assert contents(tmp_path / "store") == contents(tmp_path / "whole")
    assert SoftTargets.open(tmp_path / "store").teacher_quality.accuracy > 0.95


@pytest.mark.parametrize(("views", "counted"), [((3, 0, 1), 0), ((2, 1), 2)])
def test_the_teacher_is_measured_in_view_0_or_else_in_the_first(tmp_path, views, counted):
    network, data = make_network(), make_jittered()
    quality = label(network, data, tmp_path, views=views, **SMALL).teacher_quality
    answers = plain_logits(network, data, counted).argmax(dim=1)
    assert quality.labeled == EXAMPLES
    assert quality.accuracy == (answers == data.hard_targets).double().mean().item()


def test_each_member_of_an_ensemble_is_measured(tmp_path):
    networks = [Brightness(), Brightness(scale=0.9)]
    quality = label(networks, make_clusters(), tmp_path / "store").teacher_quality
    alone = [
        label(network, make_clusters(), tmp_path / str(place)).teacher_quality
        for place, network in enumerate(networks)
    ]
    assert quality.members == tuple(alone)
    assert quality.accuracy == pytest.approx((alone[0].accuracy + alone[1].accuracy) / 2)
    assert str(quality).startswith("2 members, right on ")


def test_without_hard_targets_nothing_is_told_of_the_teacher(tmp_path):
    data = TransferSet(make_clusters().inputs, classes=3)
    store = label(Brightness(scale=9.0), data, tmp_path)
    assert store.teacher_quality is None


@pytest.mark.parametrize(
    "wrong", [Brightness(scale=255.0), Brightness(order=(2, 0, 1)), Brightness(scale=0.0)]
)
def test_a_teacher_that_is_silently_wrong_is_warned_about(tmp_path, wrong):
    # Inputs without the teacher's normalization: right on 32 % instead of 80 %, without a word.
    with pytest.warns(TeacherWarning) as given:
        store = label(wrong, make_clusters(), tmp_path)
    (warning,) = given
    percent = f"{100 * store.teacher_quality.accuracy:.1f} %"
    expected = (
        rf"the teacher is right on {percent} of 180 labeled examples, not significantly more often "
        r"than always predicting the most frequent class \(.* %\); usual causes: inputs normalized "
    )
    assert re.match(expected, str(warning.message))
    assert "training mode, the wrong checkpoint" in str(warning.message)
    with pytest.warns(TeacherWarning, match="not significantly more often"):  # though all is done
        label(wrong, make_clusters(), tmp_path)


def test_a_wrong_teacher_is_warned_about_before_all_is_spent(tmp_path):
    wrong, told = Brightness(scale=255.0), []
    options = {"shard_examples": 100, "workers": 1}
    with pytest.warns(TeacherWarning, match="the teacher is so far right on") as given:
        label(
            wrong, make_clusters(1000), tmp_path / "all",
            progress=lambda now: told.append((now.rows, len(given.list))), **options,
        )  # fmt: skip
    assert any(count for rows, count in told if rows <= 500)
    assert len(given) == 1  # and not again in the end
    wrong.asked = 0
    with warnings.catch_warnings(), pytest.raises(TeacherWarning, match="a guess among 3 classes"):
        warnings.simplefilter("error", TeacherWarning)
        label(wrong, make_clusters(1000), tmp_path / "stopped", **options)
    assert wrong.asked < 500


def test_members_that_are_wrong_are_named(tmp_path):
    members = [Brightness(), Brightness(scale=255.0), Brightness(order=(1, 2, 0))]
    expected = r"^member [12] of the teacher's 3 is so far right on .* a guess among 3 classes"
    with pytest.warns(TeacherWarning, match=expected):
        label(members, make_clusters(), tmp_path)


@pytest.mark.parametrize("sort", [False, True])
@pytest.mark.parametrize("expected_accuracy", [None, 0.95])
def test_a_teacher_that_is_right_is_not_warned_about(tmp_path, sort, expected_accuracy):
    label(
        Brightness(), make_clusters(1000, sort=sort), tmp_path,
        expected_accuracy=expected_accuracy, shard_examples=100,
    )  # fmt: skip


def test_one_class_that_the_teacher_does_not_know_is_no_reason_for_doubt(tmp_path):
    # Sorted examples: all of the first shards are of a class that is always mistaken.
    data = make_clusters(1000, sort=True)
    teacher = Brightness()
    with torch.no_grad():
        teacher.centers[0] = -1.0
    quality = label(teacher, data, tmp_path, shard_examples=100, workers=1).teacher_quality
    assert 0.6 < quality.accuracy < 0.7


def test_a_good_teacher_of_a_rare_class_is_not_warned_about(tmp_path):
    hard_targets = (torch.arange(1000) % 50 == 0).long()  # 2 %
    logits = torch.zeros(1000, 2)
    logits[:, 1] = torch.where(hard_targets == 1, -0.1, -5.0)  # never more probable than the other
    data = TransferSet(torch.zeros(1000, 1), hard_targets)
    quality = label(logits, data, tmp_path / "good").teacher_quality
    assert quality.accuracy == quality.most_frequent_class_share == 0.98
    logits[:, 1] = -5.0
    with pytest.warns(TeacherWarning, match="not significantly more often than always predicting"):
        label(logits, data, tmp_path / "bad")


def test_a_teacher_below_the_expected_accuracy_is_warned_about(tmp_path):
    teacher = Brightness(order=(0, 2, 1))  # a third is right
    data = make_clusters(examples=400)
    with torch.no_grad():
        teacher.centers[:] = torch.tensor([0.3, 0.55, 5.0])  # two thirds
    teacher.order = (0, 1, 2)
    label(teacher, data, tmp_path)
    with pytest.warns(TeacherWarning, match=r"the teacher is right on .*far below the expected 90"):
        label(teacher, data, tmp_path, expected_accuracy=0.9)
    label(teacher, data, tmp_path, expected_accuracy=0.68)


def test_an_expected_accuracy_that_cannot_be_checked_is_told(tmp_path):
    with pytest.warns(TeacherWarning, match=r"at least 50 examples with a hard target, got 22; "):
        label(make_network(), make_set(), tmp_path, expected_accuracy=0.9)


@pytest.mark.parametrize("expected_accuracy", [0.0, 79.6, float("nan")])
def test_an_expected_accuracy_that_is_no_fraction_is_refused(tmp_path, expected_accuracy):
    with pytest.raises(
        AttarError, match=r"must be a fraction above 0 and at most 1, got .*; 80 % is"
    ):
        label(make_network(), make_set(), tmp_path / "s", expected_accuracy=expected_accuracy)
    assert not (tmp_path / "s").exists()


def test_a_few_wrong_answers_are_no_reason_for_doubt(tmp_path):
    label(Brightness(scale=255.0), make_clusters(examples=49), tmp_path)


def test_an_ensembles_weights_are_hashed_once(tmp_path, monkeypatch):
    from attar.teachers import networks

    hashed, hash_network = [], networks.hash_network
    monkeypatch.setattr(
        networks, "hash_network", lambda *given: (hashed.append(given), hash_network(*given))[1]
    )
    store = label([make_network(1), make_network(2)], make_set(), tmp_path, **SMALL)
    assert len(hashed) == 2
    assert (
        store.plan.teacher
        == as_teacher([make_network(1), make_network(2)], classes=CLASSES).fingerprint()
    )
