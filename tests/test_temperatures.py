import copy
import json
import math
from dataclasses import replace

import pytest
import torch
from labeled import CLASSES, make_network, make_set

from attar import Sparse, TemperatureSearch, TrainingSettings, TransferSet, distill, label
from attar.data import Batch, mix_seed
from attar.distillation import soft_target_loss
from attar.errors import AttarError, DataError, FolderError, TeacherWarning
from attar.losses import MemberWeights
from attar.metrics import is_error
from attar.temperatures import TemperatureChoice, choose_temperature, cohort_soft_target_loss

EXAMPLES = 240
WEIGHTS = [
    MemberWeights(temperature=1.0, soft_weight=1.0, hard_weight=0.0),
    MemberWeights(temperature=5.0, soft_weight=0.5, hard_weight=0.7),
]
OPTIONS = {
    "temperature": TemperatureSearch(temperatures=(1.0, 3.0, 9.0), held_out=0.25),
    "soft_weight": 1.0, "hard_weight": 0.5, "epochs": 4, "batch_size": 30, "learning_rate": 0.01,
}  # fmt: skip


@pytest.fixture(scope="module")
def data():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(EXAMPLES, 6, 6, generator=generator)
    hard_targets = inputs.flatten(1)[:, :CLASSES].argmax(1)
    return TransferSet(inputs, hard_targets, class_names=tuple("abcde"))


@pytest.fixture(scope="module")
def store(data, tmp_path_factory):
    v = 4 * data.inputs.flatten(1)[:, :CLASSES]
    return label(v, data, tmp_path_factory.mktemp("store") / "targets")


def settings(**options):
    return TrainingSettings(
        **{"epochs": 3, "batch_size": 30, "learning_rate": 0.05, "seed": 0} | options
    )


def choose(data, store, *, student=None, epochs=3, **options):
    options = {
        "search": TemperatureSearch(temperatures=(1.0, 4.0), held_out=0.25),
        "soft_weight": 1.0, "hard_weight": 0.5, "mean": "arithmetic", "shares": (1.0,),
    } | options  # fmt: skip
    return choose_temperature(
        student or make_network(4), data, store, settings(epochs=epochs), **options
    )


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
@pytest.mark.parametrize("encoding", [None, Sparse(k=3)], ids=["dense", "sparse"])
@pytest.mark.parametrize("members", [1, 3])
def test_the_loss_is_the_sum_of_the_members_losses(tmp_path, members, encoding, mean):
    some = make_set(unlabeled=3)
    networks = [make_network(seed) for seed in range(members)]
    store = label(networks, some, tmp_path / "store", encoding=encoding)
    shares = [0.5, 0.3, 0.2] if members == 3 else [1.0]
    rows, indices = torch.tensor([3, 9, 1, 20, 7]), torch.tensor([4, 0, 2])
    if members == 3 and encoding and mean == "geometric":
        with pytest.raises(AttarError, match="the geometric mean needs a dense store"):
            cohort_soft_target_loss(store, WEIGHTS, mean=mean, shares=shares, rows=rows)
        return
    loss_fn = cohort_soft_target_loss(store, WEIGHTS, mean=mean, shares=shares, rows=rows)
    logits = torch.randn(2, 3, CLASSES, generator=torch.Generator().manual_seed(1))
    batch = some.batch(rows[indices])
    found = loss_fn(logits, Batch(batch.inputs, batch.hard_targets, indices))
    alone = [
        soft_target_loss(
            store,
            temperature=each.temperature,
            soft_weight=each.soft_weight,
            hard_weight=each.hard_weight,
            mean=mean,
            member_weights=shares,
        )(z, batch)
        for z, each in zip(logits, WEIGHTS, strict=True)
    ]
    torch.testing.assert_close(found, torch.stack(alone).sum())


