"""Ten acoustic models distilled into one: section 4 and table 1 of Hinton, Vinyals & Dean (2015)."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from attar.errors import AttarError, check_not_negative, check_positive
from attar.recipes.config import option, parse_numbers
from attar.recipes.folder import claim_folder, is_finished
from attar.recipes.speech_data import DataConfig, prepare, save_recognizer
from attar.recipes.speech_results import make_result
from attar.recipes.speech_systems import score_systems, train_systems
from attar.recipes.stages import Progress
from attar.records import write_json

EXPERIMENT = "speech"

@dataclass(frozen=True, slots=True, kw_only=True)
class Config(DataConfig):
    """Acoustic models of a hybrid recognizer, their ensemble, and one network distilled from it.

    All networks are trained alike: the same shape, optimizer and number of updates, on the same
    distorted views of the same frames; they differ by what they learn from. Everything is chosen
    on training speakers that are held out.
    """

    seeds: int = option(10, "Members of the ensemble, each of which is a baseline.")
    layers: int = option(3, "Hidden layers of every network (the paper: 8).")
    units: int = option(256, "Units in each (the paper: 2560).")
    dropout: float = option(0.2, "Probability that a hidden unit is dropped.")
    epochs: int = option(6, "Passes over the frames, of every network.")
    batch_size: int = option(512, "Frames in a batch.")
    learning_rate: float = option(0.002, "The highest one (AdamW).")
    views: int = option(2, "Distorted views of the frames, an epoch each, over and over.")
    shift: float = option(0.3, "Standard deviation of what a view adds to a feature.")
    masked_frames: int = option(6, "The longest run of frames that a view masks, of 26.")
    masked_band: int = option(6, "The widest band of features that a view masks.")
    temperatures: str = option("1,2,5,10", "Of the soft targets, one student each.")
    soft_weight: float = option(1.0, "Weight of the soft targets' loss.")
    hard_weight: float = option(0.5, "Weight of the hard targets' loss.")
    k: int = option(24, "Soft targets kept for each frame; the rest is kept as a tail.")

    def __post_init__(self) -> None:
        """Check what the networks, losses and settings made from it do not."""
        DataConfig.__post_init__(self)
        check_positive(
            seeds=self.seeds, epochs=self.epochs, soft_weight=self.soft_weight, k=self.k,
            learning_rate=self.learning_rate, batch_size=self.batch_size,
        )  # fmt: skip
        check_not_negative(views=self.views, hard_weight=self.hard_weight, shift=self.shift)
        if any(each < 1 for each in self.student_temperatures):
            found = f"got {self.temperatures}"
            raise AttarError(f"expected temperatures of 1 or more for sparse soft targets, {found}")

    @property
    def student_temperatures(self) -> tuple[float, ...]:
        """The temperatures as numbers."""
        return parse_numbers("temperatures", self.temperatures)

    @property
    def view_numbers(self) -> tuple[int, ...]:
        """Which views are shown; without distorted ones the plain frames."""
        return tuple(range(1, self.views + 1)) if self.views else (0,)


QUICK = replace(
    Config(), corpus="fsdd", seeds=3, units=128, layers=2, epochs=3, views=1, temperatures="2",
)  # fmt: skip


def run(config: Config, folder: Path, *, command: str) -> Iterator[Progress]:
    """Run the experiment in `folder`, or what is left of it; the result goes to `speech.json`.

    Each stage leaves its output there, from which a run that was stopped goes on: the alignment,
    the ensemble, its soft targets, the students, the score of each network, the recognizer.

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
        best = systems.students.member(scores.chosen)
        save_recognizer(folder / "recognizer", prepared, best, scores.distilled.settings)
        write_json(path, result)
