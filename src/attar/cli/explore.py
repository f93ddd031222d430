"""`attar explore`: a page for exploring the soft targets of a finished job or run."""

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

# The result file of a finished run, and the function that reads its folder.
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
        typer.Option(help="The HTML file to write.  [default: explorer.html in FOLDER]"),
    ] = None,
    serve: Annotated[
        bool,
        typer.Option("--serve", help="Serve the page on this machine only, until Ctrl-C."),
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port for --serve.  [default: a free port]"),
    ] = None,
) -> None:
    """Write a page that shows the soft targets of teacher and student at any temperature.

    The page is a single file that works offline. It has a temperature slider for the teacher's
    logits, the examples on which teacher and student disagree (images, features, windows of
    speech), the similarity of classes, and a board for drawing digits, which the networks classify.

    To explore a job, pass its job file. This runs the Python code that the job file names.
    Exploring a folder only reads data and runs no code.
    """
    if port is not None and not serve:
        raise AttarError(f"--port {port} has no effect without --serve; add --serve")
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
        FolderError: If the folder has no run, or one that is not finished or is damaged.
    """
    if not folder.is_dir():
        raise FolderError(
            f"{folder} is not a folder; pass a job file or the folder of a finished run"
        )
    for name, read in READERS.items():
        if (folder / name).exists():
            return read(folder)
    if (folder / "run.json").exists():
        raise FolderError(
            f"the run in {folder} is not finished; run its command again to resume it"
        )
    raise FolderError(
        f"{folder} is not the folder of a finished run: it has none of {', '.join(READERS)}; "
        "run `attar run JOB.TOML` or `attar reproduce mnist --quick` first"
    )
