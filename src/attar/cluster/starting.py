"""Reaching a Ray cluster, or starting one on this machine; needs the extra `ray`."""

import logging
import os
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attar.errors import AttarError, MissingExtraError

_NOT_THE_USERS = (str(Path(__file__).parents[1]), sysconfig.get_path("stdlib"))
_PACKAGES = {"site-packages", "dist-packages"}
_STORE_BYTES = 2**28  # of a cluster that is started here, without what it is to hold


def import_ray() -> Any:  # noqa: ANN401 (Ray's types are not wanted)
    """Import Ray.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError(
            f"expected Ray to work on a cluster, got none of {error.name}; "
            "try pip install 'attar[ray]'"
        ) from error
    return ray


@contextmanager
def connected(*, address: str | None, workers: int | None, shared_bytes: int) -> Iterator[int]:
    """Be connected to a cluster during the body, and give the number of workers it shall have.

    A cluster that the process is connected to already is used, and left as it is. Without an
    address (or Ray's own variable `RAY_ADDRESS`) one is started on this machine and stopped at the
    end, or when this process is killed.

    Args:
        address: Of the cluster's head, such as `10.0.0.1:6379`, or `auto`.
        workers: How many processes shall work at once; by default one for each of its processors.
        shared_bytes: Of what its machines have to hold in memory, about.

    Raises:
        MissingExtraError: If Ray is not installed.
        AttarError: If there is no cluster at the address, or it has no processors.
    """
    ray = import_ray()
    is_ours = not ray.is_initialized()
    if is_ours:
        _start(ray, address, workers, shared_bytes)
    try:
        _be_quiet(ray)
        _send_the_users_modules(ray)
        cores = int(ray.cluster_resources().get("CPU", 0))
        if not cores:
            raise AttarError(
                f"expected a cluster with processors, got one of none at {address}; "
                "is a node up? `ray status` tells"
            )
        yield workers or cores
    finally:
        if is_ours:
            ray.shutdown()


def _start(ray: Any, address: str | None, workers: int | None, shared_bytes: int) -> None:  # noqa: ANN401
    # Ray's own messages go to its log files: attar says itself what has failed.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # By default its workers run only when nothing else wants to.
    os.environ.setdefault("RAY_worker_niceness", "0")
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    where = address or os.environ.get("RAY_ADDRESS")
    if where and where != "local":
        try:
            ray.init(address=where, **quiet)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            reason = " ".join(str(error).split())[:200]
            raise AttarError(
                f"expected a Ray cluster at {where}, got none: {reason}; is its head up? "
                "`ray start --head` starts one; without an address Ray runs on this machine"
            ) from error
        return
    ray.init(
        address="local",
        num_cpus=max(workers or 0, os.cpu_count() or 1),
        include_dashboard=False,
        object_store_memory=_STORE_BYTES + 2 * shared_bytes,
        **quiet,
    )


def _be_quiet(ray: Any) -> None:  # noqa: ANN401
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False


def _send_the_users_modules(ray: Any) -> None:  # noqa: ANN401
    """Let classes and functions of the user's own files travel as they are, not by their names.

    The other machines, or processes, need not have these files.
    """
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file is None or module.__name__ == "__main__":
            continue
        if not file.startswith(_NOT_THE_USERS) and not _PACKAGES & set(Path(file).parts):
            ray.cloudpickle.register_pickle_by_value(module)
