"""`attar init`, `plan`, `run`, and single steps: a whole distillation from a job file."""

import os
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from attar.cli.engines import choose_cluster, make_engine
from attar.cli.events import HELP, event_log
from attar.cli.terminal import showing
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
        help="local: in this process; ray: over processes of a Ray cluster. By default as the "
        "job's table [cluster] says, which has the same keys.",
        metavar="ENGINE",
        show_default=False,
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        help="The Ray cluster's head, such as 10.0.0.1:6379; by default what RAY_ADDRESS says, "
        "else Ray is started on this machine.",
        show_default=False,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        help="How many processes of the cluster work at once; by default one for each processor.",
        show_default=False,
    ),
]
Log = Annotated[str | None, typer.Option(help=HELP, show_default=False)]

_HELP: dict[Part, str] = {
    "train": "Train the teachers that the job file has a table [teacher.train] for.",
    "label": "Run the teacher over the transfer set, and keep its soft targets.",
    "distill": "Train the students from the soft targets, and the baseline. Needs no teacher.",
    "compare": "Compare teacher, baseline and students on the test set.",
}
_MORE = (
    "A step whose inputs have not changed is skipped; one that was stopped goes on. If a setting, "
    "the data or the code behind it has changed, that is said, and the earlier result is kept."
)


def init(
    path: Annotated[
        Path, typer.Argument(help="The job file to write.", metavar="[JOB.TOML]")
    ] = Path("job.toml"),
) -> None:
    """Write a commented job file that runs as it is, and networks.py beside it."""
    written = write_template(path)
    print(f"wrote {' and '.join(map(str, written))}; next: attar plan {path}, attar run {path}")


def plan(job: JobFile, on: On = None, workers: Workers = None) -> None:
    """Say what a job will take, before anything is spent: bytes, time, memory, lost information.

    It measures a few batches, in seconds, and writes nothing. If the teacher is trained, it says
    how often the teacher is right on labeled examples, and warns if that looks wrong.

    With `--on ray --workers 64` it says what labeling takes with so many processes of a cluster,
    from that measurement on this machine.
    """
    chosen = choose_cluster(read_job(job), on, None, workers)
    found = plan_job(chosen)
    show_plan(job, found)
    if chosen.settings.cluster.engine == "ray":
        show_scaling(found.labeling, chosen.settings.cluster.workers or os.cpu_count() or 1)


def show_scaling(cost: LabelingCost, workers: int) -> None:
    """Print what labeling takes of a cluster, with fewer and with more workers than asked for."""
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
    """Do a whole job: train what must be trained, label, distill, compare."""
    _do(job, PARTS, on, address, workers, log)


def make_command(part: Part) -> Callable[..., None]:
    """Make the command of one step."""

    def command(
        job: JobFile,
        on: On = None,
        address: Address = None,
        workers: Workers = None,
        log: Log = None,
    ) -> None:
        _do(job, (part,), on, address, workers, log)

    command.__doc__ = f"{_HELP[part]}\n\n{_MORE}"
    return command


def add_commands(app: typer.Typer) -> None:
    """Give all of them to the command line."""
    run.__doc__ = f"{run.__doc__}\n\n{_MORE}"
    for name, command in (("init", init), ("plan", plan), ("run", run)):
        app.command(name)(command)
    for part in PARTS:
        if part != "compare":  # which has more to offer, see attar.cli.compare
            app.command(part)(make_command(part))


def _do(
    path: Path,
    parts: Collection[Part],
    on: str | None,
    address: str | None,
    workers: int | None,
    log: str | None,
) -> None:
    job = choose_cluster(read_job(path), on, address, workers)
    with (
        event_log(log, job.folder) as events,
        make_engine(job.settings.cluster) as engine,
        showing() as show,
    ):
        run_job(job, parts, partial(_tell, show, events), engine)
    print(f"results are in {job.folder}")


def _tell(show: Tell, events: TensorBoardLog | None, now: ProgressRecord | str) -> None:
    """Show how far a job is, and write the steps of its trainings to event files, if any."""
    show(now)
    if events and isinstance(now, JobProgress) and now.update:
        events(now.update, run=now.title)


def show_plan(path: Path, plan: JobPlan) -> None:
    """Print what a job will take."""
    print(
        f"{path}: {plan.examples:,} examples of {plan.classes:,} classes, {plan.views} view(s), "
        f"{plan.members} teacher(s)"
    )
    lost = f"; lost, in nats, of {plan.measured_examples:,} examples" * bool(plan.measured_examples)
    table = Table(title=f"soft targets{lost}")
    table.add_column("encoding")
    names = [f"T = {each:g}" for each in plan.temperatures] if lost else []
    for name in ("bytes", "an example", *names):
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
    print(f"in all: about {duration(sum(step.seconds for step in plan.durations))}")
    if plan.memory_bytes is not None:
        print(f"memory at its highest: about {write_size(plan.memory_bytes)}")
    if plan.teacher is not None:
        print(f"teacher: {plan.teacher}, in this sample")
    if plan.note:
        print(plan.note)
    if plan.doubt is not None:
        print(f"warning: {plan.doubt}")
