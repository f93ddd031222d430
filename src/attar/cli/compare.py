"""`attar compare`: the last step of a job, or the networks of a finished run on other data."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from attar.cli.jobs import make_command
from attar.cli.terminal import showing
from attar.comparison import compare as compare_models
from attar.errors import AttarError, FolderError
from attar.files import make_folder
from attar.recipes.specialist_models import load_models


def compare(
    context: typer.Context,
    target: Annotated[
        Path, typer.Argument(help="A job file, or the folder of a run.", metavar="JOB.TOML|FOLDER")
    ],
    on: Annotated[
        Path | None,
        typer.Option(help="With a folder: a .npz file of glyphs of the run's classes."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="With a folder: the folder to write to.  [default: FOLDER/compare-<name of ON>]"
        ),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            help="With a folder: a difference of error rates that is too small to matter, as a "
            "fraction, such as 0.005. Models that differ by less can be EQUIVALENT.",
            show_default=False,
        ),
    ] = None,
    latency: Annotated[
        bool, typer.Option(help="With a folder: measure the networks' speed.")
    ] = True,
) -> None:
    """Compare teacher, baseline and students on the test set, or a run's networks on any glyphs.

    With a job file, this is the last step of the job; it is skipped if its inputs have not changed.
    With the folder of a finished `attar reproduce generalist` or `specialists`, it compares the
    networks of that run on the glyphs of --on. The generalist with all its specialists counts as
    one network.
    """
    if not target.is_dir():
        if on or out:
            raise AttarError(
                f"{target} is not a folder, and --on and --out need the folder of a run; "
                "for a job file, leave them out"
            )
        if margin is not None:
            raise AttarError(
                f"--margin needs the folder of a run; for a job, set margin in the table [compare] "
                f"of {target}"
            )
        make_command("compare")(target)
        return
    if on is None:
        raise FolderError(
            f"expected --on FILE.npz, the glyphs on which to compare the run in {target}"
        )
    models, examples = load_models(target, on)
    with showing() as show:
        found = compare_models(
            models, examples, teacher="generalist", margin=margin, latency=latency, progress=show
        )
    found = replace(found, command=context.obj)
    folder = make_folder(out or target / f"compare-{on.stem}")
    found.save(folder / "comparison.json")
    print(found)
    print(f"the record: {folder / 'comparison.json'}")
    found.save_report(folder / "report.html")
    print(f"the report: {folder / 'report.html'}")
