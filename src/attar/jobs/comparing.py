"""The last step: teacher and students on the test set, with verdicts and a report."""

from collections.abc import Mapping
from dataclasses import replace

from attar.comparison import Comparison, compare
from attar.data import TransferSet
from attar.jobs.file import Job
from attar.jobs.steps import Step, Tell

COMPARISON, REPORT = "comparison.json", "report.html"


def compare_models(
    job: Job, models: Mapping[str, object], test_set: TransferSet, step: Step, tell: Tell
) -> None:
    """Compare the models, and keep what was found, and the report if the step has one."""
    found = compare(
        models,
        test_set,
        mean=job.settings.distill.mean,
        latency=job.settings.compare.latency,
        progress=tell,
    )
    found = replace(found, command=f"attar compare {job.path}")
    found.save(step.place / COMPARISON)
    outputs = [COMPARISON]
    if step.inputs["report"]:
        found.save_report(step.place / REPORT)
        outputs.append(REPORT)
    step.finish(*outputs)


def show_comparison(step: Step, tell: Tell) -> None:
    """Tell what a comparison found."""
    tell(str(Comparison.read(step.place / COMPARISON)))
    report = step.place / REPORT
    if report.exists():
        tell(f"the report: {report}")
