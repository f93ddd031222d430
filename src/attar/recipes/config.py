"""The fields of a recipe's configuration, from which the command line is made."""

from dataclasses import field
from typing import TypeVar

from attar.errors import AttarError, check_positive

T = TypeVar("T")


def option(default: T, text: str) -> T:
    """Declare a field: its default, and the help text of its command-line option."""
    return field(default=default, metadata={"help": text})


def parse_numbers(name: str, text: str) -> tuple[float, ...]:
    """Read a list of numbers above zero, with commas between them."""
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise AttarError(f"expected {name} as numbers, such as 1,2.5,4; got {text!r}") from error
    for number in numbers:
        check_positive(**{name: number})
    return numbers
