"""Groups of commands, such as `attar data`."""

import typer


def make_group(name: str, purpose: str) -> typer.Typer:
    """Make a group that shows its help if no command is given."""
    group = typer.Typer(name=name, help=purpose, rich_markup_mode=None)
    group.callback(invoke_without_command=True)(show_help)
    return group


def show_help(context: typer.Context) -> None:
    """Show the help, unless a command was given."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def list_whole_summaries(command: object) -> None:
    """Show the whole first paragraph of each command in lists, which typer truncates.

    Takes what `typer.main.get_command` returns, and changes it and all commands below it.
    """
    for listed in getattr(command, "commands", {}).values():
        listed.short_help = (listed.help or "").split("\n\n")[0]
        list_whole_summaries(listed)
