"""What all tables of a job file share: how strict they are, and the kinds of their values."""

from typing import Annotated, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

T = TypeVar("T")


def _to_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _one_or_more(value: object) -> object:
    return (value,) if isinstance(value, str | dict) else _to_tuple(value)


Several = Annotated[tuple[T, ...], Field(min_length=1), BeforeValidator(_to_tuple)]
OneOrMore = Annotated[tuple[T, ...], Field(min_length=1), BeforeValidator(_one_or_more)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Size = Annotated[tuple[Count, Count], BeforeValidator(_to_tuple)]


class Table(BaseModel):
    """A table of the job file: what is not named here is an error, and nothing is converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
