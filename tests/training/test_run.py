import copy
import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import islice

import pytest
import torch
from torch import nn

from attar.cohorts import Cohort
from attar.data import Jitter, TransferSet
from attar.errors import AttarError, DataError, DivergedError, FolderError
from attar.models import mlp
from attar.training import TrainingRun, TrainingSettings, hard_target_loss

EXAMPLES, STEPS = 22, 12
SETTINGS = {
    "sgd": TrainingSettings(
        epochs=4, batch_size=8, learning_rate=0.3, seed=5, warmup_epochs=1.0, clip_norm=1.0
    ),
    "adamw": TrainingSettings(
        epochs=4, batch_size=8, learning_rate=0.01, seed=5, optimizer="adamw", weight_decay=0.1
    ),
}


def make_set(seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (EXAMPLES, 6, 6), generator=generator).to(torch.uint8)
    hard_targets = (torch.arange(EXAMPLES) % 3)[torch.randperm(EXAMPLES, generator=generator)]
    return TransferSet(images, hard_targets, views=Jitter(pixels=1, seed=3))


def make_network(units=8, seed=1):
    generator = torch.Generator().manual_seed(seed)
    dropout = {"input_dropout": 0.2, "hidden_dropout": 0.5}
    return mlp(36, [units, units], 3, generator=generator, max_norm=1.0, **dropout)


def hard_loss(logits, batch):
    return nn.functional.cross_entropy(logits, batch.hard_targets)


def count_errors(network):
    network.eval()
    transfer_set = make_set()
    logits = network(transfer_set.batch(torch.arange(EXAMPLES)).inputs)
    return {"errors": float((logits.argmax(dim=1) != transfer_set.hard_targets).sum())}


def make_run(settings=SETTINGS["sgd"], *, network=None, transfer_set=None, **options):
    options = {"measure": count_errors} | options
    return TrainingRun(
        network or make_network(), transfer_set or make_set(), hard_loss, settings, **options
    )


def outcome(run):
    """What must not depend on stops: the weights' bits, and the history without its durations."""
    weights = [parameter.detach().numpy().tobytes() for parameter in run.network.parameters()]
    return weights, [replace(epoch, train_seconds=0.0) for epoch in run.history]


@pytest.fixture(scope="module", params=["sgd", "adamw"])
def undisturbed(request):
    run = make_run(SETTINGS[request.param])
    steps = list(run)
    return SETTINGS[request.param], steps, outcome(run)


def test_every_step_is_told_and_epochs_end_when_all_examples_were_seen(undisturbed):
    _, steps, (_, history) = undisturbed
    assert [step.index for step in steps] == list(range(1, STEPS + 1))
    assert [step.index for step in steps if step.epoch] == [3, 6, 9, 12]
    assert [epoch.index for epoch in history] == [1, 2, 3, 4]
    for epoch in history:
        losses = [step.loss for step in steps[3 * epoch.index - 3 : 3 * epoch.index]]
        assert epoch.mean_loss == pytest.approx(sum(losses) / 3)


def test_the_learning_rate_is_that_of_the_settings(undisturbed):
    settings, steps, (_, history) = undisturbed
    expected = [
        settings.learning_rate_at(step, steps=STEPS, steps_per_epoch=3) for step in range(STEPS)
    ]
    assert [step.learning_rate for step in steps] == expected
    assert [epoch.learning_rate for epoch in history] == expected[2::3]


def test_the_optimizer_works_with_the_rate_that_is_told():
    settings = replace(SETTINGS["sgd"], momentum=0.0, clip_norm=None, precision="float32")
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    run = make_run(settings, network=network, measure=None)
    before = copy.deepcopy(network.state_dict())
    for step in run:
        for name, parameter in network.named_parameters():
            moved = before[name] - step.learning_rate * parameter.grad
            torch.testing.assert_close(parameter.detach(), moved)
        before = copy.deepcopy(network.state_dict())


@pytest.mark.parametrize("stop", range(1, STEPS))
def test_a_run_stopped_at_any_step_ends_with_the_same_bits(undisturbed, stop, tmp_path):
    settings, steps, expected = undisturbed
    options = {"checkpoint": tmp_path / "run.safetensors", "checkpoint_seconds": 0.0}
    first = list(islice(make_run(settings, **options), stop))
    second = make_run(settings, **options)
    assert second.steps_done == stop
    torch.rand(7)  # another process has another default generator
    rest = list(second)
    assert [step.loss for step in first + rest] == [step.loss for step in steps]
    assert outcome(second) == expected


