"""`attar explore FOLDER`: the page for looking at what a finished run's teacher knows."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from attar.errors import AttarError, FolderError
from attar.explorer import LOOPBACK, Exploration, make_explorer, open_server
from attar.files import write_atomically, write_size
from attar.jobs import read_job
from attar.jobs.exploring import explore_job, refuse_folder
from attar.jobs.running import OWNER
from attar.recipes import (
    missing_digits,
    missing_digits_pages,
    mnist,
    mnist_pages,
    speech_pages,
    speech_results,
)

# The file that a finished run leaves, and what reads its folder.
READERS: dict[str, Callable[[Path], Exploration]] = {
    f"{mnist.EXPERIMENT}.json": mnist_pages.explore,
    f"{missing_digits.EXPERIMENT}.json": missing_digits_pages.explore,
    f"{speech_results.EXPERIMENT}.json": speech_pages.explore,
    OWNER: refuse_folder,
}


def explore(
    folder: Annotated[
        Path,
        typer.Argument(
            help="A job file, or the folder of a finished `attar reproduce` (mnist, "
            "missing-digits, speech).",
            metavar="JOB.TOML|FOLDER",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="The page to write.  [default: explorer.html in FOLDER]"),
    ] = None,
    serve: Annotated[
        bool,
        typer.Option("--serve", help="Serve it to this machine alone, until Ctrl-C."),
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="For --serve.  [default: one that is free]"),
    ] = None,
) -> None:
    """Make a page for looking at dark knowledge: teacher and student at any temperature.

    One file that needs no network: a temperature slider over the teacher's real logits, the
    examples on which teacher and student disagree (images, features, windows of speech), which
    classes resemble each other, and a board to draw on, which the networks answer in the page.

    To explore a job, give its job file, which runs the Python code that it names. Exploring a
    folder reads data and runs no code.
    """
    if port is not None and not serve:
        raise AttarError(f"expected --serve beside --port {port}, got --port alone")
    job = read_job(folder) if folder.suffix == ".toml" else None
    page = make_explorer(explore_job(job) if job else read_folder(folder))
    folder = job.folder if job else folder
    if out or not serve:
        path = out or folder / "explorer.html"
        write_atomically(path, page.encode())
        print(f"{path}: {write_size(len(page.encode()))}; open it in a browser")
    if serve:
        with open_server(page, port=port or 0) as server, suppress(KeyboardInterrupt):
            print(f"http://{LOOPBACK}:{server.server_port}/ until Ctrl-C", flush=True)
            server.serve_forever()


def read_folder(folder: Path) -> Exploration:
    """Read a finished run.

    Raises:
        FolderError: If the folder holds none, or one that is not finished or damaged.
    """
    if not folder.is_dir():
        raise FolderError(f"expected the folder of a finished run, {folder} is none")
    for name, read in READERS.items():
        if (folder / name).exists():
            return read(folder)
    if (folder / "run.json").exists():
        raise FolderError(f"the run in {folder} is not finished; give its command again")
    raise FolderError(
        f"expected a finished run, {folder} has none of {', '.join(READERS)}; "
        "try `attar run JOB.TOML` or `attar reproduce mnist --quick` first"
    )
