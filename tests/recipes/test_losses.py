from dataclasses import replace
from functools import partial
from itertools import islice

import pytest
import safetensors.torch
import torch

from attar.comparison_records import ComparisonRecord
from attar.data import load_mnist
from attar.errors import AttarError, FolderError
from attar.evaluation import compute_logits, evaluate
from attar.recipes import generalist, losses, stages
from attar.recipes.generalist import load_glyphs
from attar.recipes.soft_losses import HARD, HINTON, SOFT_LOSSES, Candidate, cohort_loss
from attar.records import ExperimentResult, read_sealed_json, write_sealed_json
from attar.training import TrainingRun, load_weights
from tests.recipes.glyph_folder import make_glyph_folder

TINY = losses.Config(
    seeds=2, teacher_units=8, teacher_epochs=1, student_units=4, temperatures="2", choice_epochs=1,
    soft_weights="1,4", epochs=2, batch_size=100, held_out=100,
)  # fmt: skip


@pytest.fixture(autouse=True)
def small_and_often_saved(monkeypatch, few_digits):
    monkeypatch.setattr(losses, "load_mnist", lambda: few_digits)
    monkeypatch.setattr(stages, "TrainingRun", partial(TrainingRun, checkpoint_seconds=0.0))


def run(folder, *, steps=None):
    return list(islice(losses.run(TINY, folder, command="attar ..."), steps))


def test_an_abandoned_run_goes_on_and_tells_what_its_networks_do(tmp_path, few_digits):
    total = 1 + 2 + 2 * 2 * 3  # batches of the teacher, the choice, two seeds
    assert len(run(tmp_path, steps=5)) == 5
    assert len(run(tmp_path)) == total - 5
    assert run(tmp_path) == []
    result = ExperimentResult.read(tmp_path / "losses.json")
    assert [row.name for row in result.rows] == [HARD, *SOFT_LOSSES]
    for seed in range(2):
        cohort = losses.final_stage(TINY, few_digits.train, seed).make_network()
        load_weights(tmp_path / f"students-{seed}.safetensors", cohort)
        errors = [evaluate(each, few_digits.test).errors for each in cohort.members()]
        assert [row.values[seed] for row in result.rows] == errors
    headline, *notes = result.details["notes"]
    assert headline.startswith("of 5 losses other than Hinton's, ")
    assert len(notes) == len(SOFT_LOSSES)
    compared = ComparisonRecord.read(tmp_path / "comparison.json")
    assert [each.name for each in compared.models] == [HARD, *SOFT_LOSSES]
    assert {each["loss"] for each in result.details["chosen"]} == set(SOFT_LOSSES)


def test_each_loss_gets_the_settings_with_the_fewest_held_out_errors(tmp_path):
    run(tmp_path)
    details = ExperimentResult.read(tmp_path / "losses.json").details
    tried = details["held-out errors"]
    for chosen in details["chosen"]:
        own = {
            (each["temperature"], each["soft_weight"]): each["errors"]
            for each in tried
            if each["loss"] == chosen["loss"]
        }
        assert len(own) == 2
        assert own[chosen["temperature"], chosen["soft_weight"]] == min(own.values())


def test_settings_are_chosen_by_students_that_no_final_seed_has(few_digits):
    """The choice had the seed `config.seeds`: that of the sixth student when a run grows to six."""
    for seeds in (1, 5, 6):
        config = replace(TINY, seeds=seeds)
        choosing = losses.choice_stage(config, few_digits.train)
        assert choosing.settings == losses.choice_stage(TINY, few_digits.train).settings
        first = choosing.make_network().member(0).state_dict()["1.weight"]
        for seed in range(8):
            final = losses.final_stage(config, few_digits.train, seed)
            assert final.settings.seed != choosing.settings.seed
            assert not torch.equal(final.make_network().member(0).state_dict()["1.weight"], first)


def test_a_run_that_grows_ends_as_one_that_started_so(tmp_path):
    grown, fresh = tmp_path / "grown", tmp_path / "fresh"
    for folder, config in ((grown, replace(TINY, seeds=1)), (grown, TINY), (fresh, TINY)):
        list(losses.run(config, folder, command=""))
    results = [ExperimentResult.read(folder / "losses.json") for folder in (grown, fresh)]
    assert results[0].rows == results[1].rows
    assert results[0].details["chosen"] == results[1].details["chosen"]


