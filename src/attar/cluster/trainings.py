"""Trainings that do not wait for each other, as tasks of Ray; each goes on from its checkpoint."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from attar.cluster.sharing import check_versions, explaining, fault, revive, share, versions
from attar.cluster.starting import Cluster, connected, import_ray
from attar.errors import FolderError
from attar.progress import ProgressRecord

Tell = Callable[[ProgressRecord | str], None]
Item = TypeVar("Item")
Result = TypeVar("Result")
Answer = tuple[str, Any]  # an error's text, or none and what came out

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
        AttarError: If a work fails; the others are stopped, and what is done is kept.
    """
    left = [work for work in works if not work.begin(tell)]
    if not left:
        return
    with connected(cluster) as count, explaining():
        ray = import_ray()
        board = ray.remote(num_cpus=0)(Board).remote()
        try:
            for answer in _spread(_work, (left, board), range(len(left)), count, cluster):
                for told in ray.get(board.take.remote()):
                    tell(told)
                _check(answer)
        finally:
            ray.kill(board)


def map_fn(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    cluster: Cluster = Cluster(),  # noqa: B008 (frozen)
) -> Iterator[Result]:
    """Call a function with each item on a cluster, as many at once as there are workers.

    It is a `map_fn` for `attar.specialists.train_specialists`, and for trainings of your own that
    do not wait for each other: seeds, members of an ensemble, temperatures. A call whose process or
    machine is lost is made again elsewhere.

    Args:
        function: It travels to the workers, with all that it refers to.
        items: What it is called with.
        cluster: Which one, how many calls at once, and what each of them needs.

    Yields:
        What the calls return, as they end.

    Raises:
        MissingExtraError: If Ray is not installed.
        AttarError: If a call fails; the others are stopped.
    """
    each = list(items)
    if each:
        with connected(cluster) as count, explaining():
            for answer in _spread(_call, function, each, count, cluster):
                if answer is not None:
                    _check(answer)
                    yield answer[1]


def _spread(
    function: Callable[[Any, Any], Any], common: object, items: Iterable[Any], count: int,
    cluster: Cluster,
) -> Iterator[Answer | None]:  # fmt: skip
    """Yield the answers of tasks as they end, and None where none has ended for a while."""
    ray = import_ray()
    task = ray.remote(num_cpus=cluster.cores, num_gpus=cluster.gpus, max_retries=_RETRIES)(_answer)
    shared = share((function, common, Path.cwd(), versions()), "a training")
    waiting, running = iter(items), deque[Any]()
    try:
        while True:
            running += [task.remote(shared, each) for each in islice(waiting, count - len(running))]
            if not running:
                return
            done, _ = ray.wait(list(running), timeout=_POLL_SECONDS)
            if not done:
                yield None
            for each in done:
                running.remove(each)
                yield ray.get(each)
    finally:
        for each in running:
            ray.cancel(each, force=True)


def _check(answer: Answer | None) -> None:
    if answer is not None and answer[0]:
        raise revive(answer[0])


def _answer(shared: tuple[Any, Any, Path, str], item: object) -> Answer:
    """Do one task, in a process of the cluster; answer an error, or what it returns."""
    function, common, folder, expected = shared
    try:
        check_versions(expected)
        if not folder.is_dir():
            node = import_ray().util.get_node_ip_address()
            raise FolderError(f"expected the folder {folder} on every machine, {node} has none")
        os.chdir(folder)  # what relative paths are relative to
        return "", function(common, item)
    except Exception as error:
        return fault(error), None


def _call(function: Callable[[Any], Any], item: object) -> object:
    return function(item)


def _work(common: tuple[Sequence[Work], Any], place: int) -> None:
    works, board = common
    latest: dict[str, float] = {}

    def tell(told: ProgressRecord | str) -> None:
        now = time.monotonic()
        if isinstance(told, str) or now - latest.get("at", 0.0) > _TELL_SECONDS:
            latest["at"] = now
            board.put.remote(told)

    works[place](tell)
    import_ray().get(board.put.remote(None))  # all that was told before has come


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