def test_auto_trains_with_what_it_chose(data, store):
    told, student = [], make_network(4)
    chosen = distill(copy.deepcopy(student), data, store, **OPTIONS, on_choice=told.append)
    (choice,) = told
    assert choice.temperature in (1.0, 3.0, 9.0)
    options = OPTIONS | {"temperature": choice.temperature, "hard_weight": choice.hard_weight}
    by_hand = distill(copy.deepcopy(student), data, store, **options)
    for one, other in zip(chosen.parameters(), by_hand.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_errors_are_those_of_students_trained_without_the_held_out_examples(data, store):
    student = make_network(4)
    choice = choose(data, store, student=student)
    assert choice.examples == EXAMPLES // 4
    held_out = (
        torch.randperm(EXAMPLES, generator=torch.Generator().manual_seed(0))[:60].sort().values
    )
    kept = torch.tensor([each for each in range(EXAMPLES) if each not in held_out.tolist()])
    rest, judges = data.subset(kept), data.subset(held_out)
    from attar import TrainingRun

    for candidate in choice.candidates:
        alone = copy.deepcopy(student)
        loss_fn = soft_target_loss(
            store, temperature=candidate.temperature, soft_weight=1.0, hard_weight=0.5
        )
        for _ in TrainingRun(
            alone,
            rest,
            lambda z, batch, loss_fn=loss_fn: loss_fn(
                z, Batch(batch.inputs, batch.hard_targets, kept[batch.indices])
            ),
            replace(settings(), seed=mix_seed(0, 2)),  # a stream of its own
        ):
            pass
        logits = alone.eval()(judges.inputs)
        assert candidate.errors == int(is_error(logits, judges.hard_targets).sum())


def test_the_fewest_errors_win_and_the_curve_is_kept(data, store):
    search = TemperatureSearch(temperatures=(1.0, 2.0, 8.0), hard_weights=(0.0, 1.0), held_out=0.3)
    choice = choose(data, store, search=search)
    pairs = [(each.temperature, each.hard_weight) for each in choice.candidates]
    assert pairs == [(t, h) for h in (0.0, 1.0) for t in (1.0, 2.0, 8.0)]
    best = min(choice.candidates, key=lambda each: (each.errors, each.nll))
    assert (choice.temperature, choice.hard_weight) == (best.temperature, best.hard_weight)
    assert best.worse_by_chance == 1


def test_candidates_that_are_not_significantly_worse_are_called_so(data, store):
    search = TemperatureSearch(temperatures=(3.9, 4.0, 4.1), held_out=0.25)
    choice = choose(data, store, search=search)
    assert not choice.matters
    assert all(each.worse_by_chance > 0.05 for each in choice.candidates)
    assert "no candidate is significantly worse" in str(choice)


def test_a_choice_that_matters_is_called_so(data, tmp_path):
    """A teacher that is wrong everywhere: the more the hard targets weigh, the better."""
    v = 20.0 * torch.nn.functional.one_hot((data.hard_targets + 1) % CLASSES, CLASSES).float()
    with pytest.warns(TeacherWarning, match="right on 0.0 % of 240 labeled examples"):
        wrong = label(v, data, tmp_path / "wrong")
    search = TemperatureSearch(temperatures=(1.0,), hard_weights=(0.01, 4.0), held_out=0.4)
    choice = choose(data, wrong, search=search, epochs=15)
    assert choice.matters
    assert choice.hard_weight == 4
    loser = choice.candidates[0]
    assert loser.worse_by_chance < 0.001
    assert "1 of 2 candidates significantly worse" in str(choice)


def test_the_sign_test_by_hand():
    from attar.temperatures.choice import _choose

    good = [False] * 20
    worse = [True] * 6 + [False] * 14  # 6 : 0 -> 2 / 2⁶, times 3 pairs
    bit = [True] + [False] * 19  # 1 : 0 -> 1
    weights = [MemberWeights(temperature=t, soft_weight=1.0, hard_weight=0.0) for t in (1, 2, 3)]
    choice = _choose(torch.tensor([worse, good, bit]), [1.0, 1.0, 1.0], weights)
    assert choice.temperature == 2
    by_chance = [each.worse_by_chance for each in choice.candidates]
    assert by_chance == [pytest.approx(3 * 2 / 64), 1, 1]


def test_what_was_chosen_is_not_chosen_again(data, store, tmp_path):
    path, told = tmp_path / "student.safetensors", []
    first = distill(make_network(4), data, store, **OPTIONS, checkpoint=path, on_choice=told.append)
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "student.safetensors",
        "student.safetensors.choice.json",
    ]
    steps = []
    again = distill(
        make_network(4), data, store, **OPTIONS, checkpoint=path,
        progress=steps.append, on_choice=told.append,
    )  # fmt: skip
    assert told[0] == told[1]
    assert steps == []
    assert torch.equal(first[1].weight, again[1].weight)
    with pytest.raises(FolderError, match=r"is the choice of a run with another .* search again"):
        distill(make_network(4), data, store, **OPTIONS | {"epochs": 5}, checkpoint=path)


