import shutil
from dataclasses import replace

import pytest
import torch

from attar.errors import AttarError, FolderError
from attar.evaluation import evaluate
from attar.recipes import generalist
from attar.recipes.generalist import load_generalist, load_glyphs, load_sets, top_k_accuracy
from attar.records import ExperimentResult
from tests.recipes.glyph_folder import make_glyph_folder


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    data = make_glyph_folder(tmp_path_factory.mktemp("data") / "glyphs")
    return generalist.Config(data=str(data), epochs=6, batch_size=12, features=8)


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    progress = list(generalist.run(config, folder, command="attar reproduce generalist"))
    assert progress[-1].fraction == pytest.approx(1)
    return folder


@pytest.mark.paper
def test_it_knows_classes_as_other_fonts_draw_them(finished, config):
    rows = {row.name: row.mean for row in ExperimentResult.read(finished / "generalist.json").rows}
    assert rows["generalist of 12 classes, top-1"] > 0.7
    assert rows["generalist of 12 classes, top-5"] >= rows["generalist of 12 classes, top-1"]


def test_the_numbers_are_those_of_the_network_that_is_left(finished, config):
    val = load_glyphs(config.data)["val"].examples
    network = load_generalist(str(finished), val)
    result = ExperimentResult.read(finished / "generalist.json")
    assert result.rows[0].mean == evaluate(network, val).accuracy
    assert result.rows[1].mean == top_k_accuracy(network, val, 5)
    assert not network.training


def test_top_1_is_accuracy_and_top_all_is_everything(finished, config):
    val = load_glyphs(config.data)["val"].examples
    network = load_generalist(str(finished), val)
    assert top_k_accuracy(network, val, 1) == evaluate(network, val).accuracy
    assert top_k_accuracy(network, val, 99) == 1


def test_a_finished_run_is_not_run_again(finished, config):
    assert list(generalist.run(config, finished, command="again")) == []


def test_some_classes_are_the_first_ones(config):
    train, val = load_sets(replace(config, classes=5))
    assert train.class_names == val.class_names == tuple("一丁丂七丄")
    assert train.hard_targets.bincount().tolist() == [6] * 5
    whole = load_glyphs(config.data)["train"].examples
    assert torch.equal(train.inputs, whole.inputs[whole.hard_targets < 5])


def test_held_out_faces_are_not_trained_on(config):
    glyphs = load_glyphs(config.data)["train"]
    train, held = load_sets(replace(config, held_out=2))
    faces = [set(glyphs.faces[each.example_ids].tolist()) for each in (train, held)]
    assert faces[0] | faces[1] == set(range(6))
    assert faces[1] == {0, 3}
    assert faces[0].isdisjoint(faces[1])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"classes": 13}, "at most the 12 classes of the data, got 13"),
        ({"held_out": 6}, "below the 6 faces, got 6"),
        ({"data": "nowhere"}, "attar data glyphs"),
    ],
)
def test_what_the_data_do_not_have_is_told_before_the_folder_is_touched(
    config, tmp_path, changed, message
):
    with pytest.raises(AttarError, match=message):
        list(generalist.run(replace(config, **changed), tmp_path / "run", command=""))
    assert not (tmp_path / "run").exists()


def test_a_folder_without_its_run_is_told(tmp_path, config, finished):
    val = load_glyphs(config.data)["val"].examples
    with pytest.raises(FolderError, match=r"found no run\.json"):
        load_generalist(str(tmp_path), val)
    (tmp_path / "run.json").write_text((finished / "run.json").read_text())
    with pytest.raises(FolderError, match="is not finished"):
        load_generalist(str(tmp_path), val)
    (tmp_path / "run.json").write_text('{"experiment": "mnist", "config": {}}')
    with pytest.raises(FolderError, match="found mnist"):
        load_generalist(str(tmp_path), val)


def test_of_more_classes_those_of_the_first_are_taken(config, finished):
    few = load_sets(replace(config, classes=5))[1]
    network = load_generalist(str(finished), few)
    whole = load_generalist(str(finished), load_glyphs(config.data)["val"].examples)
    images = few.batch(torch.arange(10)).inputs
    torch.testing.assert_close(network(images), whole(images)[:, :5])


def test_a_network_of_fewer_classes_is_told(config, finished, tmp_path):
    more = make_glyph_folder(tmp_path / "more", classes=13)
    with pytest.raises(FolderError, match="a generalist of 13 classes, got one of 12"):
        load_generalist(str(finished), load_glyphs(str(more))["val"].examples)


def test_a_damaged_network_is_told(config, finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "run")
    (folder / "generalist-network.safetensors").write_bytes(b"\0" * 9)
    with pytest.raises(FolderError, match="is damaged"):
        load_generalist(str(folder), load_glyphs(config.data)["val"].examples)
