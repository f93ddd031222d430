import json
import os
import re
import subprocess
import sys
from dataclasses import FrozenInstanceError, asdict, replace
from pathlib import Path

import pytest
import torch

import attar
from attar import records
from attar.errors import FolderError
from attar.records import (
    ExperimentResult,
    Machine,
    ResultRow,
    read_json,
    this_machine,
    write_json,
)


@pytest.fixture
def result():
    machine = Machine(
        processor="Z80",
        cores=1,
        threads=1,
        memory_gib=None,
        system="Linux z80",
        python="3.11.0",
        torch="2.6.0",
        attar="0.1.0",
        commit="0123456789ab",
    )
    row = ResultRow.over_seeds(
        "student 2×800", [74.0, 76.0], metric="test errors", paper=74.0, parameters=1_276_810
    )
    return ExperimentResult(
        experiment="mnist",
        command="attar reproduce mnist",
        rows=(row, ResultRow.over_seeds("α", [1.5], metric="test errors", paper=None)),
        config={"seeds": 2, "temperature": 20.0},
        machine=machine,
        wall_seconds=12.5,
        details={"student": [{"errors": 74}, {"errors": 76}]},
    )


def test_mean_and_sample_standard_deviation_by_hand():
    row = ResultRow.over_seeds("teacher", [60.0, 64.0, 68.0], metric="test errors", paper=67.0)
    assert (row.mean, row.sd, row.seeds, row.values) == (64.0, 4.0, 3, (60.0, 64.0, 68.0))


def test_a_single_seed_has_no_spread():
    row = ResultRow.over_seeds("teacher", [60.0], metric="test errors", paper=None)
    assert (row.mean, row.sd, row.seeds) == (60.0, None, 1)


def test_a_record_cannot_be_changed(result):
    with pytest.raises(FrozenInstanceError):
        result.wall_seconds = 0.0


def test_a_result_comes_back_as_it_was_written(tmp_path, result):
    write_json(tmp_path / "mnist.json", result)
    assert ExperimentResult.read(tmp_path / "mnist.json") == result


def test_a_result_file_is_readable_for_people(tmp_path, result):
    write_json(tmp_path / "mnist.json", result)
    text = (tmp_path / "mnist.json").read_text(encoding="utf-8")
    assert '\n  "experiment": "mnist",\n' in text
    assert "student 2×800" in text
    assert text.endswith("}\n")
    assert json.loads(text) == json.loads(json.dumps(asdict(result)))


def test_the_same_result_gives_the_same_bytes(tmp_path, result):
    for name in ("one", "two"):
        write_json(tmp_path / name, result)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_numbers_that_json_lacks_are_refused_and_the_file_stays(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, {"nll": 0.5})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"nll": float("nan")})
    assert read_json(path) == {"nll": 0.5}


DAMAGED = {
    "empty": b"",
    "cut short": b'{"experiment": "mnist", "rows": [{"na',
    "zeros": bytes(100),
    "not UTF-8": b'{"experiment": "\xff\xfe"}',
    "a pickle": b"\x80\x04K\x01.",
    "a list": b"[1, 2]",
    "null": b"null",
    "too deep": b"[" * 100_000,
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_damaged_json_is_named_with_what_to_do(tmp_path, content):
    path = tmp_path / "mnist.json"
    path.write_bytes(content)
    for read in (read_json, ExperimentResult.read):
        with pytest.raises(FolderError, match=r"mnist\.json is damaged: .*; remove it") as caught:
            read(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("length", [1, 20, 300, 900])
def test_a_result_that_was_cut_short_is_damaged(tmp_path, result, length):
    path = tmp_path / "mnist.json"
    write_json(path, result)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(FolderError, match=r"mnist\.json is damaged"):
        ExperimentResult.read(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FolderError, match=r"cannot read .*gone\.json: No such file or directory"):
        read_json(tmp_path / "gone.json")


WRONG = {
    "no rows": {"rows": None},
    "rows that are empty": {"rows": []},
    "rows that are numbers": {"rows": [1, 2]},
    "a row without a mean": {"rows": [{"name": "teacher", "values": []}]},
    "a mean that is no number": {
        "rows": [{"name": "a", "metric": "b", "paper": 1, "mean": "c", "sd": 1, "seeds": 1}]
    },
    "an unknown key": {"verdict": "BETTER"},
    "no machine": {"machine": None},
    "another machine": {"machine": {"processor": "Z80"}},
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_json_that_is_no_result_is_named(tmp_path, result, change):
    path = tmp_path / "mnist.json"
    write_json(path, asdict(result) | change)
    with pytest.raises(FolderError, match=r"mnist\.json is not a result file of this release"):
        ExperimentResult.read(path)


@pytest.mark.parametrize("key", ["experiment", "rows", "config", "machine", "wall_seconds"])
def test_a_result_without_a_key_is_named(tmp_path, result, key):
    content = asdict(result)
    del content[key]
    write_json(tmp_path / "mnist.json", content)
    with pytest.raises(FolderError, match=rf"mnist\.json is not a result file .*{key}"):
        ExperimentResult.read(tmp_path / "mnist.json")


def test_a_result_without_details_is_read(tmp_path, result):
    content = asdict(result)
    del content["details"]
    write_json(tmp_path / "mnist.json", content)
    assert ExperimentResult.read(tmp_path / "mnist.json") == replace(result, details={})


def test_this_machine_is_described():
    machine = this_machine()
    assert machine.cores == os.cpu_count()
    assert machine.threads == torch.get_num_threads()
    assert machine.python == ".".join(str(part) for part in sys.version_info[:3])
    assert (machine.torch, machine.attar) == (torch.__version__, attar.__version__)
    assert machine.processor
    assert machine.memory_gib is None or machine.memory_gib > 0
    assert machine.commit is None or re.fullmatch(r"[0-9a-f]{12}(\+changes)?", machine.commit)


def test_a_system_without_sysconf_has_unknown_memory(monkeypatch):
    monkeypatch.delattr(os, "sysconf")
    assert this_machine().memory_gib is None


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A clone of a project with one source file, in which attar seems to lie."""
    source = tmp_path / "src" / "attar" / "records.py"
    source.parent.mkdir(parents=True)
    source.write_text("1\n")
    (tmp_path / "notes.md").write_text("1\n")
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "a"]):
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True)
    monkeypatch.setattr(records, "__file__", str(source))
    return tmp_path


def test_the_commit_of_a_clean_checkout_is_told(checkout):
    (checkout / "notes.md").write_text("2\n")  # is not code
    assert re.fullmatch("[0-9a-f]{12}", this_machine().commit)


@pytest.mark.parametrize("name", ["records.py", "new.py"])
def test_changed_and_new_source_files_are_told(checkout, name):
    (checkout / "src" / "attar" / name).write_text("2\n")
    assert re.fullmatch(r"[0-9a-f]{12}\+changes", this_machine().commit)


def test_without_a_checkout_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "__file__", str(tmp_path / "src" / "attar" / "records.py"))
    assert this_machine().commit is None


def test_without_git_there_is_no_commit(checkout, monkeypatch):
    monkeypatch.setenv("PATH", str(Path("/nowhere")))
    assert this_machine().commit is None
