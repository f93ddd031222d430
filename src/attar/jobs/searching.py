"""`temperature = "auto"`: check its requirements, and store its result."""

import copy
from pathlib import Path

import torch
from torch import nn

from attar.cohorts import Cohort
from attar.data import TransferSet
from attar.errors import AttarError
from attar.files import write_atomically
from attar.jobs.file import Job
from attar.jobs.sources import AnySet
from attar.jobs.steps import Step
from attar.jobs.values import AUTO
from attar.temperatures import TemperatureChoice, TemperatureSearch, hold_out

CHOICE, CURVE = "temperature.json", "temperature.svg"
SEARCH = TemperatureSearch()  # the search that "auto" runs


def check_search(job: Job, student: nn.Module, transfer_set: AnySet) -> None:
    """Raise `JobError` if the job uses "auto" and its requirements are not met.

    The search needs held-out examples with hard targets, and a student whose copies can be trained
    together.
    """
    if job.settings.distill.temperature != AUTO:
        return
    inputs = transfer_set.batch(torch.arange(min(2, len(transfer_set)))).inputs
    with job.blaming("distill", "temperature"):
        learned_from(transfer_set)
        try:
            with torch.random.fork_rng(devices=[]):  # for dropout
                Cohort([copy.deepcopy(student) for _ in range(2)]).train()(inputs)
        except AttarError as error:
            raise AttarError(f"{error}; or try temperature = 4.0") from error


def learned_from(transfer_set: AnySet) -> int:
    """Return the number of training examples of the candidates of a search."""
    if not isinstance(transfer_set, TransferSet):
        raise AttarError('expected a number for a streamed set, got "auto"; try temperature = 4.0')
    return len(hold_out(transfer_set, SEARCH.held_out, seed=0)[0])


def keep_choice(step: Step, checkpoint: Path) -> tuple[str, ...]:
    """Write the choice, as JSON and as a plot, to the step's folder; return the file names."""
    found = choice_path(checkpoint)
    if not found.exists():
        return ()
    write_atomically(step.place / CHOICE, found.read_bytes())
    TemperatureChoice.read(found).draw(step.place / CURVE)
    return CHOICE, CURVE


def choice_path(checkpoint: Path) -> Path:
    """Return the path to which `attar.distill` writes its choice."""
    return checkpoint.with_name(f"{checkpoint.name}.choice.json")
