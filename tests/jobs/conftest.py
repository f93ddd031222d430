import os
import shutil
from pathlib import Path

import pytest
from job_folder import JobFolder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return JobFolder(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A job that is done; tests copy it."""
    root = tmp_path_factory.mktemp("finished")
    job, before = JobFolder(root), Path.cwd()
    os.chdir(root)
    try:
        job.run()
    finally:
        os.chdir(before)
    return root


@pytest.fixture
def done(finished, tmp_path, monkeypatch):
    """A copy of a job that is done."""
    root = tmp_path / "copy"
    shutil.copytree(finished, root)
    monkeypatch.chdir(root)
    return JobFolder(root, new=False)
