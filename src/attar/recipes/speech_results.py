"""The closing table of the speech experiment: table 1 of the paper, and what stands behind it."""

from collections.abc import Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from attar.recipes.speech_config import Config
from attar.recipes.speech_data import Prepared
from attar.recipes.speech_scoring import Score
from attar.recipes.speech_systems import Scores, Systems
from attar.records import ExperimentResult, ResultRow, this_machine

EXPERIMENT = "speech"
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


def share_kept(baseline: float, ensemble: float, distilled: float) -> float | None:
    """Return the share of the ensemble's gain over a baseline that the distilled network keeps."""
    gain = ensemble - baseline
    return (distilled - baseline) / gain if gain else None


def _values(score: Score) -> tuple[float, float]:
    return 100 * score.test_accuracy, 100 * score.test.wer


def _shares(scores: Scores) -> dict[str, float | None]:
    def share(measure: str) -> float | None:
        def value(score: Score) -> float:
            of = {
                "test frame accuracy": score.test_accuracy,
                "held-out frame accuracy": score.held_out_accuracy,
                "test WER": score.test.wer,
            }
            return of[measure]

        baseline = fmean(value(each) for each in scores.baselines)
        return share_kept(baseline, value(scores.ensemble), value(scores.distilled))

    return {each: share(each) for each in
            ("test frame accuracy", "held-out frame accuracy", "test WER")}  # fmt: skip


def _notes(config: Config, prepared: Prepared, scores: Scores) -> list[str]:
    shares = _shares(scores)
    kept = shares["test frame accuracy"]
    notes = []
    if kept is not None:
        share = f"{kept:.0%}" if kept > 0 else "nothing"
        notes.append(
            f"the distilled network keeps {share} of the ensemble's gain in frame accuracy "
            "(the paper: more than 80 %)"
        )
    for score in (scores.baselines[0], scores.ensemble, scores.distilled):
        low, high = score.interval
        notes.append(f"{score.name}: {score.test}; {low:.1%} to {high:.1%} with 95 % of confidence")
    curve = ", ".join(f"{T}: {each:.1%}" for T, each in _by_temperature(config, scores))
    notes.append(f"held-out frame accuracy by temperature: {curve}")
    notes.append(f"corpus {prepared.describe()['name']}: {_tell(prepared.describe())}")
    return notes


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
