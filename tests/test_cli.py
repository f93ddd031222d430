import errno
import importlib
import io
import math
import os
import re
import shutil
import subprocess
import sys
from dataclasses import asdict
from importlib.resources import files

import pytest

import attar
from attar import cli
from attar.cli import terminal
from attar.data import load_mnist
from attar.recipes import mnist, mnist_pages
from attar.recipes.stages import Progress
from attar.records import ExperimentResult

TINY = [
    *("--seeds", "1", "--teacher-units", "6", "--teacher-epochs", "1", "--student-units", "4"),
    *("--student-epochs", "1", "--distilled-epochs", "1"),
]
CONFIG = mnist.Config(
    seeds=1,
    teacher_units=6,
    teacher_epochs=1,
    student_units=4,
    student_epochs=1,
    distilled_epochs=1,
)  # the same

REPRODUCE = importlib.import_module("attar.cli.reproduce")  # attar.cli has its app by this name


@pytest.fixture
def command(monkeypatch, few_digits, capsys, shape_hints_off):
    """Run a command line inside this process, on few digits.

    Without type hints: typer gives commands a context that is not quite what it calls one.
    """
    monkeypatch.setattr(mnist, "load_mnist", lambda: few_digits)

    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            cli.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, caught.value.code or 0, out, err)

    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory, few_digits):
    """The folder of a finished run with its report; tests copy it."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mnist, "load_mnist", lambda: few_digits)
        list(mnist.run(CONFIG, folder, command="attar reproduce mnist"))
        mnist_pages.report(folder, folder / "report.html")
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def assert_one_line(done, expected, *, code=2):
    """An error is one line on standard error that says what is wrong, and nothing else."""
    assert done.returncode == code
    assert done.stdout == ""
    assert re.fullmatch(rf"attar: error: .*{expected}.*\n", done.stderr), done.stderr


HELP = {
    (): ["attar [OPTIONS] COMMAND", "reproduce", "--version"],
    ("reproduce",): ["attar reproduce", "Hinton, Vinyals & Dean (2015)", "mnist", "resumes"],
    ("reproduce", "mnist"): ["--quick", "--out", "runs/mnist", "--seeds", "--temperature", "20.0"],
}


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("path", HELP)
def test_help_teaches_everywhere(command, path, flag):
    done = command(*path, flag)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: {' '.join(['attar', *path])} ")
    assert [text for text in HELP[path] if text not in done.stdout] == []


def test_every_option_of_the_experiment_is_told_with_its_default(command):
    words = " ".join(command("reproduce", "mnist", "--help").stdout.split())
    defaults = asdict(mnist.Config())
    for name, default in defaults.items():
        assert re.search(rf"--{name.replace('_', '-')} <\w+> [^[]+\[default: {default}\]", words)
    assert words.count("[default: ") == len(defaults) + 1  # and --out


@pytest.mark.parametrize("path", [(), ("reproduce",), ("data",), ("targets",)])
def test_without_a_command_the_help_is_shown_and_no_summary_is_cut_off(command, path):
    done = command(*path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == command(*path, "--help").stdout
    assert "..." not in done.stdout.partition("Commands:")[2]


def test_the_version_is_told(command):
    done = command("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"attar {attar.__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["destill"], r"'destill'.*see `attar --help`"),
        (["--loud"], r"--loud.*see `attar --help`"),
        (["reproduce", "imagenet"], r"'imagenet'.*see `attar reproduce --help`"),
        (["reproduce", "mnist", "--sneeds", "1"], r"--sneeds.*see `attar reproduce mnist --help`"),
        (["reproduce", "mnist", "--seeds", "x"], r"--seeds.*integer.*see `attar reproduce mnist"),
        (["reproduce", "mnist", "--seeds", "1.5"], r"--seeds.*integer"),
        (["reproduce", "mnist", "--seeds"], r"--seeds"),
        (["reproduce", "mnist", "--temperature", "warm"], r"--temperature.*number"),
        (["reproduce", "mnist", "now"], r"now"),
        (["reproduce", "mnist", "--seeds", "0"], r"expected seeds > 0.*got 0"),
        (["reproduce", "mnist", "--seeds", "-1"], r"expected seeds > 0.*got -1"),
        (["reproduce", "mnist", "--temperature", "0"], r"expected temperature > 0.*got 0"),
        (["reproduce", "mnist", "--temperature", "nan"], r"expected temperature > 0.*got nan"),
        (["reproduce", "mnist", "--teacher-units", "0"], r"at least 1.*0"),
        (["reproduce", "mnist", "--teacher-hidden-dropout", "2"], r"dropout.*got 2"),
        (["reproduce", "mnist", "--student-batch-size", "0"], r"batch_size > 0.*got 0"),
        (["reproduce", "mnist", "--held-out", "300"], r"held_out.*300"),
    ],
)
def test_wrong_input_is_one_line_and_writes_nothing(
    command, tmp_path, monkeypatch, arguments, expected
):
    monkeypatch.chdir(tmp_path)
    assert_one_line(command(*arguments), expected)
    assert list(tmp_path.iterdir()) == []


def test_a_run_ends_with_its_table(command, tmp_path):
    done = command("reproduce", "mnist", *TINY, "--out", tmp_path / "run")
    assert (done.returncode, done.stderr) == (0, "")
    result = ExperimentResult.read(tmp_path / "run" / "mnist.json")
    for row in result.rows:
        line = next(line for line in done.stdout.splitlines() if row.name in line)
        paper = "" if row.paper is None else rf".*\b{row.paper:g}\b"
        assert re.search(rf"\b{row.parameters:,}\b{paper}.*\b{row.mean:g}\b", line)
    assert str(tmp_path / "run" / "mnist.json") in done.stdout
    assert str(tmp_path / "run" / "report.html") in done.stdout
    report = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert [row.name for row in result.rows if row.name not in report] == []
    assert "attar reproduce mnist --seeds 1" in report


def test_the_result_tells_the_command_that_made_it(command, tmp_path):
    out = tmp_path / "a run"
    command("reproduce", "mnist", *TINY, "--out", out)
    expected = " ".join(["attar reproduce mnist", *TINY, "--out", f"'{out}'"])
    assert ExperimentResult.read(out / "mnist.json").command == expected


def test_a_finished_run_shows_its_table_and_changes_nothing(command, folder, folder_bytes):
    before = folder_bytes(folder)
    done = command("reproduce", "mnist", *TINY, "--out", folder)
    assert done.returncode == 0
    assert "epoch" not in done.stdout
    assert "teacher 2×6" in done.stdout
    assert folder_bytes(folder) == before


def test_output_to_a_pipe_is_plain_lines(command, tmp_path):
    done = command("reproduce", "mnist", *TINY, "--out", tmp_path / "run")
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stdout + done.stderr
    started = [line for line in done.stdout.splitlines() if " · epoch 1/1" in line]
    networks = {line.partition("%  ")[2].partition(" · ")[0] for line in started}
    assert len(networks) == 4  # a line for every network, and one at the end
    assert all(re.match(r" *\d+%  (teacher|student)[ ,]", line) for line in started)
    table = [line for line in done.stdout.splitlines() if line[:1] in ("┏", "┃", "┡", "│", "└")]
    assert max(map(len, table)) <= 100


def test_a_terminal_without_our_characters_gets_others(command, folder, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    done = command("reproduce", "mnist", *TINY, "--out", folder)
    assert (done.returncode, done.stderr) == (0, "")
    stream.flush()
    assert b"teacher 2?6" in stream.buffer.getvalue()


def test_the_default_folder_lies_below_runs(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command("reproduce", "mnist", *TINY)
    assert (tmp_path / "runs" / "mnist" / "mnist.json").exists()


def test_quick_means_the_quick_settings_in_a_folder_of_their_own(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command("reproduce", "mnist", "--quick", *TINY[2:])
    result = ExperimentResult.read(tmp_path / "runs" / "mnist-quick" / "mnist.json")
    assert result.config["seeds"] == mnist.QUICK.seeds
    assert result.config["teacher_epochs"] == 1  # what is given explicitly counts


@pytest.mark.parametrize("below", ["", "run", "run/deeper"])
def test_a_folder_below_a_file_cannot_be_made(command, tmp_path, below):
    (tmp_path / "file").write_text("content")
    out = tmp_path / "file" / below
    assert_one_line(command("reproduce", "mnist", "--out", out), "cannot make the folder .*file")
    assert (tmp_path / "file").read_text() == "content"


def test_a_folder_of_other_files_is_refused(command, tmp_path):
    (tmp_path / "thesis.txt").write_text("Years of work")
    done = command("reproduce", "mnist", "--out", tmp_path)
    assert_one_line(done, r"contains other files \(thesis\.txt, \.\.\.\); choose another folder")


def test_results_of_another_run_are_refused(command, folder, folder_bytes):
    before = folder_bytes(folder)
    done = command("reproduce", "mnist", *TINY, "--temperature", 5, "--out", folder)
    assert_one_line(
        done, r"contains a run with --temperature 20\.0, not 5\.0; choose another folder"
    )
    assert folder_bytes(folder) == before


@pytest.mark.parametrize("content", [b"", b'{"experiment": "mn', b"[]", b"\xff\xfe", b"{}"])
def test_a_damaged_result_is_named(command, folder, content):
    (folder / "mnist.json").write_bytes(content)
    done = command("reproduce", "mnist", *TINY, "--out", folder)
    assert_one_line(done, r"mnist\.json is (damaged|not a result file)")


@pytest.mark.parametrize(
    "name", ["run.json", "teacher-0.json", "teacher-0.safetensors", "teacher-0.logits.safetensors"]
)
def test_every_damaged_file_of_a_run_is_named(command, folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    done = command("reproduce", "mnist", *TINY, "--seeds", 2, "--out", folder)
    assert_one_line(done, re.escape(name))


def test_corrupted_data_in_the_package_is_named(command, tmp_path, monkeypatch):
    damaged = shutil.copytree(files("attar.data") / "files" / "mnist", tmp_path / "mnist")
    path = damaged / "t10k-labels-idx1-ubyte.gz"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    (tmp_path / "attar" / "files").mkdir(parents=True)
    damaged.rename(tmp_path / "attar" / "files" / "mnist")
    monkeypatch.setattr("attar.data.mnist.files", lambda package: tmp_path / "attar")
    monkeypatch.setattr(mnist, "load_mnist", load_mnist)
    done = command("reproduce", "mnist", *TINY, "--out", tmp_path / "run")
    assert_one_line(done, r"t10k-labels.* is damaged: expected SHA-256 .*; reinstall attar")


@pytest.mark.parametrize("largest_bytes", [0, 500, 3000, 20_000])
def test_a_full_disk_is_one_line_and_leaves_earlier_results(
    command, folder, folder_bytes, full_disk, largest_bytes
):
    results = ["mnist.json", *(path.name for path in folder.glob("*-0.*"))]
    before = folder_bytes(folder)
    with full_disk(largest_bytes):
        done = command("reproduce", "mnist", *TINY, "--seeds", 2, "--out", folder)
    assert done.returncode == 2
    assert re.fullmatch(r"attar: error: cannot write .*: .*File too large.*\n", done.stderr)
    after = folder_bytes(folder)
    assert {name: after[name] for name in results} == {name: before[name] for name in results}
    assert not list(folder.glob(".*.partial"))
    again = command("reproduce", "mnist", *TINY, "--seeds", 2, "--out", folder)
    assert again.returncode == 0


def test_a_finished_run_is_shown_even_if_the_disk_is_full(command, folder, full_disk):
    with full_disk(0):
        done = command("reproduce", "mnist", *TINY, "--out", folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "teacher 2×6" in done.stdout


def test_a_diverging_run_is_one_line(command, tmp_path):
    options = [*TINY, "--teacher-learning-rate", "1e30", "--teacher-epochs", 3]
    done = command("reproduce", "mnist", *options, "--out", tmp_path / "run")
    assert done.returncode == 2
    assert re.fullmatch(r"attar: error: .*step \d+: the .* at learning rate .*\n", done.stderr)


def test_an_interrupted_run_says_that_it_goes_on(command, tmp_path, monkeypatch):
    def interrupt(progress, *, log):
        next(progress)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(REPRODUCE, "follow", interrupt)
        done = command("reproduce", "mnist", *TINY, "--out", tmp_path / "run")
    assert done.returncode == 130
    assert done.stderr == "attar: interrupted; run the same command again to resume\n"
    assert command("reproduce", "mnist", *TINY, "--out", tmp_path / "run").returncode == 0


def test_an_error_of_the_system_is_one_line(command, tmp_path, monkeypatch):
    def fail(progress, *, log):
        raise OSError(errno.EIO, "Input/output error", "/dev/tape")

    monkeypatch.setattr(REPRODUCE, "follow", fail)
    done = command("reproduce", "mnist", "--out", tmp_path / "run")
    assert_one_line(done, "cannot use /dev/tape: Input/output error")


def test_a_mistake_of_ours_is_not_hidden(command, tmp_path, monkeypatch):
    monkeypatch.setattr(REPRODUCE, "follow", math.sqrt)  # raises in a line of attar
    with pytest.raises(TypeError, match="sqrt"):
        cli.main(["reproduce", "mnist", "--out", str(tmp_path / "run")])


def test_event_files_are_written_where_they_are_asked_for(command, tmp_path):
    pytest.importorskip("tensorboard")
    folder = tmp_path / "run"
    done = command("reproduce", "mnist", *TINY, "--out", folder, "--log", "tensorboard")
    assert (done.returncode, done.stderr) == (0, "")
    written = {path.parent.name for path in (folder / "tensorboard").rglob("events.*")}
    assert written == {"teacher-0", "hard-0", "soft-0", "both-0"}


def test_another_log_is_refused(command, tmp_path):
    done = command("reproduce", "mnist", "--out", tmp_path / "run", "--log", "wandb")
    assert_one_line(done, "expected --log tensorboard, got --log wandb")
    assert not (tmp_path / "run").exists()


def test_progress_is_one_line():
    now = Progress(
        title="teacher",
        epoch=2,
        epochs=9,
        fraction=0.25,
        errors=71,
        examples_per_second=12345.6,
        seconds_left=754.0,
    )
    assert str(now) == "teacher · epoch 2/9 · 71 errors · 12,346 examples/s"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (3599.6, "1 h 0 min"),
        (7300.0, "2 h 1 min"),
        (90_000.0, "25 h 0 min"),
    ],
)
def test_durations_are_rounded_for_people(seconds, expected):
    assert terminal.duration(seconds) == expected


# In processes of their own


ON_FULL_DISK = """
import resource, runpy
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
runpy.run_module("attar", run_name="__main__")
"""


def start(*arguments, program=None, **options):
    how = ["-m", "attar"] if program is None else ["-c", program]
    return subprocess.run(
        [sys.executable, *how, *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=300,
        check=False,
        **options,
    )


def test_a_process_is_told_what_is_wrong_without_a_traceback(tmp_path):
    done = start("reproduce", "mnist", "--seeds", "x", cwd=tmp_path)
    assert_one_line(done, "--seeds")


@pytest.mark.slow
def test_a_process_shows_results_in_plain_lines_and_keeps_them_on_a_full_disk(folder, folder_bytes):
    pytest.importorskip("resource", reason="needs setrlimit")
    before = folder_bytes(folder)
    shown = start("reproduce", "mnist", *TINY, "--out", folder)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "teacher 2×6" in shown.stdout
    assert "\x1b" not in shown.stdout
    assert folder_bytes(folder) == before

    full = start("reproduce", "mnist", *TINY, "--seeds", 2, "--out", folder, program=ON_FULL_DISK)
    assert_one_line(full, "cannot write .*: File too large")
    assert folder_bytes(folder) == before
