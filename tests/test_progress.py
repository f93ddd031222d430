import io

import pytest
import torch
from labeled import make_network, make_set
from rich.console import Console

import attar
from attar import ProgressBar, progress
from attar.progress import TimeLeft, reporting


class Now:
    """Some progress."""

    def __init__(self, fraction, text="counting · one", **fields):
        self.fraction, self.text = fraction, text
        self.__dict__.update(fields)

    def __str__(self):
        return self.text


@pytest.fixture
def clock(monkeypatch):
    """Let the test say what time it is."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def make_console(*, terminal=False):
    file = io.StringIO()
    return file, Console(file=file, force_terminal=terminal, width=100, legacy_windows=False)


def test_elsewhere_than_in_a_terminal_a_plain_line_comes_now_and_then(clock):
    file, console = make_console()
    with ProgressBar(console) as show:
        for second in range(41):
            clock[0] = 100.0 + second
            show(Now(second / 80))
        show(Now(0.6, "listing · two"))
        show(Now(1.0, "listing · two"))
    assert file.getvalue().splitlines() == [
        "  0%  counting · one",
        " 19%  counting · one · 1 min 5 s left",
        " 38%  counting · one · 50 s left",
        " 60%  listing · two · 27 s left",
        "100%  listing · two",
    ]


@pytest.mark.parametrize(
    ("preparing", "speeds", "left", "expected"),
    [
        (0.0, [(4, 10)], 960, None),  # too early
        (9.0, [(1, 1)], 100_000, None),  # one step, after much that was loaded
        (9.0, [(29, 1)], 100_000, 100_000),  # what was loaded does not count
        (0.0, [(6, 10)], 940, 94),
        (0.0, [(300, 1), (100, 10)], 1000, 100),  # the last hundred seconds tell
        (0.0, [(1000, 10), (30, 1)], 100, 100 * 257 / 2300),  # but not a few alone
    ],
)
def test_the_time_left_is_that_at_the_recent_speed(clock, preparing, speeds, left, expected):
    time_left = TimeLeft(left + sum(seconds * speed for seconds, speed in speeds))
    clock[0] += preparing
    time_left.add(0.001)
    for seconds, speed in speeds:
        for _ in range(4 * seconds):
            clock[0] += 0.25
            time_left.add(speed / 4)
    found = time_left.seconds(left)
    assert found == (expected if expected is None else pytest.approx(expected, rel=0.02))


def test_an_estimate_follows_reports_that_are_far_apart(clock):
    time_left = TimeLeft(10.0)
    for _ in range(3):
        clock[0] += 200.0
        time_left.add(1.0)
    assert time_left.seconds(7.0) == pytest.approx(1400)


def test_work_that_begins_anew_is_timed_anew(clock):
    file, console = make_console()
    with ProgressBar(console) as show:
        show(Now(0.0))
        clock[0] += 4000.0
        show(Now(1.0))
        for second in range(21):
            show(Now(second / 40, "listing · two"))
            clock[0] += 1.0
    assert file.getvalue().splitlines()[-2:] == [
        "  0%  listing · two",
        " 38%  listing · two · 25 s left",
    ]


def test_the_time_that_a_record_knows_is_shown(clock):
    file, console = make_console()
    with ProgressBar(console) as show:
        show(Now(0.5, seconds_left=754.0))
        show(Now(0.5, "listing", seconds_left=None))
    assert file.getvalue().splitlines() == [
        " 50%  counting · one · 12 min 34 s left",
        " 50%  listing",
    ]


def test_in_a_terminal_there_is_a_bar_and_an_error_takes_it_away():
    file, console = make_console(terminal=True)
    with pytest.raises(LookupError), ProgressBar(console) as show:
        show(Now(0.5, "counting [b]one"))
        raise LookupError
    text = file.getvalue()
    assert "counting [b]one" in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # the cursor comes back


def test_a_bar_may_be_given_to_one_call_after_the_other(tmp_path):
    file, console = make_console()
    bar, data = ProgressBar(console), make_set()
    store = attar.label(make_network(), data, tmp_path / "store", progress=bar)
    student = make_network(2)
    attar.distill(
        student, data, store, temperature=2.0, soft_weight=1.0, hard_weight=0.0, epochs=3,
        batch_size=11, progress=bar,
    )  # fmt: skip
    attar.compare({"student": student}, data, latency=False, resamples=50, progress=bar)
    lines = file.getvalue().splitlines()
    assert lines[0].startswith("  0%  labeling · 0 of 22 rows")
    assert " 17%  training · epoch 1 of 3 · loss " in file.getvalue()
    assert "100%  training · epoch 3 of 3 · loss " in file.getvalue()
    assert lines[-1] == "100%  comparing · 22 of 22 examples"


def test_plain_functions_and_none_can_be_reported_to():
    told = []
    with reporting(told.append) as report:
        report(1)
    with reporting(None) as report:
        report(2)
    assert told == [1]


# Event files


def read_events(folder):
    """Return the scalars of a folder's event files: tag -> steps and values."""
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = loader.EventAccumulator(str(folder)).Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_a_training_leaves_event_files(tmp_path):
    pytest.importorskip("tensorboard")
    data, steps = make_set(), []
    settings = attar.TrainingSettings(epochs=2, batch_size=11, learning_rate=0.1, seed=0)
    run = attar.TrainingRun(
        make_network(), data, lambda logits, batch: logits.square().mean(), settings,
        measure=lambda network: {"errors": 7.0},
    )  # fmt: skip
    with attar.TensorBoardLog(tmp_path) as log:
        for step in run:
            log(step, run="student")
            steps.append(step)
    scalars = read_events(tmp_path / "student")
    assert [step for step, _ in scalars["loss"]] == [1, 2, 3, 4]
    assert [value for _, value in scalars["loss"]] == pytest.approx([one.loss for one in steps])
    assert [step for step, _ in scalars["epoch/mean_loss"]] == [2, 4]
    assert scalars["measured/errors"] == [(2, 7.0), (4, 7.0)]
    assert torch.tensor(scalars["learning_rate"])[:, 1].max() <= 0.1


def test_without_tensorboard_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(attar.AttarError, match=r"attar\[tensorboard\]"):
        attar.TensorBoardLog(tmp_path)
