"""The epochs of a step are kept, also over a stop, and are never what a job fails on."""

from attar.jobs.histories import EPOCHS, add_epoch, read_epochs
from attar.records import write_sealed_json
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
    add_epoch(tmp_path, Epoch(1, 0.25, 0.1, 1.0))
    text = (tmp_path / EPOCHS).read_text("utf-8")
    for content in ("{", "[]", "{}", text.replace("0.25", "0.35"), text.replace("0.25", '"much"')):
        (tmp_path / EPOCHS).write_text(content, "utf-8")
        assert read_epochs(tmp_path) == []
    for history in (5, [5], [{"of": "another release"}], [{"index": "two"}]):
        write_sealed_json(tmp_path / EPOCHS, {"history": history})
        assert read_epochs(tmp_path) == []
    add_epoch(tmp_path, Epoch(2, 0.5, 0.1, 1.0))
    assert [epoch.index for epoch in read_epochs(tmp_path)] == [2]
