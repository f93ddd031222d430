"""The closing table of the speech experiment: table 1 of the paper, and what stands behind it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from statistics import fmean, stdev
from typing import Any

from attar.recipes.speech_config import Config
from attar.recipes.speech_data import Prepared
from attar.recipes.speech_scoring import Score
from attar.recipes.speech_systems import Scores, Systems
from attar.records import ExperimentResult, ResultRow, this_machine

EXPERIMENT = "speech"
TUNED = (
    "every network decodes with the acoustic scale and word penalty that suit it best on held-out "
    "speakers"
)
NORMALIZED = (
    "features are normalized over all that a test speaker says; `attar transcribe` has one "
    "recording alone to normalize over, so its WER may be higher"
)
FRAMES, WORDS = "test frame accuracy, %", "test WER, %"
# Test frame accuracy and WER, in percent: Hinton et al. (2015), table 1.
PAPER = {"baseline": (58.9, 10.9), "ensemble": (61.1, 10.7), "distilled": (60.8, 10.7)}


def make_result(
    config: Config, prepared: Prepared, systems: Systems, scores: Scores, command: str
) -> ExperimentResult:
    """Put together what the run found."""
    chosen = config.student_temperatures[scores.chosen]
    named = {
        "baseline": (f"baseline, hard targets, {config.seeds} seeds", scores.baselines),
        "ensemble": (f"ensemble of the {config.seeds}, arithmetic mean", (scores.ensemble,)),
        "distilled": (f"one network distilled from it, T = {chosen:g}", (scores.distilled,)),
    }
    weights = sum(each.numel() for each in systems.students.member(0).parameters())
    rows = []
    for place, metric in enumerate((FRAMES, WORDS)):
        for kind, (name, found) in named.items():
            values = [_values(each)[place] for each in found]
            row = ResultRow.over_seeds(
                name, values, metric=metric, paper=PAPER[kind][place],
                parameters=weights * (config.seeds if kind == "ensemble" else 1),
            )  # fmt: skip
            rows.append(row)
    return ExperimentResult(
        experiment=EXPERIMENT,
        command=command,
        rows=tuple(rows),
        config=asdict(config),
        machine=this_machine(),
        wall_seconds=systems.wall_seconds,
        details={
            "corpus": prepared.describe(),
            "baselines": [each.to_json() for each in scores.baselines],
            "ensemble": scores.ensemble.to_json(),
            "distilled": scores.distilled.to_json(),
            "held-out frame accuracy by temperature": dict(_by_temperature(config, scores)),
            "share of the gain kept": _shares(scores),
            "notes": _notes(config, prepared, scores),
        },
    )


def share_kept(baselines: Sequence[float], *, ensemble: float, distilled: float) -> float | None:
    """Return the share of the ensemble's gain over its members that the distilled network keeps.

    Args:
        baselines: An error rate of each member.
        ensemble: Its error rate.
        distilled: The distilled network's.

    Returns:
        The share; None unless the ensemble is better than its members by more than twice their
        standard deviation, as a share of what chance may do means nothing.
    """
    gain = fmean(baselines) - ensemble
    if len(baselines) < 2 or gain <= 2 * stdev(baselines):
        return None
    return (fmean(baselines) - distilled) / gain


def _values(score: Score) -> tuple[float, float]:
    return 100 * score.test_accuracy, 100 * score.test.wer


def _shares(scores: Scores) -> dict[str, float | None]:
    def share(error_rate: Callable[[Score], float]) -> float | None:
        return share_kept(
            [error_rate(each) for each in scores.baselines],
            ensemble=error_rate(scores.ensemble),
            distilled=error_rate(scores.distilled),
        )

    return {
        "test frame accuracy": share(lambda score: 1 - score.test_accuracy),
        "held-out frame accuracy": share(lambda score: 1 - score.held_out_accuracy),
        "test WER": share(lambda score: score.test.wer),
    }


def _notes(config: Config, prepared: Prepared, scores: Scores) -> list[str]:
    notes = [tell_kept(_shares(scores))]
    for score in (scores.baselines[0], scores.ensemble, scores.distilled):
        notes.append(f"{score.name}: {score.test}; {tell_intervals(score)}")
    curve = ", ".join(f"{T}: {each:.1%}" for T, each in _by_temperature(config, scores))
    notes.append(f"held-out frame accuracy by temperature: {curve}")
    notes.append(f"corpus {prepared.describe()['name']}: {_tell(prepared.describe())}")
    return [*notes, TUNED, NORMALIZED]


def tell_kept(shares: Mapping[str, float | None]) -> str:
    """Say which part of the ensemble's gain one network has kept, if the ensemble gains."""
    frames, words = shares["test frame accuracy"], shares["test WER"]
    told = "the ensemble has no gain in frame accuracy beyond its members' deviation"
    if frames is not None:
        share = f"{frames:.0%}" if frames > 0 else "nothing"
        told = f"the distilled network keeps {share} of the ensemble's gain in frame accuracy"
    told += " (the paper: more than 80 %)"
    if words is None:
        return f"{told}; in WER the ensemble has no gain beyond its members' deviation to keep"
    return f"{told}, and {words:.0%} of that in WER"


def tell_intervals(score: Score) -> str:
    """Say where the WER lies for other utterances, and for other speakers."""
    low, high = score.interval_over_utterances
    told = f"95 % intervals: {low:.1%} to {high:.1%} for other utterances of these speakers, "
    if score.interval_over_speakers is None:
        rates = sorted(each.wer for each in score.by_speaker.values() if each.reference_words)
        return told + (
            f"none for other speakers, as {len(score.by_speaker)} are too few to tell "
            f"(they have {rates[0]:.1%} to {rates[-1]:.1%})"
        )
    low, high = score.interval_over_speakers
    return told + f"{low:.1%} to {high:.1%} for other speakers"


def _by_temperature(config: Config, scores: Scores) -> list[tuple[str, float]]:
    names = [f"{each:g}" for each in config.student_temperatures]
    return list(zip(names, scores.held_out_accuracies, strict=True))


def _tell(described: dict[str, Any]) -> str:
    parts: Sequence[str] = ("train", "held out", "test")
    return "; ".join(
        f"{part} {described[part]['utterances']} utterances of {described[part]['speakers']} "
        f"speakers, {described[part]['hours']:.2f} h"
        for part in parts
    )
