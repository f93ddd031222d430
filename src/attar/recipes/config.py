"""The fields of a recipe's configuration, from which the command line is made."""

from dataclasses import field
from typing import TypeVar

T = TypeVar("T")


def option(default: T, text: str) -> T:
    """Declare a field: its default, and the help text of its command-line option."""
    return field(default=default, metadata={"help": text})