def test_a_choice_among_other_settings_is_refused(tmp_path):
    """As of a folder whose run.json was edited, or of a release with other numbers of a loss."""
    run(tmp_path)
    (tmp_path / "losses.json").unlink()
    content = read_sealed_json(tmp_path / "choice.json")
    content["made_of"]["loss"]["members"][1]["temperature"] = 3.0
    write_sealed_json(tmp_path / "choice.json", content)
    with pytest.raises(FolderError, match=r"loss\.members\.1\.temperature 3\.0, now 2\.0; choose"):
        run(tmp_path)


def test_each_member_learns_with_its_own_loss():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 8, 10, generator=generator, requires_grad=True)
    v = torch.randn(300, 10, generator=generator)
    batch = load_mnist().train.batch(torch.arange(8))
    members = [None, Candidate(HINTON, 2.0, 3.0), Candidate("DIST", 1.0, 1.0)]
    cohort_loss(members, v)(logits, batch).backward()
    for place, member in enumerate(members):
        alone = logits[place : place + 1].detach().requires_grad_()
        cohort_loss([member], v)(alone, batch).backward()
        torch.testing.assert_close(logits.grad[place], alone.grad[0])
    q, p = (logits[1] / 2).softmax(1), (v[:8] / 2).softmax(1)
    hard = logits[1].softmax(1) - torch.nn.functional.one_hot(batch.hard_targets, 10)
    torch.testing.assert_close(logits.grad[1], (hard + 3.0 * 2.0 * (q - p)).detach() / 8)


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """Draw glyphs, and train a generalist of them."""
    data = make_glyph_folder(tmp_path_factory.mktemp("data") / "glyphs")
    folder = tmp_path_factory.mktemp("generalist") / "run"
    list(generalist.run(generalist.Config(data=str(data), epochs=4), folder, command=""))
    return replace(TINY, data=str(data), generalist=str(folder), classes=8, held_out_faces=2)


def test_students_of_glyphs_learn_its_first_classes_from_the_generalist(taught, tmp_path):
    list(losses.run(taught, tmp_path, command="attar ..."))
    result = ExperimentResult.read(tmp_path / "losses.json")
    assert result.details["examples"] == {
        "train": 6 * 8, "held out of these to choose on": 2 * 8, "test": 2 * 8,
    }  # fmt: skip
    assert all(len(row.values) == 2 for row in result.rows)
    logits = safetensors.torch.load_file(tmp_path / "teacher-0.logits.safetensors")["logits"]
    examples = losses.take_examples(taught)
    teacher = generalist.load_generalist(taught.generalist, examples.train_set)
    torch.testing.assert_close(logits, compute_logits(teacher, examples.train_set))


def test_settings_of_glyphs_are_chosen_on_faces_that_nobody_learns_meanwhile(taught):
    faces = load_glyphs(taught.data)["train"].faces
    examples = losses.take_examples(taught)
    known = faces[load_glyphs(taught.data)["train"].examples.hard_targets < 8]
    assert set(known[examples.held_out].tolist()) == {0, 3}
    assert set(known[examples.first].tolist()) == {1, 2, 4, 5}
    assert examples.train_set.subset(examples.held_out).hard_targets.max() == 7


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"held_out_faces": 6}, "below the 6 faces, got 6"),
        ({"classes": 13}, "at most the 12 classes of the data, got 13"),
        ({"data": "nowhere"}, "expected a folder of glyphs"),
        ({"generalist": "nowhere"}, "found no run.json"),
    ],
)
def test_glyphs_that_cannot_be_used_are_told_before_anything_is_written(
    taught, tmp_path, changed, message
):
    with pytest.raises(AttarError, match=message):
        list(losses.run(replace(taught, **changed), tmp_path / "new", command=""))
    assert not (tmp_path / "new").exists()


def test_wrong_settings_are_told():
    with pytest.raises(AttarError, match=r"--generalist together, .* got 'glyphs' alone"):
        losses.Config(data="glyphs")
    with pytest.raises(AttarError, match="expected temperatures as numbers"):
        losses.Config(temperatures="warm")
    with pytest.raises(AttarError, match="expected seeds > 0"):
        losses.Config(seeds=0)