def test_a_run_stopped_at_every_step_ends_with_the_same_bits(undisturbed, tmp_path):
    settings, _, expected = undisturbed
    options = {"checkpoint": tmp_path / "run.safetensors", "checkpoint_seconds": 0.0}
    for _ in range(STEPS):
        run = make_run(settings, **options)
        next(iter(run))
    assert outcome(run) == expected


def test_a_stop_between_checkpoints_costs_steps_but_no_bit(undisturbed, tmp_path):
    settings, _, expected = undisturbed
    options = {"checkpoint": tmp_path / "run.safetensors", "checkpoint_seconds": 3600.0}
    list(islice(make_run(settings, **options), 7))
    second = make_run(settings, **options)
    assert second.steps_done == 0
    list(second)
    assert outcome(second) == expected


def test_the_same_object_can_be_stopped_and_go_on(undisturbed):
    settings, _, expected = undisturbed
    run = make_run(settings)
    for count in (1, 4, 2):
        list(islice(run, count))
    list(run)
    assert outcome(run) == expected


def test_a_run_without_views_goes_on_as_well(tmp_path):
    plain = make_set().with_views(None)
    whole = make_run(transfer_set=plain)
    list(whole)
    options = {"checkpoint": tmp_path / "run.safetensors", "checkpoint_seconds": 0.0}
    list(islice(make_run(transfer_set=plain, **options), 5))
    resumed = make_run(transfer_set=plain, **options)
    list(resumed)
    assert outcome(resumed) == outcome(whole)


def test_what_the_caller_does_between_steps_changes_nothing(undisturbed):
    settings, _, expected = undisturbed
    run = make_run(settings)
    for _ in run:
        run.network.eval()
        torch.rand(3)
        torch.manual_seed(0)
    assert outcome(run) == expected


def test_measuring_changes_nothing(undisturbed):
    settings, _, (weights, _) = undisturbed
    run = make_run(settings, measure=None)
    list(run)
    assert outcome(run)[0] == weights
    assert [epoch.measurements for epoch in run.history] == [None] * 4


def test_the_seed_matters():
    first, second = make_run(), make_run(replace(SETTINGS["sgd"], seed=6))
    assert [step.loss for step in first] != [step.loss for step in second]


def test_a_finished_run_does_nothing_more(undisturbed, tmp_path):
    settings, _, expected = undisturbed
    path = tmp_path / "run.safetensors"
    list(make_run(settings, checkpoint=path))
    before = path.read_bytes()
    again = make_run(settings, checkpoint=path)
    assert list(again) == []
    assert outcome(again) == expected
    assert path.read_bytes() == before


class Recorder:
    """A view that changes nothing and remembers what it was asked for."""

    def __init__(self):
        self.asked = []

    def __repr__(self):
        return "Recorder()"

    def __call__(self, inputs, example_ids, view):
        self.asked.append((view, example_ids.tolist()))
        return inputs


@pytest.fixture
def asked():
    """Views and example ids of each batch of a run."""
    recorder = Recorder()
    list(make_run(transfer_set=make_set().with_views(recorder)))
    return recorder.asked


def test_epoch_number_e_shows_view_e(asked):
    assert [view for view, _ in asked] == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]


def test_every_example_is_seen_once_in_each_epoch(asked):
    for first in range(0, STEPS, 3):
        seen = [index for _, indices in asked[first : first + 3] for index in indices]
        assert sorted(seen) == list(range(EXAMPLES))


def test_each_epoch_has_an_order_of_its_own(asked):
    orders = {tuple(asked[first][1]) for first in range(0, STEPS, 3)}
    assert len(orders) == 4


