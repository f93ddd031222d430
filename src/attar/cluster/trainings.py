"""Trainings that do not wait for each other, as tasks of Ray; each goes on from its checkpoint."""

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from attar.cluster.sharing import check_versions, explaining, fault, revive, share, versions
from attar.cluster.starting import Cluster, connected, import_ray
from attar.errors import AttarError, FolderError
from attar.progress import ProgressRecord

Tell = Callable[[ProgressRecord | str], None]

_POLL_SECONDS, _TELL_SECONDS = 0.3, 0.5
_RETRIES = 10  # of a training whose process or machine was lost


@runtime_checkable
class Work(Protocol):
    """A training, or another step, that can be sent to another process."""

    def begin(self, tell: Tell) -> bool:
        """Prepare it; answer whether it is done already."""

    def __call__(self, tell: Tell) -> None:
        """Do it."""


def do_all(
    works: Sequence[Work],
    tell: Tell,
    *,
    cluster: Cluster = Cluster(),  # noqa: B008 (frozen)
) -> None:
    """Do works on a cluster, as many at once as there are workers.

    What they write has to be in folders that all machines share. A work whose process or machine
    is lost is begun again elsewhere, and goes on from its checkpoint.

    Args:
        works: They are begun here, in turn; those that are done already are not sent.
        tell: Gets what they tell.
        cluster: Which one, how many works at once, and what each of them needs.

    Raises:
        MissingExtraError: If Ray is not installed.
        AttarError: If one of them fails: the others are stopped, what they wrote stays.
    """
    import_ray()
    left = [work for work in works if not work.begin(tell)]
    if not left:
        return
    with connected(cluster) as count, explaining():
        _do(left, tell, count, cluster)


def _do(works: Sequence[Work], tell: Tell, count: int, cluster: Cluster) -> None:
    ray = import_ray()
    shared = share((list(works), Path.cwd(), versions()), "a training")
    board = ray.remote(num_cpus=0)(Board).remote()
    task = ray.remote(num_cpus=cluster.cores, num_gpus=cluster.gpus, max_retries=_RETRIES)(_work)
    waiting, running = iter(range(len(works))), deque[Any]()
    try:
        while True:
            running += [
                task.remote(shared, place, board) for place in islice(waiting, count - len(running))
            ]
            if not running:
                return
            done, _ = ray.wait(list(running), timeout=_POLL_SECONDS)
            for told in ray.get(board.take.remote()):
                tell(told)
            for each in done:
                running.remove(each)
                if text := ray.get(each):
                    raise revive(text)
    finally:
        for each in running:
            ray.cancel(each, force=True)
        ray.kill(board)


def _work(shared: tuple[Sequence[Work], Path, str], place: int, board: Any) -> str:  # noqa: ANN401
    """Do one of the works, in a process of the cluster; answer the error, or nothing."""
    works, folder, expected = shared
    latest: dict[str, float] = {}

    def tell(told: ProgressRecord | str) -> None:
        now = time.monotonic()
        if isinstance(told, str) or now - latest.get("at", 0.0) > _TELL_SECONDS:
            latest["at"] = now
            board.put.remote(told)

    ray = import_ray()
    try:
        check_versions(expected)
        if not folder.is_dir():
            node = ray.util.get_node_ip_address()
            raise FolderError(f"expected the folder {folder} on every machine, {node} has none")
        os.chdir(folder)  # what relative paths are relative to
        works[place](tell)
        ray.get(board.put.remote(None))  # all that was told before has come
    except AttarError as error:
        return fault(error)
    return ""


class Board:
    """What the works tell, until it is taken."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.told: list[ProgressRecord | str] = []

    def put(self, told: ProgressRecord | str | None) -> None:
        """Take a message; None only shows, when it is answered, that the others have come."""
        if told is not None:
            self.told.append(told)

    def take(self) -> list[ProgressRecord | str]:
        """Answer what has come since."""
        told, self.told = self.told, []
        return told
