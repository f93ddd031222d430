"""What the speech experiments are configured with."""

from dataclasses import dataclass

from attar.errors import AttarError, check_not_negative, check_positive
from attar.recipes.config import option, parse_numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """Where the frames come from, and their states."""

    corpus: str = option(
        "an4", "an4, fsdd, or a folder with train/, test/ and lexicon.txt as Kaldi has them."
    )
    data: str = option(
        "", "Where `attar data` has put it.  [default: a folder called as the corpus]"
    )
    held_out: int = option(
        0, "Training speakers on whom everything is chosen; 0: one in nine, one at least."
    )
    data_seed: int = option(0, "Draws these speakers.")
    states: int = option(400, "Tied states, at most.")
    align_units: int = option(256, "Units of the network that aligns once more.")
    align_epochs: int = option(4, "Its passes; 0: the mixtures' alignment stays.")

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_positive(states=self.states)
        check_not_negative(held_out=self.held_out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(DataConfig):
    """Acoustic models of a hybrid recognizer, their ensemble, and one network distilled from it.

    All networks are trained alike: the same shape, optimizer and number of updates, on the same
    distorted views of the same frames; they differ by what they learn from. Everything is chosen
    on training speakers that are held out.
    """

    seeds: int = option(10, "Members of the ensemble, each of which is a baseline.")
    layers: int = option(3, "Hidden layers of every network (the paper: 8).")
    units: int = option(512, "Units in each (the paper: 2560).")
    dropout: float = option(0.0, "Probability that a hidden unit is dropped.")
    epochs: int = option(8, "Passes over the frames, of every network.")
    batch_size: int = option(256, "Frames in a batch.")
    learning_rate: float = option(0.0015, "The highest one (AdamW).")
    views: int = option(8, "Distorted views of the frames, an epoch each, over and over.")
    shift: float = option(0.2, "Standard deviation of what a view adds to a feature.")
    masked_frames: int = option(4, "The longest run of frames that a view masks, of 26.")
    masked_band: int = option(4, "The widest band of features that a view masks.")
    temperatures: str = option("1,2,5,10", "Of the soft targets, one student each.")
    soft_weight: float = option(1.0, "Weight of the soft targets' loss.")
    hard_weight: float = option(0.5, "Weight of the hard targets' loss.")
    k: int = option(16, "Soft targets kept for each frame; the rest is kept as a tail.")

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