def test_given_views_are_shown_an_epoch_each_over_and_over(tmp_path):
    recorder, told = Recorder(), []

    def note(logits, batch):
        told.append(batch.view)
        return hard_loss(logits, batch)

    for _ in range(3):  # stopped in between
        run = TrainingRun(
            make_network(), make_set().with_views(recorder), note, SETTINGS["sgd"],
            views=(7, 0, 2), checkpoint=tmp_path / "run", checkpoint_seconds=0.0,
            identity={"loss": "notes the views"},  # what it notes would count, too
        )  # fmt: skip
        list(islice(run, 5))
    assert told == [7, 7, 7, 0, 0, 0, 2, 2, 2, 7, 7, 7]
    assert [view for view, _ in recorder.asked] == [7, 7, 7, 2, 2, 2, 7, 7, 7]  # 0 is plain


@pytest.mark.parametrize("views", [(), (0, -1)])
def test_views_that_make_no_sense_are_named(views):
    with pytest.raises(AttarError, match="expected at least one view number, each >= 0, got"):
        make_run(views=views)


def test_a_run_that_ends_removes_what_killed_ones_left_of_its_checkpoint(tmp_path):
    # Each kill in the midst of a checkpoint left a file of its size behind, for ever.
    path, other = tmp_path / "run[1]", tmp_path / ".run[2].4711.partial"
    for left in (tmp_path / ".run[1].4711.partial", other):
        left.write_bytes(b"half of it")
    for _ in make_run(checkpoint=path):
        pass
    assert sorted(tmp_path.iterdir()) == [other, path]


def test_a_checkpoint_of_other_views_or_another_identity_is_refused(tmp_path):
    path = tmp_path / "run.safetensors"
    options = {"checkpoint": path, "checkpoint_seconds": 0.0}
    given = {"views": (1, 2), "identity": {"temperature": 4.0, "teacher": "t"}}
    list(islice(make_run(**options, **given), 5))
    assert make_run(**options, **given).steps_done == 5
    for change, names in (
        ({"views": (2, 1)}, "views"),
        ({"views": None}, "views"),
        ({"identity": {"temperature": 5.0, "teacher": "t"}}, "temperature"),
        ({"identity": {"temperature": 4.0}}, "teacher"),
        ({"identity": None}, "teacher and temperature"),
    ):
        with pytest.raises(
            FolderError, match=f"checkpoint of a run with different {names}; choose"
        ):
            make_run(**options, **given | change)


def test_a_checkpoint_made_with_other_jitter_is_refused(tmp_path):
    options = {"checkpoint": tmp_path / "run.safetensors", "checkpoint_seconds": 0.0}
    list(islice(make_run(**options), 5))
    for views in (Jitter(pixels=2, seed=3), Jitter(pixels=1, seed=4), None):
        with pytest.raises(
            FolderError, match="checkpoint of a run with different maker of views; c"
        ):
            make_run(transfer_set=make_set().with_views(views), **options)
    with pytest.raises(DataError, match="expected views that say what they do"):
        make_run(transfer_set=make_set().with_views(lambda *given: given[0]), **options)


def test_other_jitter_does_not_matter_where_the_plain_examples_alone_are_shown(tmp_path):
    options = {"checkpoint": tmp_path / "run", "checkpoint_seconds": 0.0, "views": (0,)}
    list(islice(make_run(**options), 5))
    jittered = make_set().with_views(Jitter(pixels=2, seed=9))
    assert make_run(transfer_set=jittered, **options).steps_done == 5


@pytest.mark.parametrize(
    ("batch_size", "sizes"),
    [(8, [8, 7, 7]), (22, [22]), (100, [22]), (21, [11, 11]), (5, [5, 5, 4, 4, 4]), (1, [1] * 22)],
)
def test_no_batch_is_much_smaller_than_another(batch_size, sizes):
    recorder = Recorder()
    settings = replace(SETTINGS["sgd"], epochs=1, batch_size=batch_size)
    run = make_run(settings, transfer_set=make_set().with_views(recorder))
    assert run.steps == len(sizes)
    list(run)
    assert [len(indices) for _, indices in recorder.asked] == sizes


@pytest.mark.parametrize(
    ("epochs", "measurements", "expected"),
    [(4, 20, [1, 2, 3, 4]), (5, 2, [2, 4, 5]), (5, 1, [5]), (7, 3, [2, 4, 6, 7])],
)
def test_some_epochs_are_measured_and_the_last_one_always(epochs, measurements, expected):
    run = make_run(replace(SETTINGS["sgd"], epochs=epochs), measurements=measurements)
    list(run)
    assert [epoch.index for epoch in run.history if epoch.measurements] == expected


