"""SIGKILL at random moments, while labeling and while distilling: `python benchmarks/crash.py`.

Each run is killed one to four times, is then left to end, and has to have made the same bytes as a
run that nobody disturbed. The moments are uniform over the work: the parent draws after how many
shards (or steps) it strikes, waits for these, and strikes at a random moment of the time that the
next one takes. A run that ends before it is hit is counted as such.

The parent has imported torch and forks, so that its children start with the work. Prints, and with
`--out FILE` writes as JSON, what happened. The short form of this is tests/test_killed.py.
"""

import argparse
import os
import random
import shutil
import signal
import struct
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import torch

import attar
from attar import distillation
from attar.records import this_machine, write_json
from attar.training import TrainingRun, TrainingSettings, save_weights

MESSAGE = struct.Struct("ii")  # units done, units in all; a pipe takes it as a whole
MOST_KILLS = 4  # of one run
Tell = Callable[[int, int], None]
Run = Callable[[Path, Tell], None]  # makes what the path says, and tells how far it is


@dataclass
class Tally:
    """What happened to the runs of one kind."""

    kills: int = 0
    too_late: int = 0  # the run had ended before it could be hit
    runs: int = 0  # killed, continued and ended
    continued: int = 0  # starts that found something done by one that had been killed
    half_written: int = 0  # kills after which half a file lay there, by this one or one before
    different: int = 0  # runs that ended with other bytes than the undisturbed one
    landed_by_tenth: list[int] = field(default_factory=lambda: [0] * 10)  # of the work


@dataclass(frozen=True)
class Pace:
    """How an undisturbed run goes."""

    units: int  # shards, or steps
    opening_seconds: float  # until it tells for the first time
    unit_seconds: float


def make_network(seed: int) -> torch.nn.Module:
    """Make a teacher, or a student."""
    generator = torch.Generator().manual_seed(seed)
    return attar.mlp(64, [20], 6, generator=generator, hidden_dropout=0.5)


def make_set() -> attar.TransferSet:
    """Make 120 images of noise."""
    images = torch.randint(256, (120, 8, 8), generator=torch.Generator().manual_seed(0))
    jitter = attar.Jitter(pixels=1)
    return attar.TransferSet(images.to(torch.uint8), torch.arange(120) % 6, views=jitter)


