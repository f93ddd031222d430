"""Ten acoustic models distilled into one: Hinton, Vinyals & Dean (2015), section 4 and table 1."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from attar.recipes.folder import claim_folder, is_finished
from attar.recipes.speech_config import Config
from attar.recipes.speech_data import prepare
from attar.recipes.speech_picture import draw_utterance
from attar.recipes.speech_results import EXPERIMENT, make_result
from attar.recipes.speech_results import PAPER as PAPER  # beside ours, as in every recipe
from attar.recipes.speech_systems import make_recognizer, score_systems, train_systems
from attar.recipes.stages import Progress

QUICK = replace(
    Config(), corpus="fsdd", align_units=160, align_epochs=2, seeds=3, units=128, layers=2,
    epochs=3, views=1, temperatures="2",
)  # fmt: skip


def run(config: Config, folder: Path, *, command: str) -> Iterator[Progress]:
    """Run the experiment in `folder`, or what is left of it; the result goes to `speech.json`.

    Each stage leaves its output there, from which a run that was stopped goes on: the alignment,
    the ensemble, its soft targets, the students, the score of each network, the recognizer, and a
    picture of one utterance.

    Yields:
        How far it is.

    Raises:
        AttarError: If an option, the corpus or the folder cannot be used, or a training diverges.
    """
    path = folder / f"{EXPERIMENT}.json"
    if is_finished(path, config):
        return
    with claim_folder(folder, EXPERIMENT, asdict(config), may_grow=""):
        prepared = yield from prepare(config, folder)
        systems = yield from train_systems(config, prepared, folder)
        scores = yield from score_systems(config, prepared, systems, folder)
        result = make_result(config, prepared, systems, scores, command)
        make_recognizer(prepared, systems, scores, folder).save(folder / "recognizer")
        best = systems.students.member(scores.chosen)
        draw_utterance(folder / "utterance.png", prepared, systems.teachers, best)
        result.write(path)
