"""Tables 2 to 4 of Hinton et al. (2015), of a generalist and its specialists."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attar.comparison.statistics import Judged, mcnemar
from attar.data import TransferSet
from attar.metrics import negative_log_likelihood
from attar.recipes.specialist_config import PAPER, PAPER_GAINS
from attar.recipes.specialist_parts import Groups
from attar.recipes.work import Progress, WorkMeter, piece
from attar.records import ResultRow
from attar.specialists import SpecialistEnsemble, count_cover

_BATCH = 1000
_LEVEL = 0.05
_MOST = len(PAPER_GAINS) - 1  # table 4's last row is of so many specialists and more
SHOWN = 8  # groups in table 2


@dataclass(frozen=True, slots=True)
class Answers:
    """What generalist and ensemble say of a set's examples."""

    hard_targets: Tensor
    generalist: Tensor  # most probable classes [examples]
    ensemble: Tensor
    generalist_nll: float  # mean over the examples, nats
    ensemble_nll: float
    special_examples: int  # pairs of a specialist and an example of one of its classes
    special_right: int  # where the generalist is right, choosing among the specialist's classes
    special_right_ensemble: int  # where the specialist is
    active: float  # specialists of an example, mean
    steps: int  # of the descent, the most of a batch

    def judge(self) -> Judged:
        """Judge the difference of the error rates, ensemble less generalist."""
        generalist, ensemble = (
            (predicted != self.hard_targets).numpy()[None]
            for predicted in (self.generalist, self.ensemble)
        )
        return mcnemar(ensemble, generalist, level=_LEVEL)


def ask(
    ensemble: SpecialistEnsemble, examples: TransferSet, meter: WorkMeter
) -> Generator[Progress, None, Answers]:
    """Ask generalist, specialists and the ensemble about all examples, a batch at a time."""
    parts: list[tuple[Tensor, Tensor]] = []
    sums = np.zeros(6)
    steps = 0
    for indices in torch.arange(len(examples)).split(_BATCH):
        batch = examples.batch(indices)
        with torch.no_grad():
            features = ensemble.trunk(batch.inputs)
            logits = ensemble.generalist(features)
        found = ensemble.combine(logits, features)
        special = _ask_specialists(ensemble, features, logits, batch.hard_targets)
        parts.append((logits.argmax(dim=1), found.log_probabilities.argmax(dim=1)))
        losses = [
            float(negative_log_likelihood(each, batch.hard_targets).sum())
            for each in (logits, found.log_probabilities)
        ]
        active = int(ensemble.choose(logits).sum())
        sums += [*losses, *special, active]
        steps = max(steps, found.steps)
        meter.add(2 * len(indices))
        yield piece("measuring", int(indices[-1]) + 1, len(examples), meter)
    generalist, combined = (torch.cat(each) for each in zip(*parts, strict=True))
    count = len(examples)
    return Answers(
        hard_targets=examples.hard_targets,
        generalist=generalist,
        ensemble=combined,
        generalist_nll=sums[0] / count,
        ensemble_nll=sums[1] / count,
        special_examples=int(sums[2]),
        special_right=int(sums[3]),
        special_right_ensemble=int(sums[4]),
        active=sums[5] / count,
        steps=steps,
    )


def _ask_specialists(
    ensemble: SpecialistEnsemble, features: Tensor, logits: Tensor, hard_targets: Tensor
) -> tuple[int, int, int]:
    """Count, over specialists, examples of their classes, and those right among these classes."""
    examples = generalist = specialist = 0
    of_example = ensemble.known[hard_targets]  # [batch, specialists]
    for place in of_example.any(dim=0).nonzero().squeeze(1).tolist():
        rows = of_example[:, place].nonzero().squeeze(1)
        classes, truth = ensemble.classes_of(place), hard_targets[rows]
        examples += len(rows)
        chosen = logits[rows[:, None], classes].argmax(dim=1)
        generalist += int((classes[chosen] == truth).sum())
        asked = ensemble.ask(place, features[rows], logits[rows])
        chosen = asked[:, :-1].argmax(dim=1)
        specialist += int((classes[chosen] == truth).sum())
    return examples, generalist, specialist


