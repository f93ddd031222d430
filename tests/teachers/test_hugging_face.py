import json
import sys

import pytest
import torch

import attar
from attar.errors import AttarError, DataError, ShapeError
from attar.teachers import as_teacher

from .batches import make_batch

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

IDS = torch.tensor([[5, 6, 9, 1], [7, 3, 1, 1]])
NAMES = ["cat", "dog", "bee"]


def make_text_model(labels=None, **changes):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.BertConfig(
            vocab_size=20,
            hidden_size=8,
            num_hidden_layers=1,
            intermediate_size=8,
            max_position_embeddings=8,
            pad_token_id=1,
            **{"num_attention_heads": 2, "num_labels": 3, **changes},
        )
        if labels:
            config.id2label = dict(enumerate(labels))
        return transformers.BertForSequenceClassification(config)


def make_image_model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.ViTConfig(
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=8,
            image_size=8,
            patch_size=4,
            num_labels=3,
        )
        return transformers.ViTForImageClassification(config)


def test_padding_is_masked():
    model = make_text_model()
    logits = as_teacher(model, classes=3).logits(make_batch(IDS))
    model.eval()
    with torch.no_grad():
        for ids, row in zip(IDS, logits, strict=True):
            torch.testing.assert_close(model(ids[None, ids != 1]).logits[0], row)
        other = as_teacher(model, classes=3, padding=9).logits(make_batch(IDS))
    assert not torch.allclose(other, logits)


def test_the_mode_of_the_model_stays():
    for training in (True, False):
        model = make_text_model().train(training)
        as_teacher(model, classes=3).logits(make_batch(IDS))
        assert all(module.training is training for module in model.modules())


def test_classes_are_found_by_name():
    model = make_text_model(["bee", "cat", "dog"])
    by_name = as_teacher(model, class_names=NAMES).logits(make_batch(IDS))
    by_position = as_teacher(model, classes=3).logits(make_batch(IDS))
    assert torch.equal(by_name, by_position[:, [1, 2, 0]])
    unnamed = as_teacher(make_text_model(), class_names=NAMES).logits(make_batch(IDS))
    assert torch.equal(unnamed, by_position)
    numbered = as_teacher(model, class_names=["0", "1", "2"]).logits(make_batch(IDS))
    assert torch.equal(numbered, by_position)


def test_a_saved_folder_answers_as_the_model_does(tmp_path):
    model = make_text_model(NAMES)
    model.save_pretrained(tmp_path)
    loaded, kept = (as_teacher(each, class_names=NAMES) for each in (str(tmp_path), model))
    torch.testing.assert_close(loaded.logits(make_batch(IDS)), kept.logits(make_batch(IDS)))
    assert loaded.fingerprint() == kept.fingerprint()


def test_images_are_normalized_as_the_folder_says(tmp_path):
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    model = make_image_model()
    model.save_pretrained(tmp_path)
    plain = as_teacher(tmp_path, classes=3)
    preparation = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.5, 0.25]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(preparation))
    normalizing = as_teacher(tmp_path, classes=3)
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in preparation.values())
    expected = plain.logits(make_batch((images - mean) / std))
    torch.testing.assert_close(normalizing.logits(make_batch(images)), expected)
    torch.testing.assert_close(
        plain.logits(make_batch(images)), as_teacher(model, classes=3).logits(make_batch(images))
    )
    assert normalizing.fingerprint() != plain.fingerprint()
    off = json.dumps({**preparation, "do_normalize": False})
    (tmp_path / "preprocessor_config.json").write_text(off)
    assert as_teacher(tmp_path, classes=3).fingerprint() == plain.fingerprint()


def test_settings_that_decide_the_answers_are_in_the_fingerprint():
    models = [
        make_text_model(),
        make_text_model(num_attention_heads=1),
        make_text_model(layer_norm_eps=1e-3),
    ]
    fingerprints = [as_teacher(model, classes=3).fingerprint() for model in models]
    fingerprints.append(as_teacher(models[0], classes=3, padding=2).fingerprint())
    assert len(set(fingerprints)) == 4
    assert as_teacher(make_text_model(), classes=3).fingerprint() == fingerprints[0]


def test_models_that_do_not_fit_are_errors():
    with pytest.raises(ShapeError, match="10 classes, got one of 3: the model BertForSequence"):
        as_teacher(make_text_model(), classes=10)
    with pytest.raises(DataError, match=r"\['cat', 'dog', 'bee'\], got \['a', 'b', 'c'\] in .*id2"):
        as_teacher(make_text_model(list("abc")), class_names=NAMES)
    several = make_text_model(problem_type="multi_label_classification")
    with pytest.raises(DataError, match="BertForSequenceClassification answers several at once"):
        as_teacher(several, classes=3)
    model = make_text_model()
    model.config.pad_token_id = None
    with pytest.raises(
        AttarError, match=r"padding token of the model .*; give as_teacher\(\.\.\., padding="
    ):
        as_teacher(model, classes=3)
    model.main_input_name = "input_values"
    with pytest.raises(DataError, match=r"token ids or images, .* takes input_values; wrap it"):
        as_teacher(model, classes=3)


def test_folders_that_do_not_fit_are_errors(tmp_path):
    (tmp_path / "config.json").write_text('{"architectures": ["BertModel"]}')
    with pytest.raises(DataError, match=r"ForImageClassification or .* got BertModel"):
        as_teacher(tmp_path, classes=3)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(DataError, match=r"config\.json is no JSON"):
        as_teacher(tmp_path, classes=3)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(DataError, match=r"a JSON object in .*config\.json, got list"):
        as_teacher(tmp_path, classes=3)


def test_pickled_weights_are_not_loaded(tmp_path):
    model = make_text_model()
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(DataError, match="holds no model that transformers can load"):
        as_teacher(tmp_path, classes=3)


def test_a_missing_package_names_the_extra(tmp_path, monkeypatch):
    make_text_model().save_pretrained(tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(
        AttarError, match=r"got none of transformers; try .*'attar\[transformers\]'"
    ):
        as_teacher(tmp_path, classes=3)


@pytest.mark.parametrize("encoding", [attar.Dense(), attar.Sparse(k=1)])
def test_a_saved_folder_labels_a_set_as_the_model_answers_each_sentence_alone(tmp_path, encoding):
    model = make_text_model(NAMES).eval()
    model.save_pretrained(tmp_path / "model")
    hard_targets = torch.tensor([0, 1])
    data = attar.TransferSet(IDS.int(), hard_targets, class_names=["bee", "cat", "dog"])
    store = attar.label(tmp_path / "model", data, tmp_path / "targets", encoding=encoding)
    with torch.no_grad():  # without any padding; the classes in the set's order
        v = [model(input_ids=ids[ids != 1][None]).logits[0, [2, 0, 1]] for ids in IDS]
    v = torch.stack(v)
    found = store.batch(torch.arange(2))
    if encoding == attar.Dense():
        torch.testing.assert_close(found.logits, v - v.amax(1, keepdim=True), atol=1e-3, rtol=1e-3)
    else:
        assert found.indices[:, 0].tolist() == v.argmax(1).tolist()
