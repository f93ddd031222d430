import pytest
import torch

from attar.data import Jitter, TransferSet
from attar.data import transfer_set as module
from attar.errors import DataError


def test_the_fingerprint_never_changes():  # stored targets hang on it
    pixels = torch.arange(12, dtype=torch.uint8).view(3, 2, 2)
    transfer = TransferSet(pixels, torch.tensor([1, 0, -1]), class_names=["ä", "b"])
    assert (
        transfer.fingerprint() == "293c92ba6c423417a2ab52d59982cba4cf546f249f1a48fbbd07f59ffecb9cda"
    )
    assert (
        transfer.subset(torch.tensor([2, 0])).fingerprint()
        == "f4da8e3cbacb90473d3ad20b62191ef9474bebdf5abfd45206b9d3103926585d"
    )


def test_equal_sets_have_one_fingerprint_whatever_they_are_made_of():
    inputs = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    strided = inputs.t().contiguous().t()
    targets = torch.tensor([0, 1, 1, 0, 1, -1])
    fingerprints = {
        TransferSet(inputs, targets).fingerprint(),
        TransferSet(strided, targets.int()).fingerprint(),
        TransferSet(inputs.numpy(), targets.numpy(), class_names=["0", "1"]).fingerprint(),
        TransferSet(inputs, targets, views=Jitter()).fingerprint(),
        TransferSet(inputs, targets).subset(torch.arange(6)).fingerprint(),
        TransferSet(torch.cat([inputs, inputs]), targets.repeat(2), classes=2)
        .subset(torch.arange(6))
        .fingerprint(),
    }
    assert len(fingerprints) == 1


def test_any_difference_changes_the_fingerprint():
    inputs, targets = torch.zeros(6, 4), torch.tensor([0, 1, 1, 0, 1, -1])
    changed = inputs.clone()
    changed[5, 3] = 1e-30
    whole = TransferSet(inputs, targets)
    others = [
        TransferSet(changed, targets),
        TransferSet(inputs.double(), targets),
        TransferSet(inputs.view(6, 2, 2), targets),
        TransferSet(inputs, targets.clamp(min=0)),
        TransferSet(inputs, targets, classes=3),
        TransferSet(inputs, targets, class_names=["0", "one"]),
        TransferSet(inputs, targets, class_names=["1", "0"]),
        whole.subset(torch.arange(5)),
        whole.subset(torch.tensor([0, 2, 1, 3, 4, 5])),  # equal examples, but other views of them
    ]
    fingerprints = [each.fingerprint() for each in [whole, *others]]
    assert len(set(fingerprints)) == len(fingerprints)
    assert whole.fingerprint() == fingerprints[0]  # a subset's does not stick to the whole


def test_the_size_of_a_chunk_changes_nothing(monkeypatch):
    inputs, bad = torch.arange(60.0).view(10, 2, 3), torch.zeros(9, 4)
    whole = TransferSet(inputs, classes=2).fingerprint()
    bad[7, 1] = float("nan")
    for size in (1, 31, 100):
        monkeypatch.setattr(module, "CHUNK_BYTES", size)
        assert TransferSet(inputs, classes=2).fingerprint() == whole
        with pytest.raises(DataError, match="nan in example 7"):
            TransferSet(bad, classes=2)
