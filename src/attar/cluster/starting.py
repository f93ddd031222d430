"""Reaching a Ray cluster, or starting one on this machine; needs the extra `ray`."""

import logging
import os
import shlex
import socket
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attar.errors import AttarError, MissingExtraError, check_not_negative, check_positive

_NOT_THE_USERS = (str(Path(__file__).parents[1]), sysconfig.get_path("stdlib"))
_PACKAGES = {"site-packages", "dist-packages"}
_KNOCK_SECONDS = 10.0
_ATTEMPTS = 3  # to start a cluster: Ray gives its own processes 30 s, not enough on a busy machine
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
            f"{error.name} is not installed, which is needed to use a cluster; "
            "run `pip install 'attar[ray]'`"
        ) from error
    return ray


@dataclass(frozen=True)
class Cluster:
    """Which cluster works, and what of it."""

    address: str | None = None  # of its head; None: Ray's RAY_ADDRESS, else on this machine
    workers: int | None = None  # processes at once; None: one for each processor
    cores: int = 1  # that each of them needs
    gpus: float = 0.0
    start_seconds: float = 300.0  # that processes which train together may take to start
    session: ExitStack | None = None  # when closed, what was started is stopped; None: after a call

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_positive(workers=1 if self.workers is None else self.workers, cores=self.cores)
        check_positive(start_seconds=self.start_seconds)
        check_not_negative(gpus=self.gpus)


@contextmanager
def connected(cluster: Cluster, *, shared_bytes: int = 0) -> Iterator[int]:
    """Be connected to a cluster during the body, and give the number of workers it shall have.

    A cluster that the process is connected to already is used, and left as it is. Without an
    address one is started on this machine and stopped at the end, or when this process is killed.

    Args:
        cluster: Which one.
        shared_bytes: What its machines have to hold in memory, about.

    Raises:
        MissingExtraError: If Ray is not installed.
        AttarError: If there is no cluster at the address, or it has no processors.
    """
    ray = import_ray()
    with ExitStack() as here:
        if not ray.is_initialized():
            (cluster.session or here).callback(ray.shutdown)
            with _stderr_closed():
                _start(ray, cluster, shared_bytes)
        _be_quiet(ray)
        _send_the_users_modules(ray)
        cores = int(ray.cluster_resources().get("CPU", 0))
        if cores < cluster.cores:
            raise AttarError(
                f"expected a cluster of {cluster.cores} processor(s) at least, got one of {cores}; "
                "are its nodes up? `ray status` tells"
            )
        yield cluster.workers or cores // cluster.cores


def _start(ray: Any, cluster: Cluster, shared_bytes: int) -> None:  # noqa: ANN401
    # Ray's own messages go to its log files: attar says itself what has failed.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # By default its workers run only when nothing else wants to.
    os.environ.setdefault("RAY_worker_niceness", "0")
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    where = cluster.address or os.environ.get("RAY_ADDRESS")
    if where and where != "local":
        try:
            _knock(where)
            ray.init(address=where, **quiet)
        except (OSError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise AttarError(
                f"expected a Ray cluster at {where}, got none: {reason}; is its head up? "
                "`ray start --head` starts one; without an address Ray runs on this machine"
            ) from error
        return
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            ray.init(
                address="local",
                num_cpus=max((cluster.workers or 0) * cluster.cores, os.cpu_count() or 1),
                include_dashboard=False,
                object_store_memory=_STORE_BYTES + 2 * shared_bytes,
                runtime_env=_quote_python(),
                **quiet,
            )
            return
        except Exception as error:  # Ray's errors of starting share no other base
            ray.shutdown()
            if attempt == _ATTEMPTS:
                raise _not_started(error) from error


def _not_started(error: Exception) -> AttarError:
    reason = " ".join(str(error).split())[:200]
    return AttarError(
        f"expected Ray to start on this machine, got {reason}; is it very busy, or its memory, "
        "or the disk of its temporary folder, full? run the same command again to resume"
    )


def _quote_python() -> dict[str, str]:
    """Make up for Ray, which gives the path of Python to a shell as it is.

    Where that has a space, those of its processes that have variables of their own, as Ray Train's,
    do not start, and it tries again without end.
    """
    quoted = shlex.quote(sys.executable)
    return {} if quoted == sys.executable else {"py_executable": quoted}


def _knock(address: str) -> None:
    """Raise `OSError` if nothing answers at a host and port; Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit() and "://" not in address:
        socket.create_connection((host, int(port)), timeout=_KNOCK_SECONDS).close()


@contextmanager
def _stderr_closed() -> Iterator[None]:
    """Keep what is not Python from writing to standard error during the body."""
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


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
