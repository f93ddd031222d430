"""`--on ray`: the engine that does a job's work."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, get_args

from attar.errors import AttarError, check_positive
from attar.jobs import Job
from attar.jobs.cluster_table import ClusterTable, EngineName
from attar.jobs.engine import Engine
from attar.targets import SoftTargets


def choose_cluster(job: Job, on: str | None, address: str | None, workers: int | None) -> Job:
    """Override the job file's table [cluster] by the options of the command line.

    Raises:
        AttarError: If there is no such engine, or it does not accept the options.
    """
    engines = get_args(EngineName)
    if on is not None and on not in engines:
        raise AttarError(f"expected --on {' or '.join(engines)}, got {on!r}")
    if workers is not None:
        check_positive(workers=workers)
    given = {"engine": on, "address": address, "workers": workers}
    table = job.settings.cluster.model_copy(
        update={name: value for name, value in given.items() if value is not None}
    )
    if table.engine == "local" and (address is not None or workers is not None):
        name = "--address" if address is not None else "--workers"
        raise AttarError(f"{name} is only used by --on ray, and the engine is local; add --on ray")
    return replace(job, settings=job.settings.model_copy(update={"cluster": table}))


@contextmanager
def make_engine(table: ClusterTable) -> Iterator[Engine]:
    """Make the engine of a job; processes that it has started are stopped at the end of the body.

    Raises:
        MissingExtraError: If the engine is Ray, and Ray is not installed.
    """
    if table.engine == "local":
        yield Engine()
        return
    from attar import cluster  # Ray takes seconds to import

    cluster.import_ray()
    with ExitStack() as session:
        chosen = cluster.Cluster(
            address=table.address,
            workers=table.workers,
            cores=table.cores,
            gpus=table.gpus,
            start_seconds=table.start_seconds,
            session=session,
        )

        def label(*arguments: Any, workers: int | None, **options: Any) -> SoftTargets:  # noqa: ANN401
            return cluster.label(*arguments, **options, cluster=chosen)

        do_all = partial(cluster.do_all, cluster=chosen)
        if table.together:
            yield Engine(label, do_all, partial(cluster.distill, cluster=chosen), together=True)
        else:
            yield Engine(label, do_all)
