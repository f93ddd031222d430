"""`attar explore`: what it reads, writes and serves, and what it says of a wrong folder."""

import re
import shutil
import subprocess
import threading
import urllib.error
import urllib.request
from http.server import ThreadingHTTPServer

import pytest

from attar import cli
from attar.errors import AttarError
from attar.explorer import open_server
from attar.recipes import mnist

CONFIG = mnist.Config(
    seeds=1,
    teacher_units=6,
    teacher_epochs=1,
    student_units=4,
    student_epochs=1,
    distilled_epochs=1,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, few_digits):
    """The folder of a finished run; tests copy it."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mnist, "load_mnist", lambda: few_digits)
        list(mnist.run(CONFIG, folder, command="attar reproduce mnist"))
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


@pytest.fixture
def command(monkeypatch, few_digits, capsys, shape_hints_off):
    """Run `attar explore` inside this process, on few digits."""
    monkeypatch.setattr(mnist, "load_mnist", lambda: few_digits)

    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            cli.main(["explore", *map(str, arguments)])
        out, err = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, caught.value.code or 0, out, err)

    return run


def assert_one_line(done, expected):
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf"attar: error: .*{expected}.*\n", done.stderr), done.stderr


def test_a_finished_run_becomes_a_page_beside_it(command, folder, folder_bytes):
    before = folder_bytes(folder)
    done = command(folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(
        rf"{re.escape(str(folder))}/explorer\.html: [\d.]+\s[kM]B; open it .*\n", done.stdout
    )
    page = (folder / "explorer.html").read_text("utf-8")
    assert "student 2×4: soft targets, T = 20" in page
    assert "attar reproduce mnist" in page
    after = folder_bytes(folder)
    assert {name: content for name, content in after.items() if name != "explorer.html"} == before
    assert command(folder, "--out", folder / "again.html").returncode == 0
    assert (folder / "again.html").read_text("utf-8") == page  # the same bytes


def test_a_wrong_folder_is_told_in_one_line(command, folder, tmp_path):
    assert_one_line(
        command(tmp_path / "none"),
        "is not a folder; pass a job file or the folder of a finished run",
    )
    assert_one_line(
        command(tmp_path),
        "has none of mnist.json, missing-digits.json, speech.json, job.json; run",
    )
    assert_one_line(command(folder, "--out", tmp_path / "no" / "page.html"), "cannot write")
    assert_one_line(command(folder, "--port", "70000"), "--port.*65535.*see `attar explore --help`")
    (folder / "soft-0.safetensors").unlink()
    assert_one_line(command(folder), "cannot read .*soft-0.safetensors")
    (folder / "mnist.json").unlink()
    assert_one_line(command(folder), "is not finished; run its command again to resume it")
    (folder / "mnist.json").write_text("{}")
    assert_one_line(command(folder), "mnist.json is not a result file")
    assert not (folder / "explorer.html").exists()


def test_help_teaches(command):
    done = command("--help")
    assert done.returncode == 0
    for expected in (
        "attar explore [OPTIONS] {JOB.TOML|FOLDER}",
        "runs no code",
        "--serve",
        "--out",
        "temperature slider",
    ):
        assert expected in done.stdout


def test_a_port_without_serving_is_refused(command, folder):
    for port in (0, 8000):
        assert_one_line(
            command(folder, "--port", port), f"--port {port} has no effect without --serve"
        )
    assert not (folder / "explorer.html").exists()


def test_serving_ends_with_an_interruption_and_writes_nothing(command, folder, monkeypatch):
    def interrupt(server):
        raise KeyboardInterrupt

    monkeypatch.setattr(ThreadingHTTPServer, "serve_forever", interrupt)
    done = command(folder, "--serve")
    assert done.returncode == 0
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/ until Ctrl-C\n", done.stdout)
    assert not (folder / "explorer.html").exists()


@pytest.fixture
def served():
    """The address of a page that is served."""
    with open_server("<p>ä") as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_the_page_is_served_to_this_machine_under_its_own_name_alone(served):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(served, timeout=60) as answer:
        assert answer.read().decode() == "<p>ä"
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    stranger = urllib.request.Request(served, headers={"Host": "example.com:80"})
    for wrong in (served + "etc/passwd", stranger):
        with pytest.raises(urllib.error.HTTPError, match="404") as caught:
            opener.open(wrong, timeout=60)
        caught.value.close()


def test_a_client_that_leaves_early_is_no_traceback(capsys):
    with open_server("<p>ä") as server:
        for error in (ConnectionResetError(), BrokenPipeError()):
            try:
                raise error
            except ConnectionError:
                server.handle_error(None, ("127.0.0.1", 1))
        assert capsys.readouterr() == ("", "")
        try:
            raise LookupError("a bug")
        except LookupError:
            server.handle_error(None, ("127.0.0.1", 1))
        assert "LookupError: a bug" in capsys.readouterr().err


def test_a_port_that_is_taken_is_told(served):
    port = int(served.rstrip("/").rpartition(":")[2])
    with pytest.raises(AttarError, match=f"cannot serve on port {port}: .*; try --port 0"):
        open_server("", port=port)
