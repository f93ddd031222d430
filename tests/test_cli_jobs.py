"""`attar init`, `plan`, `run` and single steps, as they are typed."""

import re
from pathlib import Path

import pytest
from job_folder import JobFolder

from attar import Comparison
from attar.cli import main
from attar.jobs import read_job


@pytest.fixture
def attar(capsys, shape_hints_off, tmp_path, monkeypatch):
    """Make a function that runs a command line in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            main(list(arguments))
        printed = capsys.readouterr()
        return caught.value.code or 0, printed.out, printed.err

    return run


def test_init_writes_a_job_that_is_right_and_no_file_twice(attar):
    code, out, err = attar("init")
    assert (code, err) == (0, "")
    assert "wrote job.toml and networks.py" in out
    job = read_job("job.toml")
    assert (job.folder, job.settings.student.source) == (Path("job"), "networks.py:make_student")
    written = Path("job.toml").read_bytes()
    code, out, err = attar("init")
    assert (code, out) == (2, "")
    assert err == "attar: error: job.toml exists already; pass another path or remove it\n"
    assert Path("job.toml").read_bytes() == written


def test_what_init_has_in_comments_is_right_as_well(attar):
    attar("init", "runs/first.toml")
    text = Path("runs/first.toml").read_text(encoding="utf-8")
    text, count = re.subn(r"^\[teacher\.train\](.|\n)*?(?=^\[)", "", text, flags=re.MULTILINE)
    assert count == 1  # it would contradict the weights
    text, count = re.subn(r'^encoding = "dense".*\n', "", text, flags=re.MULTILINE)
    assert count == 1
    shown = re.sub(r"^# (?=\w+ = )", "", text, flags=re.MULTILINE)
    Path("job.toml").write_text(shown.replace("k = 32", 'encoding = "sparse"\nk = 32'), "utf-8")
    settings = read_job("job.toml").settings
    assert (settings.soft_targets.k, settings.transfer_set.jitter) == (32, 2)
    assert settings.teacher[0].weights == "teacher.safetensors"


def test_init_leaves_networks_that_are_there_alone(attar):
    Path("networks.py").write_text("mine", encoding="utf-8")
    assert attar("init")[1].startswith("wrote job.toml; next: attar plan job.toml")
    assert Path("networks.py").read_text(encoding="utf-8") == "mine"
    assert "expected the path of a .toml file" in attar("init", "jobs")[2]


def test_a_job_is_planned_and_run(attar, tmp_path):
    pytest.importorskip("tensorboard")
    JobFolder(tmp_path)
    code, out, err = attar("plan", "job.toml")
    assert (code, err) == (0, "")
    for text in ("40 examples of 3 classes", "dense (chosen)", "240 B", "6 updates", "peak memory"):
        assert text in out
    assert not Path("job").exists()
    code, out, err = attar("run", "job.toml", "--log", "tensorboard")
    assert (code, err) == (0, "")
    logged = {path.parent.name for path in Path("job/tensorboard").rglob("events.*")}
    assert logged == {"train teacher-0", "distill seed-0", "baseline seed-0"}
    assert re.search(r"label · 0 of 40 rows", out)
    assert re.search(r"distill seed-0 · epoch 1/2", out)
    assert out.endswith("results are in job\n")
    out = attar("train", "job.toml")[1]
    assert out == "train teacher-0: nothing has changed, skipped\nresults are in job\n"


def test_a_wrong_teacher_is_a_line_of_plan_and_of_run(attar, tmp_path):
    JobFolder(tmp_path).spoil_teacher()
    warning = "warning: the teacher is right on 33.3 % of 120 labeled examples, not significantly"
    quality = "teacher: right on 33.3 % of 120 labeled examples (most frequent class 33.3 %), NLL 1"
    for command in ("plan", "label"):
        code, out, err = attar(command, "job.toml")
        assert (code, err) == (0, "")
        assert out.count(f"\n{warning}") == 1
        assert f"\n{quality}" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "gone.toml"), r"cannot read gone.toml: No such .*`attar init` writes one"),
        (("plan", "job.toml"), r"job.toml, line 19, distill.temperature: expected a number above"),
        (("run",), r"[Mm]issing .*JOB.*; see `attar run --help`"),
    ],
)
def test_what_is_wrong_ends_in_one_line(attar, tmp_path, arguments, message):
    JobFolder(tmp_path).edit("4.0", "0")
    code, out, err = attar(*arguments)
    assert (code, out) == (2, "")
    assert re.fullmatch(f"attar: error: .*{message}.*\n", err)


def test_compare_says_where_a_job_has_its_margin(attar, tmp_path):
    JobFolder(tmp_path)
    code, out, err = attar("compare", "job.toml", "--margin", "0.01")
    assert (code, out) == (2, "")
    assert "set margin in the table [compare] of job.toml" in err
    assert not Path("job").exists()


def test_another_log_is_refused_before_anything_is_done(attar, tmp_path):
    JobFolder(tmp_path)
    code, out, err = attar("run", "job.toml", "--log", "wandb")
    assert (code, out) == (2, "")
    assert err == "attar: error: expected --log tensorboard, got --log wandb\n"
    assert not Path("job").exists()


def test_compare_takes_no_latency_with_a_job_file(attar, tmp_path):
    JobFolder(tmp_path).edit("latency = false\n", "report = false\n")
    for part in ("train", "label", "distill"):
        assert attar(part, "job.toml")[0] == 0
    code, out, err = attar("compare", "job.toml", "--no-latency")
    assert (code, err) == (0, "")
    assert "examples/s, 1 thread" not in out
    found = Comparison.read(Path("job/compare/comparison.json"))
    assert not any(model.speeds for model in found.models)
    out = attar("compare", "job.toml", "--no-latency")[1]
    assert out.startswith("compare: nothing has changed, skipped")
    JobFolder(tmp_path, new=False).edit("report = false\n", "report = false\nlatency = false\n")
    out = attar("compare", "job.toml")[1]
    assert out.startswith("compare: nothing has changed, skipped")
    out = attar("compare", "job.toml", "--latency")[1]
    assert out.startswith("compare again: latency false -> true")


def test_an_option_that_a_step_cannot_use_is_refused(attar, tmp_path):
    JobFolder(tmp_path)
    code, out, err = attar("label", "job.toml", "--log", "tensorboard")
    assert (code, out) == (2, "")
    assert (
        err == "attar: error: --log has no effect with label, which trains nothing; leave it out\n"
    )
    for option in ("--on", "--out"):
        code, out, err = attar("compare", "job.toml", option, "x")
        assert (code, out) == (2, "")
        assert "need the folder of a run" in err
    assert not Path("job").exists()


@pytest.mark.parametrize(
    ("command", "text"),
    [
        *(
            (name, "runs the Python code")
            for name in ("run", "plan", "train", "compare", "explore")
        ),
        ("init", "runs unchanged"),
        ("plan", "writes nothing"),
        ("run", "train the teachers, label, distill, compare"),
        ("train", "[teacher.train]"),
        ("label", "store its soft targets"),
        ("distill", "needs no teacher"),
        ("compare", "on the test set"),
    ],
)
def test_help_teaches(attar, command, text):
    code, out, _ = attar(command, "--help")
    assert code == 0
    assert text in " ".join(out.split())