@pytest.mark.parametrize("measurements", [0, -1])
def test_a_number_of_measurements_that_is_not_positive_is_named(measurements):
    with pytest.raises(AttarError, match=f"expected measurements > 0 .*, got {measurements}"):
        make_run(measurements=measurements)


def test_durations_add_up_over_stops(tmp_path, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr("attar.training.run.time.monotonic", lambda: float(next(clock)))
    options = {"checkpoint": tmp_path / "run.safetensors", "checkpoint_seconds": 0.0}
    list(islice(make_run(**options), 2))
    run = make_run(**options)
    next(iter(run))
    assert run.history[0].train_seconds == 3.0  # a tick a step


# Checkpoints that are not of this run, or damaged


@pytest.fixture
def path(tmp_path):
    """The checkpoint of a run that was stopped after five steps."""
    path = tmp_path / "run.safetensors"
    list(islice(make_run(checkpoint=path, checkpoint_seconds=0.0), 5))
    return path


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"settings": replace(SETTINGS["sgd"], learning_rate=0.2)}, "settings"),
        ({"settings": replace(SETTINGS["sgd"], epochs=5)}, "settings"),
        ({"settings": SETTINGS["adamw"]}, "settings"),
        ({"transfer_set": make_set(seed=1)}, "data"),
        ({"transfer_set": make_set().subset(torch.arange(20))}, "data"),
        ({"transfer_set": make_set(1), "settings": SETTINGS["adamw"]}, "data and settings"),
    ],
)
def test_the_checkpoint_of_another_run_is_refused(path, options, names):
    expected = f"{path.name} is the checkpoint of a run with different {names}; choose another path"
    with pytest.raises(FolderError, match=expected):
        make_run(checkpoint=path, **options)


def test_a_refused_checkpoint_leaves_the_network_as_it_was(path):
    network = make_network()
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(FolderError):
        make_run(checkpoint=path, network=network, transfer_set=make_set(seed=1))
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])


def with_tanh(network):
    return nn.Sequential(*(nn.Tanh() if isinstance(each, nn.ReLU) else each for each in network))


def with_other_dropout(network):
    network[1].probability = 0.3
    return network


@pytest.mark.parametrize(
    "network",
    [
        make_network(units=9),
        make_network(seed=2),
        with_tanh(make_network()),
        with_other_dropout(make_network()),
    ],
    ids=["units", "initial weights", "activation", "dropout"],
)
def test_the_checkpoint_of_another_network_is_refused_and_the_network_unchanged(path, network):
    before = copy.deepcopy(network.state_dict())
    expected = f"{path.name} is the checkpoint of a run with different initial network; choose"
    with pytest.raises(FolderError, match=expected):
        make_run(checkpoint=path, network=network)
    assert all(torch.equal(each, before[name]) for name, each in network.state_dict().items())


def test_the_checkpoint_of_another_loss_is_refused(path):
    def squared(logits, batch):
        return logits.square().mean()

    options = {"checkpoint": path, "network": make_network()}
    with pytest.raises(
        FolderError, match=f"{path.name} is the checkpoint of a run with different loss"
    ):
        TrainingRun(make_network(), make_set(), squared, SETTINGS["sgd"], checkpoint=path)
    assert make_run(**options).steps_done == 5


def test_a_loss_that_cannot_be_identified_asks_for_a_name(tmp_path):
    with (tmp_path / "log").open("w") as log:

        def told(logits, batch):
            print("step", file=log)
            return hard_loss(logits, batch)

        run = (make_network(), make_set(), told, SETTINGS["sgd"])
        with pytest.raises(DataError, match=r'pass identity=\{"loss": "a name"\}'):
            TrainingRun(*run, checkpoint=tmp_path / "run")
        TrainingRun(*run, checkpoint=tmp_path / "run", identity={"loss": "told"})
        TrainingRun(*run)  # without a checkpoint it need not be identified


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_keeps_the_precision_that_it_began_with(tmp_path, monkeypatch, precision):
    other = {"float32": "bfloat16", "bfloat16": "float32"}[precision]
    monkeypatch.setenv("ATTAR_PRECISION", precision)
    whole = make_run()
    list(whole)
    options = {"checkpoint": tmp_path / "run", "checkpoint_seconds": 0.0}
    list(islice(make_run(**options), 5))
    monkeypatch.setenv("ATTAR_PRECISION", other)  # as on another processor
    resumed = make_run(**options)
    steps = list(resumed)
    assert {step.precision for step in steps} == {precision}
    assert outcome(resumed) == outcome(whole)


