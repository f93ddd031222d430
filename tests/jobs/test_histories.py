"""The epochs of a step are kept, also over a stop, and are never what a job fails on."""

from attar.jobs.histories import EPOCHS, add_epoch, read_epochs
from attar.training import Epoch


def test_epochs_are_kept_in_order_and_one_that_is_done_again_once(tmp_path):
    first, second, again = (
        Epoch(index, loss, 0.1, 1.0) for index, loss in ((1, 3), (2, 2), (2, 1))
    )
    assert read_epochs(tmp_path) == []
    for epoch in (first, second, again):
        add_epoch(tmp_path, epoch)
    assert read_epochs(tmp_path) == [first, again]


def test_a_damaged_file_counts_as_none(tmp_path):
    for content in ("{", "[]", "{}", '{"history": [{"of": "another release"}]}'):
        (tmp_path / EPOCHS).write_text(content)
        assert read_epochs(tmp_path) == []
