"""The table of a job file that selects where the work is done."""

from typing import Literal

from pydantic import Field

from attar.jobs.table import Table
from attar.jobs.values import Count, NotNegative, Positive

EngineName = Literal["local", "ray"]


class ClusterTable(Table):
    """Where the work is done: in this process, or by the processes of a Ray cluster."""

    engine: EngineName = Field(
        default="local",
        description="ray distributes the work over processes on one or several machines",
    )
    address: str | None = Field(
        default=None,
        description="address of the cluster's head, or auto for a cluster that runs on this "
        "machine; by default the value of RAY_ADDRESS, else a cluster is started here and stopped "
        "at the end",
        examples=["10.0.0.1:6379"],
    )
    workers: Count | None = Field(
        default=None,
        description="number of parallel processes; by default one per processor of the cluster",
        examples=[8],
    )
    cores: Count = Field(default=1, description="processors per worker", examples=[4])
    together: bool = Field(
        default=False,
        description="true: all workers train one student at a time, each on a part of every batch; "
        "false: each worker trains a different student",
        examples=[True],
    )
    start_seconds: Positive = Field(
        default=300.0,
        description="longest time to wait for the processes that train together to start, "
        "including new cloud machines",
        examples=[900.0],
    )
    gpus: NotNegative = Field(
        default=0.0, description="GPUs per worker; may be a fraction", examples=[1.0]
    )
