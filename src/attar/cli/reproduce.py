"""`attar reproduce EXPERIMENT`: its options are the fields of the experiment's configuration."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import typer

from attar.cli.events import HELP, event_log
from attar.cli.explore import READERS
from attar.cli.groups import make_group
from attar.cli.terminal import follow, show_result
from attar.event_files import TensorBoardLog
from attar.recipes import (
    ensemble,
    ensemble_pages,
    generalist,
    losses,
    missing_digits,
    missing_digits_pages,
    mnist,
    mnist_pages,
    regularizer,
    result_pages,
    specialists,
    speech,
    speech_pages,
    speech_regularizer,
    speech_results,
    temperature,
)
from attar.recipes.stages import Progress
from attar.records import ExperimentResult

# Experiments with a report of their own; all others use the common one.
REPORTS: dict[str, Callable[[Path, Path], None]] = {
    mnist.EXPERIMENT: mnist_pages.report,
    missing_digits.EXPERIMENT: missing_digits_pages.report,
    ensemble.EXPERIMENT: ensemble_pages.report,
    speech_results.EXPERIMENT: speech_pages.report,
}

reproduce = make_group(
    "reproduce",
    "Run an experiment of Hinton, Vinyals & Dean (2015) and compare its numbers with the paper's. "
    "An interrupted run resumes; a finished run shows its table.",
)


@runtime_checkable
class Recipe(Protocol):
    """The interface of a module of `attar.recipes` to the command line."""

    EXPERIMENT: str
    Config: type[Any]  # a frozen dataclass; each field's metadata has its help
    QUICK: Any  # a Config of minutes

    def run(self, config: Any, folder: Path, *, command: str) -> Iterator[Progress]:  # noqa: ANN401
        """Run the experiment in the folder; leave `<EXPERIMENT>.json` there."""


def make_command(recipe: Recipe) -> Callable[..., None]:
    """Make the command function of an experiment, for typer."""
    full, quick = recipe.Config(), recipe.QUICK

    def command(context: typer.Context, **options: Any) -> None:  # noqa: ANN401  (typer checked)
        is_quick, out, log = (options.pop(name) for name in ("quick", "out", "log"))
        given = {name: value for name, value in options.items() if value is not None}
        config = replace(quick if is_quick else full, **given)
        folder = out or Path("runs") / (recipe.EXPERIMENT + "-quick" * is_quick)
        with event_log(log, folder) as events:
            progress = recipe.run(config, folder, command=context.obj)
            follow(progress, log=partial(log_step, events) if events else None)
        path = folder / f"{recipe.EXPERIMENT}.json"
        show_result(ExperimentResult.read(path), path)
        write_report(recipe.EXPERIMENT, folder)

    differences = [
        f"{name.replace('_', ' ')} {value}"
        for name, value in asdict(quick).items()
        if value != getattr(full, name)
    ]
    options: dict[str, tuple[Any, object, str]] = {
        "quick": (bool, False, f"Minutes instead of the full run: {', '.join(differences)}."),
        "out": (Path | None, None, f"The run's folder.  [default: runs/{recipe.EXPERIMENT}]"),
        "log": (str | None, None, HELP),
    }
    for field in fields(recipe.Config):
        text = f"{field.metadata['help']}  [default: {getattr(full, field.name)}]"
        options[field.name] = (cast(Any, field.type) | None, None, text)
    kind_of_context = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter("context", kind_of_context, annotation=typer.Context)]
    parameters += [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=kind,
            default=typer.Option(default, f"--{name.replace('_', '-')}", help=text),
        )
        for name, (kind, default, text) in options.items()
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__doc__ = recipe.__doc__
    return command


def write_report(experiment: str, folder: Path) -> None:
    """Write the run's report, unless it exists and is not older than the result."""
    path, result = folder / "report.html", folder / f"{experiment}.json"
    if not path.exists() or path.stat().st_mtime < result.stat().st_mtime:
        print("writing the report", flush=True)
        write = REPORTS.get(experiment, partial(result_pages.report, experiment))
        write(folder, path)
    explorable = f"; explore the soft targets with `attar explore {folder}`"
    print(f"report: {path}" + explorable * (result.name in READERS))


def log_step(events: TensorBoardLog, progress: Progress) -> None:
    """Write a training step to event files, with one folder per network."""
    if progress.step is not None:
        events(progress.step, run=progress.stage)


for _recipe in (
    mnist, temperature, missing_digits, ensemble, generalist, specialists, regularizer, losses,
    speech, speech_regularizer,
):  # fmt: skip
    reproduce.command(_recipe.EXPERIMENT)(make_command(_recipe))
