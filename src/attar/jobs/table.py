"""What all tables of a job file share: how strict they are."""

from pydantic import BaseModel, ConfigDict


class Table(BaseModel):
    """A table of the job file: what is not named here is an error, and nothing is converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
