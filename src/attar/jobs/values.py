"""Types of values in a job file, with their ranges."""

from typing import Annotated, Literal, TypeVar

from pydantic import BeforeValidator, Field, PlainValidator

T = TypeVar("T")
AUTO: Literal["auto"] = "auto"
MOST = 10**12  # upper limit of counts
MOST_CLASSES = 10**7  # each name is in memory
LARGEST = 1e15  # its square and its products with losses fit into float32


def _to_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _one_or_more(value: object) -> object:
    return (value,) if isinstance(value, str | dict) else _to_tuple(value)


def _to_temperature(value: object) -> float | Literal["auto"]:
    if value == AUTO:
        return AUTO
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value <= LARGEST:  # type: ignore[operator]
        told = f'"{value}"' if isinstance(value, str) else str(value).lower()
        limit = f"up to {LARGEST:g}" if is_number and value > LARGEST else "above 0"  # type: ignore[operator]
        raise ValueError(
            f'expected a number {limit}, or "auto", got {told[:80]}; try temperature = 4.0'
        )
    return float(value)  # type: ignore[arg-type]


Several = Annotated[tuple[T, ...], Field(min_length=1), BeforeValidator(_to_tuple)]
OneOrMore = Annotated[tuple[T, ...], Field(min_length=1), BeforeValidator(_one_or_more)]
Count = Annotated[int, Field(ge=1, le=MOST)]
Classes = Annotated[int, Field(ge=1, le=MOST_CLASSES)]
Token = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Positive = Annotated[float, Field(gt=0, le=LARGEST)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Temperature = Annotated[float | Literal["auto"], PlainValidator(_to_temperature)]
NotNegative = Annotated[float, Field(ge=0, le=LARGEST)]
Size = Annotated[tuple[Count, Count], BeforeValidator(_to_tuple)]