def run_label(path: Path, tell: Tell) -> None:
    """Label two views by two members into 60 shards, with two threads."""
    attar.label(
        [make_network(1), make_network(2)], make_set(), path, encoding=attar.Sparse(k=2),
        views=(0, 1), workers=2, batch_size=2, shard_examples=8,
        progress=lambda now: tell(now.rows // 8, now.total_rows // 8),
    )  # fmt: skip


def run_distill(path: Path, tell: Tell, *, store: Path) -> None:
    """Distill for 100 steps, with a checkpoint after each; leave the student's weights alone."""
    student = make_network(3)
    # So often only here: a user's checkpoint is 20 seconds old at most.
    distillation.TrainingRun = partial(TrainingRun, checkpoint_seconds=0.0)
    path.mkdir(exist_ok=True)
    attar.distill(
        student, make_set(), store, temperature=3.0, soft_weight=1.0, hard_weight=0.5, epochs=10,
        batch_size=12, checkpoint=path / "checkpoint", progress=lambda step: tell(step.index, 100),
    )  # fmt: skip
    save_weights(path / "student.safetensors", student)
    (path / "checkpoint").unlink()  # it holds durations


def start(run: Run, path: Path) -> tuple[int, int]:
    """Fork a child that does the run; return its id, and the pipe on which it tells."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reader)
            run(path, lambda done, total: os.write(writer, MESSAGE.pack(done, total)) and None)
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    return child, reader


def listen(reader: int) -> tuple[int, int] | None:
    """Return what the child tells next; None if it has ended."""
    message = os.read(reader, MESSAGE.size)
    return MESSAGE.unpack(message) if message else None


def finish(run: Run, path: Path) -> Pace:
    """Let a run end, and measure it."""
    child, reader = start(run, path)
    times, told = [time.monotonic()], (0, 0)
    while message := listen(reader):
        told = message
        times.append(time.monotonic())
    os.close(reader)
    if status := os.waitpid(child, 0)[1]:
        raise SystemExit(f"a child failed by itself, with status {status}")
    first = times[1] if len(times) > 1 else times[0]  # a run that was done has nothing to tell
    between = (times[-1] - first) / max(1, len(times) - 2)
    return Pace(units=told[1], opening_seconds=first - times[0], unit_seconds=between)


def try_to_kill(
    run: Run, path: Path, target: int, before: int, pace: Pace, draw: random.Random, tally: Tally
) -> int | None:
    """Start the run, and kill it within the unit after the target; None if it ended before.

    Args:
        run: What to start.
        path: What it makes.
        target: Units done when the child is struck; if as many were done `before`, it is struck
            while it opens what it finds.
        before: Units that were done when the last child was killed.
        pace: How quick an undisturbed run is.
        draw: Makes the moment within the unit.
        tally: Counts what happened.

    Returns:
        Units that the child had told of when it was killed.
    """
    child, reader = start(run, path)
    told = (before, pace.units)
    if target <= before:
        time.sleep(draw.random() * pace.opening_seconds)
    else:
        message = listen(reader)
        tally.continued += bool(message and message[0] > 1)
        while message:
            told = message
            message = listen(reader) if told[0] < target else None
        time.sleep(draw.random() * pace.unit_seconds)
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    while message := listen(reader):
        told = message
    os.close(reader)
    if os.WIFEXITED(status):
        if status:
            raise SystemExit(f"a child failed by itself, with status {status}")
        tally.too_late += 1
        return None
    tally.kills += 1
    tally.half_written += any(path.glob(".*.partial"))
    tally.landed_by_tenth[min(9, 10 * told[0] // pace.units)] += 1
    return told[0]


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder but those of interrupted writes."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name[0] != "."}


def kill_often(name: str, run: Run, folder: Path, kills: int, draw: random.Random) -> Tally:
    """Kill runs until as many kills have hit as are asked for; compare each with the plain one."""
    plain, path = folder / name, folder / f"{name}-killed"
    pace = finish(run, plain)
    expected, tally = contents(plain), Tally()
    while tally.kills < kills:
        shutil.rmtree(path, ignore_errors=True)
        count = min(draw.randint(1, MOST_KILLS), kills - tally.kills)
        done: int | None = 0
        for target in sorted(draw.randrange(pace.units) for _ in range(count)):
            done = try_to_kill(run, path, target, done, pace, draw, tally)
            if done is None:
                break
        finish(run, path)
        tally.runs += 1
        print(f"{name}: {tally.kills} of {kills} kills, {tally.different} differ", flush=True)
        tally.different += contents(path) != expected
    return tally


def warm_up() -> None:
    """Import what torch imports at the first use of an optimizer, so that no child has to."""
    settings = TrainingSettings(
        epochs=1, batch_size=1, learning_rate=0.1, seed=0, optimizer="adamw"
    )
    settings.make_optimizer(torch.nn.Linear(1, 1).parameters()).step()


def main() -> None:
    """Read the options; label, distill, count."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--labeling", type=int, default=200, help="kills while labeling")
    parser.add_argument("--distilling", type=int, default=50, help="kills while distilling")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--folder", type=Path, help="to work in, and to keep")
    parser.add_argument("--out", type=Path, help="a JSON file for the result")
    options = parser.parse_args()
    torch.set_num_threads(1)  # threads would not survive the fork
    warm_up()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        draw, result = random.Random(options.seed), {"seed": options.seed}
        runs: dict[str, tuple[Run, int]] = {
            "labeling": (run_label, options.labeling),
            "distilling": (partial(run_distill, store=folder / "labeling"), options.distilling),
        }
        for name, (run, kills) in runs.items():
            result[name] = asdict(kill_often(name, run, folder, kills, draw))
            print(name, result[name], flush=True)
    if options.out:
        write_json(options.out, result | {"machine": asdict(this_machine())})
    if result["labeling"]["different"] or result["distilling"]["different"]:
        raise SystemExit("a run that was killed and continued made other bytes")


if __name__ == "__main__":
    main()