def test_a_checkpoint_that_takes_long_is_written_less_often(tmp_path, monkeypatch):
    now, saved = 0.0, []

    def save(path, network, optimizer, *, run, state):
        nonlocal now
        saved.append(state["steps_done"])
        now += 10.0  # seconds that it takes

    monkeypatch.setattr("attar.training.run.time.monotonic", lambda: now)
    monkeypatch.setattr("attar.training.run.save_checkpoint", save)
    settings = replace(SETTINGS["sgd"], epochs=100)
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    options = {"network": network, "measure": None}
    for _ in make_run(settings, checkpoint=tmp_path / "run", **options):
        now += 1.0
    assert saved == [22, 22 + 201, 300]  # after 20 seconds, after 20 times 10, at the end


@pytest.mark.parametrize("part", [0, 0.01, 0.5, 0.99])
def test_a_truncated_checkpoint_is_named(path, part):
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(FolderError, match=f"{path.name} is damaged .*; remove it"):
        make_run(checkpoint=path)


def test_a_checkpoint_that_cannot_be_written_is_named(tmp_path):
    path = tmp_path / "gone" / "run.safetensors"
    with pytest.raises(FolderError, match=f"cannot write .*{path.name}: No such file"):
        list(make_run(checkpoint=path))


def test_a_run_that_diverges_names_the_step_and_keeps_its_checkpoint(tmp_path):
    path = tmp_path / "run.safetensors"

    def fail_late(logits, batch):
        if run.steps_done == 6:
            return logits.sum() * float("nan")
        return hard_loss(logits, batch)

    run = TrainingRun(
        make_network(), make_set(), fail_late, SETTINGS["sgd"],
        checkpoint=path, checkpoint_seconds=0.0, identity={"loss": "hard"},
    )  # fmt: skip
    with pytest.raises(DivergedError, match=r"step 7: the loss is nan at learning rate 0\.15, "):
        list(run)
    assert make_run(checkpoint=path, identity={"loss": "hard"}).steps_done == 6


