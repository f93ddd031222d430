"""The last step: teacher and students on the test set, with verdicts and a report."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from attar.comparison import Comparison, compare
from attar.data import TransferSet
from attar.jobs.file import Job
from attar.jobs.histories import read_epochs
from attar.jobs.steps import Step, Tell
from attar.jobs.students import teacher_name
from attar.report import save_report

COMPARISON, REPORT = "comparison.json", "report.html"


def compare_models(
    job: Job,
    models: Mapping[str, object],
    test_set: TransferSet,
    trained: Mapping[str, Sequence[Path]],
    step: Step,
    tell: Tell,
) -> None:
    """Compare the models, and write the result and, if requested, the report.

    Args:
        job: The job.
        models: By name.
        test_set: The test set.
        trained: Name of a model -> the training folders of its seeds.
        step: The step.
        tell: Called with progress and messages.
    """
    distill = job.settings.distill
    found = compare(
        models,
        test_set,
        mean=distill.mean,
        member_weights=distill.member_weights if "teacher" in models else None,
        margin=job.settings.compare.margin,
        latency=job.settings.compare.latency,
        progress=tell,
    )
    found = replace(found, command=f"attar run {job.path}")
    found.save(step.place / COMPARISON)
    outputs = [COMPARISON]
    if step.inputs["report"]:
        save_report(
            found,
            step.place / REPORT,
            title=job.path.stem,
            histories={name: list(map(read_epochs, each)) for name, each in trained.items()},
            settings=dict(_flatten(job.settings.model_dump(mode="json"))),
        )
        outputs.append(REPORT)
    step.finish(*outputs)


def find_trainings(job: Job, students: Mapping[str, Sequence[Step]]) -> dict[str, list[Path]]:
    """Say in which folders the job trains its models; there may be nothing there."""
    folders = {name: [step.place for step in steps] for name, steps in students.items()}
    teachers = range(len(job.settings.teacher))
    return folders | {"teacher": [job.folder / teacher_name(place) for place in teachers]}


def _flatten(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, object]]:
    """Yield the settings of tables in tables, by names with dots; what is not set stays out."""
    for name, value in table.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value = {str(place): each for place, each in enumerate(value)}
        if isinstance(value, dict):
            yield from _flatten(value, f"{above}{name}.")
        elif value is not None:
            yield f"{above}{name}", value


def show_comparison(step: Step, tell: Tell) -> None:
    """Tell what a comparison found."""
    tell(str(Comparison.read(step.place / COMPARISON)))
    report = step.place / REPORT
    if report.exists():
        tell(f"the report: {report}")
