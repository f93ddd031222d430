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


IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
MEAN, STD = [0.5, 0.4, 0.3], [0.5, 0.5, 0.25]


def make_processor(kind="ViT", **changes):
    pytest.importorskip("PIL", reason="Pillow is not installed")
    settings = {"size": {"height": 8, "width": 8}, "image_mean": MEAN, "image_std": STD}
    return getattr(transformers, f"{kind}ImageProcessor")(**{**settings, **changes})


def normalize(images):
    return (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def ask(model, images=IMAGES, **options):
    return as_teacher(model, classes=3, **options).logits(make_batch(images))


def test_images_are_normalized_as_the_processor_says(tmp_path):  # in memory, they were not at all
    model, processor = make_image_model(), make_processor()
    model.eval().save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    with torch.no_grad():
        expected = model(normalize(IMAGES)).logits
    for source, given in ((model, processor), (tmp_path, None), (model, tmp_path)):
        torch.testing.assert_close(ask(source, processor=given), expected)
    made = [
        as_teacher(source, classes=3, processor=given).fingerprint()
        for source, given in ((model, processor), (tmp_path, None), (model, "none"))
    ]
    assert made[0] == made[1] != made[2]


def test_a_processor_prepares_bytes_as_the_teacher_does():
    model, processor = make_image_model().eval(), make_processor()
    images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    data = attar.TransferSet(images, classes=3)
    prepared = processor(list(images), return_tensors="pt", input_data_format="channels_first")
    with torch.no_grad():
        expected = model(**prepared).logits
    found = as_teacher(model, classes=3, processor=processor).logits(data.batch(torch.arange(4)))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("options", [{"do_normalize": False}, "none"])
def test_inputs_that_are_what_the_model_takes_stay_as_they_are(options):
    processor = options if options == "none" else make_processor(**options)
    model = make_image_model().eval()
    with torch.no_grad():
        expected = model(IMAGES).logits
    torch.testing.assert_close(ask(model, processor=processor), expected)
    torch.testing.assert_close(ask(model, 3 * IMAGES - 1, processor="none").shape, expected.shape)


def test_an_image_model_without_a_processor_is_refused(tmp_path):
    model = make_image_model()
    told = (
        r"model ViTFor.* needs its image processor, .* processor=AutoImageProcessor\..*\(\"{}\"\)\)"
    )
    with pytest.raises(AttarError, match=told.format(r"\.\.\.")):
        as_teacher(model, classes=3)
    with pytest.raises(
        AttarError, match=r"model 'teacher': .* attar\.as_teacher\(model, class_nam"
    ):
        attar.compare(
            {"teacher": model}, attar.TransferSet(IMAGES, torch.tensor([0, 1]), classes=3)
        )
    model.save_pretrained(tmp_path)
    loaded = transformers.ViTForImageClassification.from_pretrained(tmp_path)
    with pytest.raises(AttarError, match=told.format(tmp_path)):
        as_teacher(loaded, classes=3)
    pytest.importorskip("PIL", reason="Pillow is not installed")
    with pytest.raises(AttarError, match=r"cannot load the image processor .*; save it there with"):
        as_teacher(tmp_path, classes=3)


@pytest.mark.parametrize(
    ("kind", "changes", "told"),
    [
        ("ViT", {"do_rescale": False}, "does not scale them; set its do_rescale to True"),
        ("ViT", {"rescale_factor": 1 / 127.5}, r"scales by 0\.0078\d+; wrap the model in a"),
        ("EfficientNet", {}, "EfficientNet.* does more; wrap"),  # divides by std twice
        ("MobileViT", {}, "MobileViT.* does more; wrap"),  # exchanges red and blue
        (
            "ViT",
            {"size": {"max_height": 8, "max_width": 8}},
            "a height and a width, or to a shorter",
        ),
    ],
)
def test_processors_that_do_more_than_normalize_are_refused(kind, changes, told):
    with pytest.raises(DataError, match=told):
        as_teacher(make_image_model(), classes=3, processor=make_processor(kind, **changes))


@pytest.mark.parametrize(
    ("changes", "shape", "told"),
    [
        (
            {},
            (4, 3, 4, 4),
            r"images of 8 x 8 pixels, the size of .* got \[4, 3, 4, 4\]; read the tra",
        ),
        ({"size": {"shortest_edge": 6}}, (4, 3, 8, 7), "with a shorter side of 6 pixels"),
        ({}, (4, 1, 8, 8), r"images of 3 channels, .* got \[4, 1, 8, 8\]; read them with this"),
        ({}, (4, 192), r"expected images \[batch, channels, height, width\], got \[4, 192\]"),
    ],
)
def test_images_that_the_processor_would_have_changed_are_refused(changes, shape, told):
    with pytest.raises(ShapeError, match=told):
        ask(make_image_model(), torch.rand(shape), processor=make_processor(**changes))


@pytest.mark.parametrize("images", [normalize(IMAGES), 255 * IMAGES])
def test_images_that_are_not_in_0_1_are_refused(images):
    with pytest.raises(
        DataError, match=r"images in \[0, 1\] .* got values from .* processor=.none"
    ):
        ask(make_image_model(), images, processor=make_processor())


def test_what_is_no_processor_is_refused(tmp_path):
    for processor in (7, transformers.ViTImageProcessor, {"image_mean": MEAN}):
        with pytest.raises(AttarError, match=r'image processor of transformers or "none" as proce'):
            as_teacher(make_image_model(), classes=3, processor=processor)
    with pytest.raises(AttarError, match=r"processor= cannot be used with .* takes token ids"):
        as_teacher(make_text_model(), classes=3, processor="none")


def test_pairs_of_texts_are_told_from_single_ones():  # without token types, 45 % instead of 100 %
    pairs = torch.tensor([[2, 5, 3, 7, 3], [2, 3, 6, 3, 1], [2, 5, 3, 7, 3], [2, 6, 3, 7, 3]])
    model = make_text_model()
    with pytest.warns(
        UserWarning, match=r"pairs of texts, separated by the token 3, but the model"
    ):
        as_teacher(model, classes=3).logits(make_batch(pairs))
    for ids in (pairs[:3], torch.cat([pairs, torch.tensor([[2, 5, 6, 7, 3]])])):
        as_teacher(model, classes=3).logits(make_batch(ids))  # the last of these is a single text
    as_teacher(make_text_model(type_vocab_size=1), classes=3).logits(make_batch(pairs))


def test_models_that_need_more_than_one_input_are_refused():
    class Boxes(transformers.BertForSequenceClassification):
        def forward(self, input_ids, bbox=None, attention_mask=None):
            return super().forward(input_ids, attention_mask=attention_mask)

    class Types(transformers.BertForSequenceClassification):
        def forward(self, input_ids, token_type_ids, attention_mask=None):
            return super().forward(input_ids, attention_mask, token_type_ids)

    for kind, needed in ((Boxes, "bbox"), (Types, "token_type_ids")):
        with pytest.raises(DataError, match=rf"single input input_ids, .* also needs {needed}, wh"):
            as_teacher(kind(make_text_model().config), classes=3)


@pytest.mark.parametrize(
    ("kind", "task"),
    [("TokenClassification", "TokenClassification"), ("MaskedLM", "MaskedLM")],
)
def test_models_of_other_tasks_are_refused_as_such(kind, task):  # tokens were picked as classes
    model = getattr(transformers, f"BertFor{kind}")(make_text_model().config)
    with pytest.raises(
        DataError, match=rf"of whole texts or images, .* is for {task}; use attar\."
    ):
        as_teacher(model, classes=3)


def test_a_model_of_ones_own_that_answers_for_each_token_is_refused():
    class Tags(transformers.BertPreTrainedModel):
        def __init__(self, config):
            super().__init__(config)
            self.bert = transformers.BertModel(config)
            self.post_init()

        def forward(self, input_ids, attention_mask=None):
            return (self.bert(input_ids, attention_mask).last_hidden_state[:, :, :3],)

    with pytest.raises(ShapeError, match=r"expected logits \[2, 3\], got \[2, 4, 3\] from the"):
        as_teacher(Tags(make_text_model().config), classes=3).logits(make_batch(IDS))


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
    with pytest.raises(
        DataError, match=r"BertForS.* is a multi-label model; use attar\.TrainingRun"
    ):
        as_teacher(several, classes=3)
    for changes in ({"problem_type": "regression"}, {"num_labels": 1}):
        with pytest.raises(
            DataError, match=r"BertForSequ.* is a regression model; use attar\.TrainingR"
        ):
            as_teacher(make_text_model(**changes), classes=3)
    model = make_text_model()
    model.config.pad_token_id = None
    with pytest.raises(
        AttarError,
        match=r"padding token of the model .* is unknown; pass as_teacher\(\.\.\., padding=",
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
    with pytest.raises(DataError, match=r"config\.json is not JSON"):
        as_teacher(tmp_path, classes=3)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(DataError, match=r"a JSON object in .*config\.json, got list"):
        as_teacher(tmp_path, classes=3)


def test_pickled_weights_are_not_loaded(tmp_path):
    model = make_text_model()
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(DataError, match="transformers cannot load"):
        as_teacher(tmp_path, classes=3)


def test_a_missing_package_names_the_extra(tmp_path, monkeypatch):
    make_text_model().save_pretrained(tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(
        AttarError, match=r"transformers is not installed, .*'attar\[transformers\]'"
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


def test_a_model_that_pools_by_padding_needs_that_of_the_inputs():
    sizes = {"vocab_size": 20, "n_positions": 16, "n_embd": 8, "n_layer": 1, "n_head": 2}
    config = transformers.GPT2Config(**sizes, num_labels=2, pad_token_id=19)
    model = transformers.GPT2ForSequenceClassification(config)
    with pytest.raises(AttarError, match=r"config.pad_token_id of .* is 19, .* set it to 0"):
        as_teacher(model, classes=2, padding=0)
    assert as_teacher(model, classes=2, padding=19).classes == 2


def test_a_parallel_model_is_the_model_in_it():
    model = make_text_model()
    found, expected = (as_teacher(m, classes=3) for m in (torch.nn.DataParallel(model), model))
    assert found.fingerprint() == expected.fingerprint()
