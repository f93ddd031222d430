"""The table of a job file that says where the work is done."""

from typing import Literal

from pydantic import Field

from attar.jobs.table import Table
from attar.jobs.values import Count, NotNegative, Positive

EngineName = Literal["local", "ray"]


class ClusterTable(Table):
    """Where the work is done: in this process, or by those of a Ray cluster."""

    engine: EngineName = Field(
        default="local", description="ray spreads the work over processes, of one machine or many"
    )
    address: str | None = Field(
        default=None,
        description="of the cluster's head, or auto for one that runs on this machine; by default "
        "what RAY_ADDRESS says, else one is started here and stopped at the end",
        examples=["10.0.0.1:6379"],
    )
    workers: Count | None = Field(
        default=None,
        description="processes at once; by default one for each processor of the cluster",
        examples=[8],
    )
    cores: Count = Field(default=1, description="that each of them has", examples=[4])
    together: bool = Field(
        default=False,
        description="all workers train each student together, a part of every batch each, one "
        "student after the other; else each worker trains one of its own",
        examples=[True],
    )
    start_seconds: Positive = Field(
        default=300.0,
        description="how long processes that train together may take to start, new machines of a "
        "cloud included",
        examples=[900.0],
    )
    gpus: NotNegative = Field(
        default=0.0, description="that each of them has, or a part of one", examples=[1.0]
    )
