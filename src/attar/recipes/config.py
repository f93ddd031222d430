"""The fields of a recipe's configuration, from which the command line is made."""

from dataclasses import field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from attar.data import mix_seed
from attar.errors import AttarError, FolderError, check_positive

T = TypeVar("T")

_CHOICE = 2  # a stream of seeds; 0 and 1 are those of teachers' and students' first weights


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


def parse_whole_numbers(name: str, text: str) -> tuple[int, ...]:
    """Read a list of whole numbers above zero, with commas between them."""
    numbers = parse_numbers(name, text)
    if any(number % 1 for number in numbers):
        raise AttarError(f"expected whole numbers of {name}, got {text}")
    return tuple(int(number) for number in numbers)


def choice_seed(number: int) -> int:
    """Return the seed of networks that settings are chosen by: one that no final run has.

    Final runs have the seeds 0, 1, 2 and so on. A network that helped to choose a setting must not
    have the first weights and the order of batches of one that the setting is judged by.

    Args:
        number: Of the network, from 0.
    """
    return mix_seed(number, _CHOICE)


def restore_config(kind: type[T], values: Any, path: Path) -> T:  # noqa: ANN401 (what JSON holds)
    """Make a configuration again from what a run wrote of it in the file at `path`.

    Raises:
        FolderError: If a field is missing or wrong, as one of another release may be.
    """
    assert is_dataclass(kind)
    names = [each.name for each in fields(kind)]
    try:
        return kind(**{name: values[name] for name in names})
    except (KeyError, TypeError, AttarError) as error:
        found = f"{path} has settings of another release ({error})"
        raise FolderError(f"{found}; run the experiment again") from error