def test_the_choice_of_another_student_is_never_used(data, store, tmp_path):
    path, told, steps = tmp_path / "student", [], []
    distill(make_network(4), data, store, **OPTIONS, checkpoint=path, on_choice=told.append)
    with pytest.raises(FolderError, match=r"student\.choice\.json is the choice of a run with an"):
        distill(make_network(5), data, store, **OPTIONS, checkpoint=path)
    path.unlink()  # the student is gone: its choice stands for nothing any more
    options = {"checkpoint": path, "on_choice": told.append, "progress": steps.append}
    distill(make_network(5), data, store, **OPTIONS, **options)
    assert len({step.steps for step in steps}) == 2  # the search's, the student's
    assert told[0] != told[1]


def test_a_damaged_choice_is_refused(data, store, tmp_path):
    path = tmp_path / "student"
    distill(make_network(4), data, store, **OPTIONS, checkpoint=path)
    choice = tmp_path / "student.choice.json"
    text = choice.read_text()
    for before, after in (('"temperature": ', '"temperature": 1'), ('"errors": ', '"errors": 1')):
        assert before in text
        choice.write_text(text.replace(before, after, 1))
        with pytest.raises(FolderError, match=r"choice\.json is damaged: its checksum"):
            distill(make_network(4), data, store, **OPTIONS, checkpoint=path)


def test_a_search_that_was_stopped_goes_on(data, store, tmp_path):
    class StopError(Exception):
        pass

    def stop(step):
        if step.index == 9:
            raise StopError

    whole = []
    distill(make_network(4), data, store, **OPTIONS, on_choice=whole.append)
    path = tmp_path / "student"
    with pytest.raises(StopError):
        distill(make_network(4), data, store, **OPTIONS, checkpoint=path, progress=stop)
    parts = []
    distill(make_network(4), data, store, **OPTIONS, checkpoint=path, on_choice=parts.append)
    assert parts == whole
    record = json.loads((tmp_path / "student.choice.json").read_text(encoding="utf-8"))
    assert record["temperature"] == whole[0].temperature
    assert TemperatureChoice.read(tmp_path / "student.choice.json") == whole[0]


@pytest.mark.parametrize("content", ["", "{}", '{"candidates": [3]}'])
def test_a_damaged_record_is_named(tmp_path, content):
    path = tmp_path / "choice.json"
    path.write_text(content)
    with pytest.raises(FolderError, match=r"choice\.json"):
        TemperatureChoice.read(path)


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_the_curve_is_drawn_with_the_same_bytes_each_time(data, store, tmp_path, suffix):
    choice = choose(data, store)
    paths = [tmp_path / f"{name}.{suffix}" for name in "ab"]
    for path in paths:
        choice.draw(path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[0].read_bytes()[:5] in (b"\x89PNG\r", b"<?xml")


def test_a_figure_of_another_kind_is_refused(data, store, tmp_path):
    with pytest.raises(AttarError, match=r"expected a file \.png or \.svg, got .*curve\.gif"):
        choose(data, store).draw(tmp_path / "curve.gif")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperatures": ()}, "expected different temperatures, at least one"),
        ({"temperatures": (1.0, 1.0)}, "expected different temperatures"),
        ({"temperatures": (0.0,)}, "temperature > 0"),
        ({"hard_weights": (-1.0,)}, "hard_weight >= 0"),
        ({"held_out": 1.0}, r"held_out in \(0, 1\), got 1.0"),
        ({"held_out": math.nan}, "held_out"),
    ],
)
def test_a_wrong_search_is_refused(options, message):
    with pytest.raises(AttarError, match=message):
        TemperatureSearch(**options)


def test_another_word_for_the_temperature_is_refused(shape_hints_off, data, store):
    with pytest.raises(AttarError, match=r"expected a temperature > 0, \"auto\" or .*got 'hot'"):
        distill(make_network(4), data, store, **OPTIONS | {"temperature": "hot"})


def test_without_hard_targets_there_is_nothing_to_judge_by(tmp_path):
    some = make_set(unlabeled=22)
    store = label(make_network(), some, tmp_path / "store")
    with pytest.raises(
        DataError, match=r"hold out: 0.25 of 0 is 0; pass the temperature as a number"
    ):
        distill(make_network(4), some, store, **OPTIONS)


def test_a_cluster_searches_once_before_its_workers_train(data, store, tmp_path):
    from attar.cluster.student import _choose

    told = []
    options = OPTIONS | {"on_choice": told.append}
    changed = _choose(make_network(4), data, store, tmp_path / "s", None, options)
    assert changed == {"temperature": told[0].temperature, "hard_weight": told[0].hard_weight}
    assert "on_choice" not in options
    assert _choose(make_network(4), data, store, tmp_path / "s", None, {"temperature": 2.0}) == {}