def make_rows(answers: Answers, groups: Groups, classes: int) -> list[ResultRow]:
    """Make the rows of tables 3 and 4, in percent; where a table has none, it is left out."""
    right, right_ensemble = (
        each == answers.hard_targets for each in (answers.generalist, answers.ensemble)
    )
    count = len(groups.classes)

    def row(name: str, metric: str, value: float, paper: float | None) -> ResultRow:
        return ResultRow.over_seeds(name, [round(value, 2)], metric=metric, paper=paper)

    top_1, special = "top-1 accuracy, %", "accuracy among special classes, %"
    pairs = max(1, answers.special_examples)
    rows = [
        row("generalist", top_1, _percent(right), PAPER["generalist"]),
        row(f"with {count} specialists", top_1, _percent(right_ensemble), PAPER["ensemble"]),
        row("generalist", special, 100 * answers.special_right / pairs, PAPER["special"]),
        row(
            f"{count} specialists", special, 100 * answers.special_right_ensemble / pairs,
            PAPER["special ensemble"],
        ),
    ]  # fmt: skip
    for name, gain in table_4(answers, groups, classes):
        metric = "relative gain in top-1, %"
        place = int(gain["specialists"])
        rows.append(row(name, metric, gain["relative_gain_percent"], PAPER_GAINS[place]))
    return rows


def table_4(answers: Answers, groups: Groups, classes: int) -> list[tuple[str, dict[str, Any]]]:
    """Count the gain by the number of specialists that cover the true class."""
    cover = count_cover(groups.classes, classes)[answers.hard_targets].clamp(max=_MOST)
    right, right_ensemble = (
        each == answers.hard_targets for each in (answers.generalist, answers.ensemble)
    )
    table = []
    for specialists in range(_MOST + 1):
        here = cover == specialists
        before, after = int(right[here].sum()), int(right_ensemble[here].sum())
        if not before:
            continue
        more = " or more" * (specialists == _MOST)
        table.append(
            (
                f"true class covered by {specialists}{more}",
                {
                    "specialists": specialists,
                    "examples": int(here.sum()),
                    "right": before,
                    "more_right": after - before,
                    "relative_gain_percent": 100 * (after - before) / before,
                },
            )
        )
    return table


def table_2(groups: Groups, class_names: tuple[str, ...]) -> list[str]:
    """Name classes of some groups: those most alike to the others of their group."""
    return [
        " ".join(class_names[each] for each in central.tolist())
        for central in groups.central[:SHOWN]
    ]


def tell(answers: Answers) -> list[str]:
    """Say in words what came of it."""
    judged = answers.judge()
    low, high = (-100 * each for each in (judged.interval.high, judged.interval.low))
    return [
        f"specialists gain {-100 * judged.difference:+.2f} points in top-1 accuracy "
        f"(95 % interval {low:+.2f} to {high:+.2f}, exact McNemar p = {judged.p_value:.2g})",
        f"{answers.active:.2f} specialists are active for an example; NLL "
        f"{answers.generalist_nll:.4f} before, {answers.ensemble_nll:.4f} after",
    ]


def tell_kept(judged: Judged, *, distilled: float, continued: float) -> str:
    """Say which part of the specialists' gain one network has kept, if they gain anything.

    Args:
        judged: The error rates of the ensemble, less those of the generalist.
        distilled: What the network distilled from all gains over the generalist, in accuracy.
        continued: The same, of the generalist trained on as long with hard targets.
    """
    both = (
        f"one network distilled from all gains {100 * distilled:+.2f} points, the generalist "
        f"trained on as long with hard targets {100 * continued:+.2f}"
    )
    gain = -judged.difference
    if gain <= 0 or judged.p_value >= _LEVEL:
        return f"{both}; the specialists themselves have no significant gain to keep"
    return f"{both}; {distilled / gain:.0%} of the specialists' gain is kept"


def _percent(right: Tensor) -> float:
    return 100 * float(right.double().mean())
