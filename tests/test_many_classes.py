"""Thousands of classes and columns: the time grows with their number, not with its square.

Each took a minute or more where a list was searched for each name; a few seconds are let pass.
"""

import time
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pytest
import torch

from attar import TransferSet, as_teacher
from attar.comparison.candidates import _find_columns
from attar.data.columns import check_column_names, convert_table
from attar.data.images import list_images
from attar.data.labels import make_labeled_set
from attar.errors import DataError, JobError
from attar.jobs import read_job
from attar.jobs.lines import find_line

MANY = 50_000
NAMES = [f"class {index:06}" for index in range(MANY)]


@contextmanager
def seconds(most):
    start = time.process_time()
    yield
    assert time.process_time() - start < most


def test_labels_are_found_among_many_names():
    with seconds(5):
        made = make_labeled_set(
            np.zeros((MANY, 1), np.float32),
            pa.array(NAMES[::-1]),
            class_names=NAMES,
            classes=None,
            source="here",
        )
    assert made.hard_targets[:2].tolist() == [MANY - 1, MANY - 2]


def test_many_columns_are_told_apart():
    with seconds(5):
        check_column_names(NAMES, "here")
    with pytest.raises(DataError, match="got 'class 000007' twice"), seconds(5):
        check_column_names([*NAMES, NAMES[7]], "here")


def test_many_columns_are_read():
    columns = 10_000
    row = pa.array([1.0])
    table = pa.table(dict.fromkeys(NAMES[:columns], row) | {"y": [0]})
    with seconds(5):
        made = convert_table(
            table,
            inputs=NAMES[:columns],
            target="y",
            class_names=["x"],
            classes=None,
            padding=None,
            ignore=(),
            source="here",
        )
    assert made.inputs.shape == (1, columns)


class Names(list):
    """Names that may be gone through, but not be searched for each folder."""

    def __contains__(self, name):
        raise AssertionError(name)


def test_many_folders_of_images_are_listed(tmp_path):
    for name in NAMES[:3]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").touch()
    paths, labels = list_images(tmp_path, Names(NAMES))
    assert (len(paths), labels[2].as_py()) == (3, NAMES[2])


def test_a_classifier_s_classes_are_found_by_name():
    class Many:
        classes_ = np.array(NAMES[::-1])

        def predict_proba(self, inputs):
            return np.zeros((len(inputs), MANY)) + 1 / MANY

        predict = predict_proba

    with seconds(5):
        teacher = as_teacher(Many(), classes=MANY, class_names=NAMES, version="1")
    assert teacher.columns[:2] == (MANY - 1, MANY - 2)


def test_a_compared_model_s_classes_are_found_by_name():
    with seconds(5):
        assert _find_columns(NAMES[::-1], NAMES)[0] == MANY - 1


JOB = """\
[transfer_set]
source = "mnist"
class_names = [
{names}
]
more = 1
"""


def test_a_line_is_found_in_a_job_file_with_many_names():
    text = JOB.format(names="\n".join(f'  "{name}",  # [' for name in NAMES))
    with seconds(5):
        assert find_line(text, ("transfer_set", "more")) == MANY + 5
        for index in range(0, MANY, 10):
            assert find_line(text, ("transfer_set", "class_names", index)) == 3


def test_a_job_file_with_many_wrong_names_is_refused_soon(tmp_path):
    path = tmp_path / "job.toml"
    path.write_text(JOB.format(names="\n".join(f"  {index}," for index in range(4000))))
    with pytest.raises(JobError, match=r"line 4005, transfer_set\.more: expected"), seconds(5):
        read_job(path)


def test_many_feature_names_are_told_apart():
    with seconds(5):
        made = TransferSet(torch.zeros(1, MANY), classes=2, feature_names=NAMES)
    assert made.feature_names == tuple(NAMES)
