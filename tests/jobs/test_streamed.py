"""`streamed = true`: a transfer set that is read a part at a time."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from job_folder import JobFolder

from attar import StreamedSet
from attar.errors import JobError
from attar.jobs import read_job
from attar.jobs.planning import plan_job
from attar.jobs.sources import load_transfer_set
from attar.jobs.students import labeled

STREAMED = """source = "train.parquet"
streamed = true
class_names = ["0", "1", "2"]"""


@pytest.fixture
def folder(tmp_path):
    """A job whose transfer set is a Parquet file of four row groups, and whose teacher is given."""
    job = JobFolder(tmp_path)
    arrays = np.load(tmp_path / "train.npz")
    columns = {
        "inputs": list(arrays["inputs"].reshape(40, 16)),
        "hard_targets": arrays["hard_targets"],
    }
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "train.parquet", row_group_size=10)
    job.edit('source = "train.npz"', 'source = "train.parquet"')
    return job


def test_it_is_labeled_as_in_memory_and_learned_from(folder):
    folder.edit("[teacher.train]\nepochs = 2\nbatch_size = 16\nlearning_rate = 0.01\n", "")
    folder.run()
    in_memory = folder.contents("**/*.arrow", "**/manifest.json")
    plain = plan_job(read_job(folder.path))
    (folder.root / "job").rename(folder.root / "before")
    folder.edit('source = "train.parquet"', STREAMED)
    plan = plan_job(read_job(folder.path))
    assert (plan.examples, plan.labeling.input_bytes) == (40, plain.labeling.input_bytes)
    lines = folder.run()
    assert folder.contents("**/*.arrow", "**/manifest.json") == in_memory
    assert len(folder.contents()) == len(in_memory) + 2  # a student, and a baseline
    assert any(line.startswith("hard targets") or "distilled" in line for line in lines)


def test_its_fingerprint_may_be_given(folder):
    folder.edit('source = "train.parquet"', f'{STREAMED}\nfingerprint = "of November"\njitter = 0')
    folder.run("train", "label")
    manifest = folder.contents("**/manifest.json").popitem()[1]
    assert b'"data": "of November"' in manifest


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('class_names = ["0", "1", "2"]', "", "streamed = true needs class_names"),
        ("temperature = 4.0", 'temperature = "auto"', "expected a number for a streamed set, got"),
        (
            "streamed = true",
            'streamed = true\nunlabeled = true\ninputs = ["inputs"]',
            "expected hard targets in the",
        ),
        ("[compare]", "[cluster]\ntogether = 3\n[compare]", "together"),
    ],
)
def test_what_does_not_fit_is_told(folder, before, after, message):
    folder.edit('source = "train.parquet"', STREAMED)
    folder.edit(before, after)
    with pytest.raises(JobError, match=message):
        folder.run()


def test_processes_that_train_together_need_a_temperature(folder):
    folder.edit("temperature = 4.0", 'temperature = "auto"')
    folder.edit("[compare]", "[cluster]\ntogether = true\n[compare]")
    with pytest.raises(JobError, match=r"expected a number with \[cluster\] together = true, got"):
        folder.run()


def test_examples_without_a_hard_target_are_left_out_where_one_is_needed(folder):
    table = pyarrow.parquet.read_table(folder.root / "train.parquet")
    targets = table["hard_targets"].to_pylist()
    targets[15] = None
    table = table.set_column(1, "hard_targets", pa.array(targets))
    pyarrow.parquet.write_table(table, folder.root / "train.parquet", row_group_size=10)
    folder.run("train")
    weights = folder.contents("**/teacher.safetensors").popitem()[1]
    (folder.root / "job").rename(folder.root / "before")
    folder.edit('source = "train.parquet"', STREAMED)
    folder.run("train")
    job = read_job(folder.path)
    examples = labeled(job, load_transfer_set(job), "teacher")
    assert isinstance(examples, StreamedSet)
    assert (len(examples), int(examples.hard_targets.min())) == (39, 0)
    assert len(folder.contents("**/teacher.safetensors").popitem()[1]) == len(weights)
