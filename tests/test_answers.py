"""Models answer tensors, objects, mappings and tuples; attar finds the logits or refuses."""

from types import SimpleNamespace

import pytest
import torch

from attar.answers import find_logits
from attar.errors import DataError

LOGITS = torch.zeros(2, 3)


@pytest.mark.parametrize(
    "answer",
    [
        LOGITS,
        SimpleNamespace(logits=LOGITS),
        {"logits": LOGITS, "loss": torch.zeros(())},
        {"out": LOGITS},
        (LOGITS, torch.zeros(2, 8)),
        [LOGITS, None],
    ],
)
def test_logits_are_found_in_every_usual_form(answer):
    assert find_logits(answer, "the student") is LOGITS


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ((LOGITS, LOGITS), r"got several of the same shape \(\[2, 3\], \[2, 3\]\)"),
        ((), r"expected the logits as the first item"),
        (("a", LOGITS), r"\(str, \[2, 3\]\)"),
        ({"a": LOGITS, "b": LOGITS}, r"got the keys \['a', 'b'\]"),
        (None, r"got NoneType"),
    ],
)
def test_an_answer_without_clear_logits_is_refused(answer, text):
    with pytest.raises(DataError, match=f"(?s){text}"):
        find_logits(answer, "the student")
