import json
from dataclasses import replace

import pytest
import torch

from attar.errors import AttarError
from attar.recipes import generalist, regularizer
from attar.recipes.generalist import load_sets
from attar.records import ExperimentResult
from tests.recipes.glyph_folder import make_glyph_folder


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    data = make_glyph_folder(tmp_path_factory.mktemp("data") / "glyphs")
    return regularizer.Config(
        data=str(data),
        classes=0,
        generalist_epochs=4,
        share=0.25,
        hard_steps=20,
        soft_steps=40,
        batch_size=12,
        k=4,
        views=2,
        held_out=20,
    )


def run(config, folder):
    list(regularizer.run(config, folder, command="attar reproduce regularizer"))
    return ExperimentResult.read(folder / "regularizer.json")


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    run(config, folder)
    return folder


@pytest.mark.paper
def test_soft_targets_of_one_design_a_class_teach_most_of_what_the_generalist_knows(finished):
    rows = {(row.name, row.metric): row.mean for row in result_rows(finished)}
    kept = rows["1 of 6 designs a class, soft targets", "share of the whole data's accuracy"]
    assert kept > 0.6


def result_rows(folder):
    return ExperimentResult.read(folder / "regularizer.json").rows


def test_papers_numbers_stand_beside_the_small_share(finished):
    papers = {(row.name, row.metric): row.paper for row in result_rows(finished)}
    assert papers["all examples, hard targets", "accuracy on other fonts"] == 0.589
    assert papers["25% of the examples, hard targets", "accuracy on other fonts"] == 0.445
    kept = papers["25% of the examples, soft targets", "share of the whole data's accuracy"]
    assert kept == pytest.approx(0.57 / 0.589)
    assert papers["1 of 6 designs a class, soft targets", "accuracy on other fonts"] is None


def test_one_design_of_each_class_and_a_share_of_all(config):
    train_set, _ = load_sets(generalist.Config(data=config.data))
    (designs, share), held_out = regularizer.choose_sets(config, train_set)
    assert designs.examples.hard_targets.sort().values.tolist() == list(range(12))
    assert len(share.examples) == 18  # of 72
    assert len(held_out) == 20
    used = torch.cat([designs.examples.example_ids, share.examples.example_ids])
    assert not torch.isin(held_out.example_ids, used).any()


def test_another_seed_chooses_other_examples(config):
    train_set, _ = load_sets(generalist.Config(data=config.data))
    first, second = (
        regularizer.choose_sets(replace(config, seed=seed), train_set)[0][0].examples
        for seed in (0, 1)
    )
    assert not torch.equal(first.example_ids, second.example_ids)


def test_the_best_weights_on_the_way_are_those_that_count(finished):
    record = json.loads((finished / "hard-designs.json").read_text())
    errors = [
        epoch["measurements"]["errors"] for epoch in record["history"] if epoch["measurements"]
    ]
    assert len(errors) > 5
    assert not list(finished.glob("*.best.safetensors"))
    assert not list(finished.glob("*.checkpoint.safetensors"))


def test_labeling_tells_how_far_it_is(config, tmp_path):
    told = list(regularizer.run(replace(config, hard_steps=2, soft_steps=2), tmp_path, command=""))
    labeling = [now for now in told if str(now).startswith("what the generalist says")]
    assert str(labeling[0]) == "what the generalist says, 1 of 6 designs a class · 0 of 24"
    assert any(str(now).endswith("24 of 24") for now in labeling)
    fractions = [now.fraction for now in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1)


def test_a_run_that_was_stopped_ends_with_the_same_numbers(config, finished, tmp_path):
    folder = tmp_path / "run"
    steps = regularizer.run(config, folder, command="")
    for now in steps:
        if now.stage == "hard-designs" and now.epoch == 5:
            break
    steps.close()
    again = run(config, folder)
    assert [row.mean for row in again.rows] == [row.mean for row in result_rows(finished)]


def test_a_generalist_of_an_earlier_run_is_taken(config, tmp_path):
    general = generalist.Config(data=config.data, epochs=1)
    list(generalist.run(general, tmp_path / "generalist", command=""))
    given = replace(config, generalist=str(tmp_path / "generalist"), hard_steps=2, soft_steps=2)
    result = run(given, tmp_path / "run")
    earlier = ExperimentResult.read(tmp_path / "generalist" / "generalist.json").rows[0]
    assert result.rows[0].mean == earlier.mean
    assert not (tmp_path / "run" / "generalist-network.safetensors").exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"share": 1.5}, "between 0 and 1, got 1.5"),
        ({"temperature": 0.0}, "temperature > 0"),
        ({"views": 0}, "views > 0"),
    ],
)
def test_settings_out_of_range_are_told(config, changed, message):
    with pytest.raises(AttarError, match=message):
        replace(config, **changed)


def test_a_set_with_nothing_left_to_stop_by_is_told(config):
    train_set, _ = load_sets(generalist.Config(data=config.data))
    with pytest.raises(AttarError, match="take a smaller share"):
        regularizer.choose_sets(replace(config, share=0.999), train_set)
