"""The last step: teacher and students on the test set."""

from collections.abc import Mapping

import torch

from attar.data import TransferSet
from attar.jobs.steps import Step, Tell
from attar.metrics import is_error
from attar.records import read_json, write_json
from attar.teachers import as_teacher

COMPARISON = "comparison.json"


def compare_models(
    models: Mapping[str, object], test_set: TransferSet, step: Step, tell: Tell
) -> None:
    """Measure the models, and keep what was found."""
    found = {name: _count_errors(model, test_set) for name, model in models.items()}
    write_json(step.place / COMPARISON, {"examples": len(test_set), "errors": found})
    step.finish(COMPARISON)


def show_comparison(step: Step, tell: Tell) -> None:
    """Tell what a comparison found."""
    content = read_json(step.place / COMPARISON)
    for name, errors in content["errors"].items():
        tell(f"{name}: {', '.join(map(str, errors))} errors of {content['examples']:,}")


def _count_errors(model: object, test_set: TransferSet) -> list[int]:
    networks = model if isinstance(model, list) else [model]
    counts = []
    for network in networks:
        teacher, errors = as_teacher(network, class_names=test_set.class_names), 0
        for indices in torch.arange(len(test_set)).split(1000):
            batch = test_set.batch(indices)
            logits = teacher.logits(batch)
            if logits.ndim == 3:
                logits = torch.softmax(logits, dim=-1).mean(dim=0)
            errors += int(is_error(logits, batch.hard_targets).sum())
        counts.append(errors)
    return counts