KILLED = """
import json, os, random, signal, sys, time
from pathlib import Path
import torch
from torch.nn.functional import cross_entropy
from attar import Jitter, TrainingRun, TrainingSettings, TransferSet, mlp
from attar.training import save_weights

folder = Path(sys.argv[1])
torch.set_num_threads(1)


def train(name):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (60, 8, 8), generator=generator).to(torch.uint8)
    data = TransferSet(images, torch.arange(60) % 3, views=Jitter(pixels=1))
    network = mlp(64, [20], 3, generator=generator, hidden_dropout=0.5, max_norm=1.0)
    settings = TrainingSettings(epochs=25, batch_size=6, learning_rate=0.1, seed=0)
    run = TrainingRun(
        network,
        data,
        lambda logits, batch: cross_entropy(logits, batch.hard_targets),
        settings,
        checkpoint=folder / f"{name}.checkpoint",
        checkpoint_seconds=0.0,
    )
    with (folder / f"{name}.starts").open("a") as file:
        file.write(f"{run.steps_done}\\n")
    for step in run:
        pass
    save_weights(folder / name, network)


def start(name):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            train(name)
            code = 0
        finally:
            os._exit(code)
    return child


def checkpoint():
    path = folder / "killed.checkpoint"
    return (path.stat().st_mtime_ns, path.stat().st_ino) if path.exists() else 0


# What torch imports at the first use of an optimizer: here, so that the children need not.
TrainingSettings(epochs=1, batch_size=1, learning_rate=0.1, seed=0).make_optimizer(
    torch.nn.Linear(1, 1).parameters()
).step()
os.waitpid(start("undisturbed"), 0)
draw, kills = random.Random(0), 0
while True:
    child = start("killed")
    # However slow the machine is: let some checkpoints pass, then a part of a step or of a write.
    to_pass, passed, before = draw.randrange(1, 12), 0, checkpoint()
    done, status = 0, 0
    while not done and (kills == 6 or passed < to_pass):
        time.sleep(0.0005)
        now = checkpoint()
        passed, before = passed + (now != before), now
        done, status = os.waitpid(child, os.WNOHANG)
    if done:
        break
    time.sleep(draw.uniform(0, 0.004))
    os.kill(child, signal.SIGKILL)
    kills += os.waitpid(child, 0)[1] == signal.SIGKILL
print(json.dumps({"kills": kills, "status": status}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_run_killed_at_random_moments_ends_with_the_same_weights_file(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["status"] == 0
    assert found["kills"] >= 2
    starts = [int(line) for line in (tmp_path / "killed.starts").read_text().split()]
    assert starts == sorted(starts)
    assert starts[-1] > 0  # the last one went on where another had been killed
    assert (tmp_path / "killed").read_bytes() == (tmp_path / "undisturbed").read_bytes()


# What an attack found: changes that a checkpoint did not notice


class Normed(nn.Module):
    def __init__(self, activation):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.BatchNorm1d(8), activation)
        self.head = nn.Linear(8, 3)

    def forward(self, inputs):
        return self.head(self.body(inputs))


def make_normed(activation=None, *, frozen=False, fixed=False):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Normed(activation or nn.Tanh())
    if frozen:
        network.body[2].eval()
    if fixed:
        network.head.requires_grad_(False)
    return network


@pytest.mark.parametrize("change", [{"frozen": True}, {"fixed": True}])
def test_the_checkpoint_of_a_network_with_other_frozen_parts_is_refused(tmp_path, change):
    options = {"checkpoint": tmp_path / "run", "checkpoint_seconds": 0.0, "measure": None}
    list(islice(make_run(network=make_normed(), **options), 3))
    assert make_run(network=make_normed(), **options).steps_done == 3
    with pytest.raises(FolderError, match="of a run with different frozen parts; choose another"):
        make_run(network=make_normed(**change), **options)


@pytest.mark.parametrize("other", [nn.SiLU(), nn.Tanhshrink(), nn.LeakyReLU(0.5)])
def test_the_checkpoint_of_a_cohort_of_other_networks_is_refused(tmp_path, other):
    def run(activation):
        cohort = Cohort([make_normed(activation), make_normed(activation)])
        return TrainingRun(
            cohort, make_set(), hard_target_loss, SETTINGS["sgd"],
            checkpoint=tmp_path / "run", checkpoint_seconds=0.0,
        )  # fmt: skip

    list(islice(run(nn.Tanh()), 3))
    assert run(nn.Tanh()).steps_done == 3
    with pytest.raises(
        FolderError, match="of a run with different initial network; choose another"
    ):
        run(other)


def test_the_checkpoint_of_views_with_other_code_is_refused(tmp_path):
    def make_views(source):
        scope = {"__name__": "views"}
        exec(f"def shifted(inputs, ids, view):\n    return {source}", scope)
        return scope["shifted"]

    options = {"checkpoint": tmp_path / "run", "checkpoint_seconds": 0.0}
    list(islice(make_run(transfer_set=make_set().with_views(make_views("inputs")), **options), 3))
    same = make_set().with_views(make_views("inputs"))
    assert make_run(transfer_set=same, **options).steps_done == 3
    with pytest.raises(FolderError, match="of a run with different maker of views; choose another"):
        make_run(transfer_set=make_set().with_views(make_views("inputs // 2")), **options)


def test_a_part_that_is_loaded_in_evaluation_mode_is_warned_about():
    network = make_normed()
    network.body[1].eval()
    with pytest.warns(UserWarning, match=r"body.1 of Normed are in evaluation mode and stay in it"):
        make_run(network=network)
    network.body[1].requires_grad_(False)
    make_run(network=network)  # frozen on purpose


def test_a_network_of_which_a_part_is_put_into_training_mode_keeps_the_others_modes():
    network = make_normed().eval()
    network.head.train()
    network.body.requires_grad_(False)
    before = network.body[2].running_mean.clone()
    for _ in make_run(network=network, measure=None):
        assert network.head.training
    assert torch.equal(network.body[2].running_mean, before)
