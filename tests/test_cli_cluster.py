"""`--on ray` as it is typed: what is wrong is told before anything is started."""

import re
import subprocess
import sys

import pytest
from job_folder import JobFolder

from attar.cli import main


@pytest.fixture
def attar(capsys, shape_hints_off, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    JobFolder(tmp_path)

    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            main(list(arguments))
        printed = capsys.readouterr()
        return caught.value.code or 0, printed.out, printed.err

    return run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "--on", "spark"), "expected --on local or ray, got 'spark'"),
        (("label", "--workers", "3"), "--workers is only used by --on ray, .* add --on ray"),
        (("run", "--address", "auto"), "--address is only used by --on ray, .* add --on ray"),
        (("run", "--on", "ray", "--workers", "0"), "expected workers > 0 and finite, got 0"),
        (("plan", "--on", "spark"), "expected --on local or ray, got 'spark'"),
    ],
)
def test_options_that_do_not_fit_end_in_one_line(attar, tmp_path, arguments, message):
    command, *options = arguments
    code, out, err = attar(command, "job.toml", *options)
    assert (code, out) == (2, "")
    assert re.fullmatch(f"attar: error: {message}\n", err)
    assert not (tmp_path / "job").exists()


def test_without_ray_the_extra_is_named(tmp_path):
    JobFolder(tmp_path)
    (tmp_path / "ray.py").write_text("raise ImportError('gone', name='ray')", encoding="utf-8")
    code = "from attar.cli import main; main(['run', 'job.toml', '--on', 'ray'])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == (
        "attar: error: ray is not installed, which is needed to use a cluster; "
        "run `pip install 'attar[ray]'`\n"
    )


def test_a_plan_for_a_cluster_says_what_limits_it(attar, tmp_path):
    code, out, err = attar("plan", "job.toml", "--on", "ray", "--workers", "8")
    assert (code, err) == (0, "")
    assert "labeling on Ray, in 1 shards" in out
    assert "too few shards, 1 for 8 workers: use smaller shards" in out
    (tmp_path / "job.toml").write_text(
        (tmp_path / "job.toml").read_text() + '\n[cluster]\nengine = "ray"\nworkers = 2\n'
    )
    assert "too few shards, 1 for 2 workers: use smaller shards" in attar("plan", "job.toml")[1]


def test_an_address_at_which_nothing_answers_is_told(attar):
    pytest.importorskip("ray", reason="needs Ray: pip install 'attar[ray]'")
    code, _, err = attar("train", "job.toml", "--on", "ray", "--address", "127.0.0.1:1")
    assert code == 2
    assert re.match(
        r"attar: error: expected a Ray cluster at 127.0.0.1:1, got none: .*refused", err
    )
