"""`attar compare`: the last step of a job, or the networks of a finished run on other data."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from attar.cli.jobs import run_parts
from attar.cli.terminal import showing
from attar.comparison import compare as compare_models
from attar.errors import AttarError, FolderError
from attar.files import make_folder
from attar.jobs import Part
from attar.recipes.specialist_models import load_models

_REPORTED = 100  # classes; a report of more has tables that nobody can read


def compare(
    context: typer.Context,
    target: Annotated[
        Path, typer.Argument(help="A job file, or a run's folder.", metavar="JOB.TOML|FOLDER")
    ],
    on: Annotated[
        Path | None,
        typer.Option(help="For a folder: a .npz file of glyphs of the run's classes."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="For a folder: where to write.  [default: FOLDER/compare-<name of ON>]"),
    ] = None,
    latency: Annotated[
        bool | None,
        typer.Option(
            help="Whether to measure the speed of the models.  [default: as [compare] of the job "
            "file says, else yes]"
        ),
    ] = None,
) -> None:
    """Compare teacher, baseline and students on the test set; or a run's networks on any glyphs.

    With a job file, it is the last step of the job: skipped if its inputs have not changed. A job
    file runs the Python code that it names; a folder runs none. With
    the folder of a finished `attar reproduce generalist` or `specialists`, it compares the networks
    there, the generalist with all its specialists being one, on the glyphs of --on.
    """
    if not target.is_dir():
        if on or out:
            raise AttarError(f"expected --on and --out with a run's folder alone, {target} is none")
        part: Part = "compare"
        run_parts(target, (part,), latency=latency)
        return
    if on is None:
        raise FolderError(f"expected --on FILE.npz, the glyphs to compare the run in {target} on")
    models, examples = load_models(target, on)
    with showing() as show:
        found = compare_models(
            models, examples, teacher="generalist", latency=latency is not False, progress=show
        )
    found = replace(found, command=context.obj)
    folder = make_folder(out or target / f"compare-{on.stem}")
    found.save(folder / "comparison.json")
    print(found)
    print(f"{folder / 'comparison.json'} has all of it")
    if examples.classes <= _REPORTED:
        found.save_report(folder / "report.html")
        print(f"the report: {folder / 'report.html'}")
