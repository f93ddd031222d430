"""Data sets of torch and of Hugging Face into transfer sets: datasets.py."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from attar.data import TransferSet, from_dataset
from attar.errors import DataError

INPUTS = torch.arange(12, dtype=torch.float32).view(4, 3)
TARGETS = [1, 0, 1, -1]


class Items(Dataset):
    """Answers what it was made with."""

    def __init__(self, items, **attributes):
        self.items = items
        self.__dict__.update(attributes)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def expected() -> str:
    return TransferSet(INPUTS, torch.tensor(TARGETS)).fingerprint()


# Data sets of torch


@pytest.mark.parametrize(
    "items",
    [
        list(zip(INPUTS, TARGETS, strict=True)),
        list(zip(INPUTS.numpy(), map(np.int64, TARGETS), strict=True)),
        list(zip(INPUTS, map(torch.tensor, TARGETS), strict=True)),
        [[row.numpy(), target, "more"] for row, target in zip(INPUTS, TARGETS, strict=True)],
    ],
)
def test_items_of_inputs_and_target(items):
    assert from_dataset(Items(items), target=1).fingerprint() == expected()


def test_items_with_keys_and_in_another_order():
    items = [{"x": row, "y": y} for row, y in zip(INPUTS, TARGETS, strict=True)]
    assert from_dataset(Items(items), inputs="x", target="y").fingerprint() == expected()
    swapped = TensorDataset(torch.tensor(TARGETS), INPUTS)
    assert from_dataset(swapped, inputs=1, target=0).fingerprint() == expected()


def test_items_without_a_target():
    for dataset in (Items(list(INPUTS)), TensorDataset(INPUTS)):
        transfer = from_dataset(dataset, target=None, classes=2)
        assert torch.equal(transfer.inputs, INPUTS)
        assert transfer.hard_targets.tolist() == [-1] * 4


def test_names_are_classes_and_so_are_those_that_the_data_set_knows():
    named = Items(list(zip(INPUTS, ["dog", "cat", "dog", None], strict=True)))
    transfer = from_dataset(named, target=1)
    assert (transfer.class_names, transfer.hard_targets.tolist()) == (("cat", "dog"), TARGETS)
    known = Items(list(zip(INPUTS, TARGETS, strict=True)), classes=["cat", "dog", "bee"])
    assert from_dataset(known, target=1).class_names == ("cat", "dog", "bee")
    assert from_dataset(known, target=1, class_names=["x", "y"]).class_names == ("x", "y")


def test_token_ids_stay_integers():
    transfer = from_dataset(
        TensorDataset(torch.ones(3, 5, dtype=torch.int64)), target=None, classes=2
    )
    assert transfer.inputs.dtype == torch.int64


def test_workers_and_torch_s_random_numbers_change_nothing():
    before = torch.get_rng_state()
    items = Items(list(zip(INPUTS.repeat(40, 1), TARGETS * 40, strict=True)))
    alone = from_dataset(items, target=1)
    assert from_dataset(items, target=1, workers=1).fingerprint() == alone.fingerprint()
    assert torch.equal(torch.get_rng_state(), before)


def test_images_become_bytes_with_channels_first():
    image_module = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), dtype=np.uint8)
    colored = Items([(image_module.fromarray(each), 0) for each in pixels])
    inputs = from_dataset(colored, target=1).inputs
    assert torch.equal(inputs, torch.from_numpy(pixels.transpose(0, 3, 1, 2)))
    gray = Items([(image_module.fromarray(each[:, :, 0]), 0) for each in pixels])
    assert from_dataset(gray, target=1).inputs.shape == (2, 1, 4, 5)


# Data sets of torch that do not fit


def test_random_items_ask_for_views():
    class Noisy(Items):
        def __getitem__(self, index):
            return torch.rand(3), 0

    with pytest.raises(
        DataError, match=r"another item 0 when asked twice; .* give the transfer set"
    ):
        from_dataset(Noisy(TARGETS), target=1)


def test_empty_endless_and_several_sets_are_errors():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(INPUTS)

    with pytest.raises(DataError, match="one item or more in the Items, got none"):
        from_dataset(Items([]), target=1)
    with pytest.raises(
        DataError, match="a length and items by index, got the Stream; if it is a st"
    ):
        from_dataset(Stream(), target=None, classes=2)
    with pytest.raises(DataError, match=r"one split, got \['test', 'train'\]; choose one"):
        from_dataset({"train": Items([]), "test": Items([])}, target=1)


def test_a_loader_names_its_data_set():
    loader = DataLoader(TensorDataset(INPUTS, torch.tensor(TARGETS)))
    with pytest.raises(
        DataError, match=r"expected a data set, got the DataLoader; .* loader\.dataset"
    ):
        from_dataset(loader, target=1)
    assert from_dataset(loader.dataset, target=1).fingerprint() == expected()


# Items of several tensors


IDS, MASKS = torch.tensor([[5, 6, 0], [7, 8, 9]]), torch.tensor([[1, 1, 0], [1, 1, 1]])


def tokens(**more):
    """Items as tokenizers make them."""
    columns = {"input_ids": IDS, "attention_mask": MASKS, "labels": torch.tensor([0, 1])} | more
    return Items([{name: each[row] for name, each in columns.items()} for row in range(2)])


def read_tokens(items, **options):
    return from_dataset(items, inputs="input_ids", target="labels", **{"padding": 0} | options)


def test_an_attention_mask_in_items_must_agree_with_the_padding_token():
    assert torch.equal(read_tokens(tokens()).inputs, IDS)
    with pytest.raises(
        DataError, match=r"0 at the padding token None alone, .* row 0 of the Items"
    ):
        read_tokens(tokens(), padding=None)
    with pytest.raises(DataError, match=r"0 at the padding token 0 alone, .* row 1 of the Items"):
        read_tokens(tokens(attention_mask=torch.tensor([[1, 1, 0], [1, 0, 1]])))
    with pytest.raises(DataError, match=r"attention_mask of the shape \[3\] in all items"):
        read_tokens(tokens(attention_mask=MASKS[:, :2]))
    sounds = {"input_values": torch.rand(2, 3)}
    with pytest.raises(DataError, match="attention_mask to be 1 everywhere in the Items, got 0"):
        from_dataset(tokens(**sounds), inputs="input_values", target="labels", ignore="input_ids")


def test_further_inputs_of_a_model_in_items_are_not_dropped_silently():
    types = torch.tensor([[0, 0, 0], [0, 0, 1]])
    assert torch.equal(read_tokens(tokens(token_type_ids=types * 0)).inputs, IDS)
    for name in ("token_type_ids", "position_ids", "pixel_values"):
        with pytest.raises(DataError, match=rf"got also '{name}', which models of transformers"):
            read_tokens(tokens(**{name: types}))
        assert torch.equal(read_tokens(tokens(**{name: types}), ignore=[name]).inputs, IDS)
    with pytest.raises(DataError, match=r"ignore= to name some of 'input_ids', .*, got 'bbox'"):
        read_tokens(tokens(), ignore="bbox")


def test_further_tensors_in_a_tuple_are_not_dropped_silently():
    items = TensorDataset(IDS, MASKS, torch.tensor([0, 1]))
    with pytest.raises(DataError, match=r"got also 1, in items of 3 elements; .* ignore=\[1\]"):
        from_dataset(items, target=2)
    for target in (2, -1):
        assert torch.equal(from_dataset(items, target=target, ignore=1).inputs, IDS)
    lists = Items([([1, 2], [0, 1], 0), ([3, 4], [0, 0], 1)])
    with pytest.raises(DataError, match=r"got also 1, in items of 3 elements"):
        from_dataset(lists, target=2)


@pytest.mark.parametrize("other", [torch.zeros(2), torch.zeros(3, dtype=torch.float64)])
def test_ragged_items_name_the_first(other):
    items = Items([(INPUTS[0], 0), (INPUTS[1], 0), (other, 1)])
    told = rf"got \[3\] float32 in item 0 and \[{len(other)}\] .* in item 2; resize, or pad"
    with pytest.raises(DataError, match=told):
        from_dataset(items, target=1)


def test_items_of_another_form_are_named():
    with pytest.raises(
        DataError, match=r"the target at 1, got Tensor as item 0 of the Items; give"
    ):
        from_dataset(Items([torch.tensor(1.0)]), target=1)
    with pytest.raises(DataError, match=r"inputs at None and the target at 2, got tuple as item 0"):
        from_dataset(TensorDataset(INPUTS, INPUTS), target=2)
    keyed = Items([{"x": INPUTS[0], "y": 0}])
    with pytest.raises(DataError, match=r"one of the keys \['x', 'y'\] of the Items, got none"):
        from_dataset(keyed, target="y")
    with pytest.raises(DataError, match=r"the target at 'z', got keys \['x', 'y'\] as item 0"):
        from_dataset(keyed, inputs="x", target="z")
    with pytest.raises(DataError, match=r"an image or numbers as the inputs of item 0 .*, got str"):
        from_dataset(Items([("text", 0)]), target=1)
    with pytest.raises(DataError, match=r"hard targets of one kind, .* got int, str in the Items"):
        from_dataset(Items([(INPUTS[0], 0), (INPUTS[1], "cat")]), target=1)
    with pytest.raises(DataError, match="got nan in example 0"):
        from_dataset(Items([(INPUTS[0] * float("nan"), 0)]), target=1)


# Data sets of Hugging Face


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    import os

    os.environ["HF_HOME"] = str(tmp_path_factory.mktemp("huggingface"))
    return pytest.importorskip("datasets", reason="datasets is not installed: extra datasets")


def test_columns_are_taken_as_a_table_s(datasets):
    dataset = datasets.Dataset.from_dict({"x": [1.0, 2.0, 3.0], "z": [0, 1, 2], "y": list("bab")})
    transfer = from_dataset(dataset, target="y")
    assert transfer.inputs.tolist() == [[1.0, 0.0], [2.0, 1.0], [3.0, 2.0]]
    assert transfer.hard_targets.tolist() == [1, 0, 1]
    chosen = from_dataset(dataset.select([2, 0]).with_format("torch"), inputs="z", target="y")
    assert chosen.inputs.tolist() == [[2.0], [0.0]]


def test_class_labels_bring_their_names(datasets):
    features = datasets.Features(
        {"x": datasets.Value("float32"), "y": datasets.ClassLabel(names=["dog", "bee", "cat"])}
    )
    dataset = datasets.Dataset.from_dict({"x": [1.0, 2.0], "y": [2, -1]}, features=features)
    transfer = from_dataset(dataset, target="y")
    assert transfer.class_names == ("dog", "bee", "cat")
    assert transfer.hard_targets.tolist() == [2, -1]


def test_tokenized_texts_are_padded(datasets):
    dataset = datasets.Dataset.from_dict(
        {
            "text": ["good", "so bad"],
            "input_ids": [[5, 6], [7, 8, 9]],
            "attention_mask": [[1, 1], [1, 1, 1]],
            "label": ["pos", "neg"],
        }
    )
    transfer = from_dataset(dataset, inputs="input_ids", target="label", padding=0)
    assert transfer.inputs.tolist() == [[5, 6, 0], [7, 8, 9]]
    assert transfer.class_names == ("neg", "pos")
    with pytest.raises(DataError, match=r"got 'text', 'input_ids', 'attention_mask'; give inputs="):
        from_dataset(dataset, target="label", padding=0)


def test_image_columns_are_decoded(datasets):
    image_module = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), dtype=np.uint8)
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    )
    images = [image_module.fromarray(each) for each in pixels]
    columns = {"image": images, "label": [1, 0, 1]}
    dataset = datasets.Dataset.from_dict(columns, features=features)
    for each in (dataset, dataset.with_format("torch")):
        transfer = from_dataset(each, target="label")
        assert torch.equal(transfer.inputs, torch.from_numpy(pixels.transpose(0, 3, 1, 2)))
        assert transfer.class_names == ("cat", "dog")
    reordered = from_dataset(dataset, target="label", class_names=["cat", "dog", "bee"])
    assert reordered.classes == 3


def test_several_splits_and_streams_are_errors(datasets):
    dataset = datasets.Dataset.from_dict({"x": [1.0], "y": [0]})
    with pytest.raises(DataError, match=r"one split, got \['train'\]; choose"):
        from_dataset(datasets.DatasetDict({"train": dataset}), target="y")
    with pytest.raises(
        DataError, match="a length and items by index, got the IterableDataset; if it"
    ):
        from_dataset(dataset.to_iterable_dataset(), target="y")
    with pytest.raises(
        DataError, match=r"a column 'label' of hard targets in the Dataset, got 'x'"
    ):
        from_dataset(dataset, target="label")


def test_token_types_of_pairs_are_not_dropped_silently(datasets):
    columns = {
        "input_ids": [[2, 5, 3, 7, 3]],
        "token_type_ids": [[0, 0, 0, 1, 1]],
        "attention_mask": [[1] * 5],
        "label": [1],
    }
    dataset = datasets.Dataset.from_dict(columns)
    options = {"target": "label", "inputs": "input_ids", "padding": 0, "classes": 2}
    with pytest.raises(DataError, match=r"of the Dataset, got also 'token_type_ids', which models"):
        from_dataset(dataset, **options)
    without = from_dataset(dataset.remove_columns(["token_type_ids"]), **options)
    ignored = from_dataset(dataset, ignore=["token_type_ids"], **options)
    assert without.fingerprint() == ignored.fingerprint()
