"""How far something is, for people: a bar in a terminal, a plain line now and then elsewhere."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeVar, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

_REFRESH_SECONDS, _LINE_SECONDS = 0.2, 15.0
_FIRST_ESTIMATE_SECONDS, _SURE_SECONDS = 5.0, 30.0
_SURE_SHARE = 0.002  # of the whole work, once it is done
_RECENT_SECONDS, _RECENT_SHARE = 60.0, 0.25  # of the time so far, whichever is longer
_SAMPLE_SECONDS = 1.0
_ROUNDING = 1e-9  # of a fraction that is a sum


@runtime_checkable
class ProgressRecord(Protocol):
    """What is reported: a frozen record whose `str` says in one line what is being done.

    If it has `seconds_left`, None for unknown, that is shown; else it is estimated.
    """

    @property
    def fraction(self) -> float:
        """Of the whole work, 0 to 1."""


T = TypeVar("T")


class TimeLeft:
    """Estimates the remaining time from the recent speed: of the last minute, or quarter.

    Start-up time is ignored once there is enough data. The first estimate is given after 5 seconds
    if 1/500 of the work is done by then, else after 30 seconds.
    """

    def __init__(self, total: float) -> None:
        """Start the clock; the total is of all work, in any unit."""
        self.total, self._done = total, 0.0
        self._samples = deque([(time.monotonic(), 0.0)])  # when, and how much was done
        self._started = self._samples[0][0]

    def add(self, done: float) -> None:
        """Count work as done here and now."""
        now, samples = time.monotonic(), self._samples
        self._done += done
        if len(samples) > 2 and now - samples[-2][0] < _SAMPLE_SECONDS:
            samples.pop()
        samples.append((now, self._done))
        recent = max(_RECENT_SECONDS, _RECENT_SHARE * (now - self._started))
        while len(samples) > 2 and now - samples[1][0] >= recent:
            samples.popleft()
        if samples[0][1] == 0 and now - samples[1][0] >= _FIRST_ESTIMATE_SECONDS:
            samples.popleft()

    def seconds(self, left: float) -> float | None:
        """Return how long what is left will take; None as long as that can't be told."""
        (begin, before), (end, after) = self._samples[0], self._samples[-1]
        seconds = end - self._started
        is_sure = seconds >= _SURE_SECONDS or self._done >= _SURE_SHARE * self.total
        if after <= before or seconds < _FIRST_ESTIMATE_SECONDS or not is_sure:
            return None
        return left * (end - begin) / (after - before)


class ProgressBar:
    """Shows how far it is: give it as `progress=` to whatever takes long.

    In a terminal it is a bar on standard error, elsewhere a plain line there every 15 seconds and
    whenever the work gets another title (what a line has before its first `·`). It may be given to
    one call after the other.

    Args:
        console: Where to show it; by default standard error.

    Example:
        >>> import sys
        >>> from attar.labeling import LabelingProgress
        >>> with ProgressBar(Console(file=sys.stdout)) as show:
        ...     show(LabelingProgress(rows=1, total_rows=4, rows_per_second=2.0, seconds_left=1.5))
         25%  labeling · 1 of 4 rows · 2 rows/s · 2 s left
    """

    def __init__(self, console: Console | None = None) -> None:
        """Take the console."""
        self._console = console or Console(stderr=True)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._depth = 0  # of `with`
        self._title, self._shown_at = "", 0.0
        self._time_left, self._fraction = TimeLeft(1.0), 0.0
        self._is_first = True

    def __enter__(self) -> "ProgressBar":
        """Show a bar, if it is a terminal."""
        self._restart()
        self._depth += 1
        if self._console.is_terminal and self._bar is None:
            columns = TextColumn("{task.description}", markup=False), BarColumn()
            percent = TextColumn("{task.percentage:>3.0f} %")
            self._bar = Progress(*columns, percent, console=self._console, transient=True)
            self._task = self._bar.add_task("starting", total=1.0)
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Take the bar away."""
        self._depth -= 1
        if self._bar is not None and self._depth == 0:
            self._bar.stop()
            self._bar = None

    def __call__(self, record: ProgressRecord) -> None:
        """Show a record, if it is time to."""
        now, text = time.monotonic(), str(record)
        title = text.partition(" · ")[0]
        if self._is_first or record.fraction < self._fraction:  # other work begins
            self._time_left, self._is_first = TimeLeft(1.0), False
        else:
            self._time_left.add(record.fraction - self._fraction)
        self._fraction = record.fraction
        every = _LINE_SECONDS if self._bar is None else _REFRESH_SECONDS
        ends = record.fraction > 1 - _ROUNDING
        if title == self._title and now - self._shown_at < every and not ends:
            return
        text += self._tell_time_left(record)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=record.fraction, description=text)
        else:
            self._console.print(Text(f"{record.fraction:4.0%}  {text}"), soft_wrap=True)
        self._title, self._shown_at = title, now

    def _restart(self) -> None:
        self._title, self._shown_at = "", 0.0
        self._is_first = True

    def _tell_time_left(self, record: ProgressRecord) -> str:
        estimate = self._time_left.seconds(1 - record.fraction)
        seconds = getattr(record, "seconds_left", estimate)
        return "" if seconds is None or record.fraction >= 1 else f" · {duration(seconds)} left"


@contextmanager
def reporting(progress: Callable[[T], None] | None) -> Iterator[Callable[[T], None]]:
    """Give the function to report to; what shows a bar takes it away at the end, or at an error."""
    if isinstance(progress, AbstractContextManager):
        with progress:
            yield progress
    else:
        yield progress or _be_quiet


def _be_quiet(record: object) -> None:
    pass


def duration(seconds: float) -> str:
    """Write a time for people, as hours, minutes and seconds.

    Example:
        >>> duration(59), duration(754), duration(7300)
        ('59 s', '12 min 34 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
