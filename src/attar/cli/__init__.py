"""The command line: `attar`. The one part that prints."""

import os
import shlex
import sys
import traceback
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer

from attar import __version__
from attar.cli.compare import compare
from attar.cli.data import data
from attar.cli.explore import explore
from attar.cli.export import export
from attar.cli.groups import list_whole_summaries, show_help
from attar.cli.jobs import add_commands
from attar.cli.reproduce import reproduce
from attar.cli.targets import targets
from attar.cli.transcribe import transcribe
from attar.errors import AttarError, MissingExtraError, file_error
from attar.objects import add_users_line, describe_error, users_line

WRONG_INPUT, INTERRUPTED = 2, 130  # exit codes
DEBUG, DEBUG_VARIABLE = "--debug", "ATTAR_DEBUG"

app = typer.Typer(
    name="attar",
    help="Distill large models and ensembles into small ones that are cheap to deploy.",
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
add_commands(app)
app.command("compare")(compare)
app.command("explore")(explore)
app.command("export")(export)
app.add_typer(data)
app.command("transcribe")(transcribe)
app.add_typer(reproduce)
app.add_typer(targets)


@app.callback(invoke_without_command=True)
def attar(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
    debug: Annotated[  # handled in `main`
        bool,
        typer.Option(DEBUG, help=f"Show the traceback of an error; same as {DEBUG_VARIABLE}=1."),
    ] = False,
) -> None:
    """Distill large models and ensembles into small ones that are cheap to deploy."""
    if version:
        typer.echo(f"attar {__version__}")
    else:
        show_help(context)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, and exit: 0 done, 2 wrong input, 130 interrupted.

    Errors that the user can fix, including errors in the user's code, end with one line on standard
    error. The option `--debug`, at any position, or the environment variable ATTAR_DEBUG=1 prints
    the traceback first.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without × shows a question mark
    try:
        given = list(sys.argv[1:] if arguments is None else arguments)
        words = [word for word in given if word != DEBUG]
        debug = len(words) < len(given) or os.environ.get(DEBUG_VARIABLE, "0") not in ("", "0")
        command = typer.main.get_command(app)
        list_whole_summaries(command)
        line = shlex.join(["attar", *words])
        code = command.main(args=words, prog_name="attar", standalone_mode=False, obj=line)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        message = _explain(error)
        if message is None:  # a bug in attar
            raise
        if debug:
            traceback.print_exception(error)
        code = _fail(message)
    if code == INTERRUPTED:  # typer also returns this code after Ctrl-C
        typer.echo("attar: interrupted; run the same command again to resume", err=True)
    sys.exit(code)


def _explain(error: Exception) -> str | None:
    """Describe an error and its line in the user's code; None for a bug in attar."""
    if isinstance(error, typer.TyperException):
        return _one_line(error)
    if isinstance(error, MissingExtraError):
        return str(error)  # caused by a missing package, not by the user's code
    if isinstance(error, AttarError):
        return add_users_line(str(error), error)
    if isinstance(error, OSError):
        told = str(file_error("use", Path(error.filename or "a file"), error))
        return add_users_line(told, error)
    if isinstance(error, MemoryError):
        return add_users_line(f"not enough memory: {error}".removesuffix(": "), error)
    return None if users_line(error) is None else describe_error(error)


def _one_line(error: typer.TyperException) -> str:
    """Describe an error of the command line and where to find its help."""
    message = getattr(error, "format_message", lambda: str(error))().rstrip(".")
    context = getattr(error, "ctx", None)
    return f"{message}; see `{context.command_path if context else 'attar'} --help`"


def _fail(message: str) -> int:
    typer.echo(f"attar: error: {' '.join(message.split())}", err=True)
    return WRONG_INPUT
