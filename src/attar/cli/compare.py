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


def compare(
    context: typer.Context,
    target: Annotated[
        Path, typer.Argument(help="A job file, or the folder of a run.", metavar="JOB.TOML|FOLDER")
    ],
    on: Annotated[
        Path | None,
        typer.Option(help="With a folder: an .npz file of glyphs with the classes of the run."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="With a folder: the output folder.  [default: FOLDER/compare-<name of ON>]"
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="With a folder: the data folder of the run. Its class names are compared with "
            "those of --on.",
            show_default=False,
        ),
    ] = None,
    generalist: Annotated[
        Path | None,
        typer.Option(
            help="With a folder: the folder of the generalist from which the specialists start, if "
            "it belongs to another run.",
            show_default=False,
        ),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            help="With a folder: difference of error rates that is too small to matter, as a "
            "fraction, such as 0.005. Models that differ by less can be EQUIVALENT.",
            show_default=False,
        ),
    ] = None,
    latency: Annotated[
        bool | None,
        typer.Option(
            help="Measure the speed of the models.  [default: as in the job file's [compare], else "
            "yes]"
        ),
    ] = None,
) -> None:
    """Compare teacher, baseline and students on the test set, or a run's networks on any glyphs.

    With a job file, this runs the last step of the job; it is skipped if its inputs have not
    changed. A job file runs the Python code that it names; a folder runs no code. With the folder
    of a finished `attar reproduce generalist` or `specialists`, it compares the networks of that
    run on the glyphs of --on. The generalist with all its specialists counts as one network.
    """
    if not target.is_dir():
        if on or out or data or generalist:
            raise AttarError(
                f"{target} is not a folder; --on, --out, --data and --generalist need the folder "
                "of a run; leave them out for a job file"
            )
        if margin is not None:
            raise AttarError(
                f"--margin needs the folder of a run; for a job, set margin in the table [compare] "
                f"of {target}"
            )
        part: Part = "compare"
        run_parts(target, (part,), latency=latency)
        return
    if on is None:
        raise FolderError(
            f"{target} is a run folder, which needs --on FILE.npz: the glyphs to compare on"
        )
    if data is None:
        print("warning: without --data, only the number of classes is checked, not their names")
    models, examples = load_models(target, on, data=data, generalist=generalist)
    with showing() as show:
        found = compare_models(
            models,
            examples,
            teacher="generalist",
            margin=margin,
            latency=latency is not False,
            progress=show,
        )
    found = replace(found, command=context.obj)
    folder = make_folder(out or target / f"compare-{on.stem}")
    found.save(folder / "comparison.json")
    print(found)
    print(f"record: {folder / 'comparison.json'}")
    found.save_report(folder / "report.html")
    print(f"report: {folder / 'report.html'}")
