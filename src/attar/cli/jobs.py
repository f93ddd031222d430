"""`attar init`, `plan`, `run`, and single steps: a whole distillation from a job file."""

import os
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from attar.cli.engines import choose_cluster, make_engine
from attar.cli.events import HELP, event_log
from attar.cli.terminal import showing
from attar.errors import AttarError
from attar.event_files import TensorBoardLog
from attar.files import write_size
from attar.jobs import PARTS, Part, read_job, run_job
from attar.jobs.planning import JobPlan, plan_job
from attar.jobs.scaling import LabelingCost, scale_labeling
from attar.jobs.steps import JobProgress, Tell
from attar.jobs.template import write_template
from attar.progress import ProgressRecord, duration

JobFile = Annotated[Path, typer.Argument(help="The job file.", metavar="JOB.TOML")]
On = Annotated[
    str | None,
    typer.Option(
        "--on",
        help="local: in this process; ray: on a Ray cluster.  [default: as in [cluster] of the job "
        "file]",
        metavar="ENGINE",
        show_default=False,
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        help="Address of the Ray cluster's head, such as 10.0.0.1:6379.  [default: RAY_ADDRESS, "
        "else Ray is started on this machine]",
        show_default=False,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        help="Number of parallel processes of the cluster.  [default: one per processor]",
        show_default=False,
    ),
]
Log = Annotated[str | None, typer.Option(help=HELP, show_default=False)]

_HELP: dict[Part, str] = {
    "train": "Train every teacher that has a table [teacher.train].",
    "label": "Run the teacher over the transfer set and store its soft targets.",
    "distill": "Train the students from the soft targets, and the baseline; needs no teacher.",
    "compare": "Compare teacher, baseline and students on the test set.",
}
_TRUST = "A job file runs the Python code that it names. Run only job files that you trust."
_MORE = (
    "Steps whose inputs have not changed are skipped; interrupted steps resume. If a setting, the "
    "data or the code has changed, the step prints the change and keeps the earlier result."
)


def init(
    path: Annotated[
        Path, typer.Argument(help="The job file to write.", metavar="[JOB.TOML]")
    ] = Path("job.toml"),
) -> None:
    """Write a commented job file that runs unchanged, and networks.py beside it."""
    written = write_template(path)
    print(f"wrote {' and '.join(map(str, written))}; next: attar plan {path}, attar run {path}")


def plan(job: JobFile, on: On = None, workers: Workers = None) -> None:
    """Estimate size, time, memory and the loss from sparse encoding before running a job.

    The command measures a few batches, which takes seconds, and writes nothing. If the teacher is
    trained, it also measures the teacher's accuracy on labeled examples and warns if it looks
    wrong.

    With `--on ray --workers 64` it estimates labeling with that many processes of a cluster, from
    the measurement on this machine.

    A job file runs the Python code that it names. Plan only job files that you trust.
    """
    chosen = choose_cluster(read_job(job), on, None, workers)
    found = plan_job(chosen)
    show_plan(job, found)
    if chosen.settings.cluster.engine == "ray":
        show_scaling(found.labeling, chosen.settings.cluster.workers or os.cpu_count() or 1)


def show_scaling(cost: LabelingCost, workers: int) -> None:
    """Print the cost of labeling on a cluster, also with fewer and with more workers."""
    table = Table(title=f"labeling on Ray, in {cost.shards:,} shards")
    for name in ("workers", "time", "writes", "reads"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("limited by")
    for count in sorted({1, max(1, workers // 4), workers, 4 * workers}):
        each = scale_labeling(cost, count)
        rates = (f"{write_size(rate)}/s" for rate in (each.write_rate, each.read_rate))
        table.add_row(f"{count:,}", duration(each.seconds), *rates, each.bottleneck)
    Console(width=None if Console().is_terminal else 130).print(table)


def run(
    job: JobFile,
    on: On = None,
    address: Address = None,
    workers: Workers = None,
    log: Log = None,
) -> None:
    """Run a whole job: train the teachers, label, distill, compare."""
    run_parts(job, PARTS, on, address, workers, log)


def make_command(part: Part) -> Callable[..., None]:
    """Make the command of one step."""

    def command(
        job: JobFile,
        on: On = None,
        address: Address = None,
        workers: Workers = None,
        log: Log = None,
    ) -> None:
        run_parts(job, (part,), on, address, workers, log)

    command.__doc__ = f"{_HELP[part]}\n\n{_MORE}\n\n{_TRUST}"
    return command


def add_commands(app: typer.Typer) -> None:
    """Add all commands to the command line."""
    run.__doc__ = f"{run.__doc__}\n\n{_MORE}\n\n{_TRUST}"
    for name, command in (("init", init), ("plan", plan), ("run", run)):
        app.command(name)(command)
    for part in PARTS:
        if part != "compare":  # see attar.cli.compare
            app.command(part)(make_command(part))


def run_parts(
    path: Path,
    parts: Collection[Part],
    on: str | None = None,
    address: str | None = None,
    workers: int | None = None,
    log: str | None = None,
    *,
    latency: bool | None = None,
) -> None:
    """Run parts of a job; options that are None keep the values of the job file."""
    job = choose_cluster(read_job(path), on, address, workers)
    if latency is not None:
        table = job.settings.compare.model_copy(update={"latency": latency})
        job = replace(job, settings=job.settings.model_copy(update={"compare": table}))
    if log is not None and not {"train", "distill"} & set(parts):
        raise AttarError(
            f"--log has no effect with {' and '.join(parts)}, which trains nothing; leave it out"
        )
    with (
        event_log(log, job.folder) as events,
        make_engine(job.settings.cluster) as engine,
        showing() as show,
    ):
        run_job(job, parts, partial(_tell, show, events), engine)
    print(f"results are in {job.folder}")


def _tell(show: Tell, events: TensorBoardLog | None, now: ProgressRecord | str) -> None:
    """Show the progress of a job, and write its training steps to event files, if any."""
    show(now)
    if events and isinstance(now, JobProgress) and now.update:
        events(now.update, run=now.title)


def show_plan(path: Path, plan: JobPlan) -> None:
    """Print the estimates of a plan."""
    print(
        f"{path}: {plan.examples:,} examples of {plan.classes:,} classes, {plan.views} view(s), "
        f"{plan.members} teacher(s)"
    )
    lost = f"; loss in nats on {plan.measured_examples:,} examples" * bool(plan.measured_examples)
    table = Table(title=f"soft targets{lost}")
    table.add_column("encoding")
    names = [f"T = {each:g}" for each in plan.temperatures] if lost else []
    for name in ("size", "bytes per example", *names):
        table.add_column(name, justify="right", no_wrap=True)
    for each in plan.encodings:
        table.add_row(
            each.name + " (chosen)" * each.is_chosen,
            write_size(each.total_bytes),
            f"{each.example_bytes:,}",
            *(f"{nats:.4f}" for nats in each.lost_nats),
        )
    Console(width=None if Console().is_terminal else 100).print(table)
    for step in plan.durations:
        about = f"about {duration(step.seconds)} ({step.detail})" if step.seconds else step.detail
        print(f"{step.name}: {about}")
    print(f"total: about {duration(sum(step.seconds for step in plan.durations))}")
    if plan.memory_bytes is not None:
        print(f"peak memory: about {write_size(plan.memory_bytes)}")
    if plan.teacher is not None:
        print(f"teacher: {plan.teacher}, on this sample")
    if plan.note:
        print(plan.note)
    if plan.doubt is not None:
        print(f"warning: {plan.doubt}")
