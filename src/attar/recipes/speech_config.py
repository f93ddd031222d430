"""What the speech experiments are configured with."""

from dataclasses import dataclass

from attar.errors import AttarError, check_not_negative, check_positive
from attar.recipes.config import option, parse_numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """Where the frames come from, and their states."""

    corpus: str = option(
        "an4", "an4, fsdd, or a folder with train/, test/ and lexicon.txt in Kaldi's form."
    )
    data: str = option("", "Folder written by `attar data`.  [default: named as the corpus]")
    held_out: int = option(
        0, "Training speakers held out to choose settings; 0: one in nine, at least one."
    )
    data_seed: int = option(0, "Random seed for choosing these speakers.")
    states: int = option(400, "Maximum number of tied states.")
    align_units: int = option(256, "Units of the network for realignment.")
    align_epochs: int = option(
        4, "Passes of the realignment network; 0 keeps the mixtures' alignment."
    )

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

    seeds: int = option(10, "Members of the ensemble; each is also a baseline.")
    layers: int = option(3, "Hidden layers of each network (paper: 8).")
    units: int = option(512, "Units per hidden layer (paper: 2560).")
    dropout: float = option(0.0, "Probability of dropping a hidden unit.")
    epochs: int = option(8, "Passes over the frames, for each network.")
    batch_size: int = option(256, "Frames in a batch.")
    learning_rate: float = option(0.0015, "Peak learning rate (AdamW).")
    views: int = option(8, "Distorted views of the frames, one per epoch in turn.")
    shift: float = option(0.2, "Standard deviation of the shift of a feature in a view.")
    masked_frames: int = option(4, "Maximum number of consecutive frames masked in a view, of 26.")
    masked_band: int = option(4, "Maximum width of the band of features masked in a view.")
    temperatures: str = option("1,2,5,10", "Temperatures of the soft targets, one student each.")
    soft_weight: float = option(1.0, "Weight of the soft targets' loss.")
    hard_weight: float = option(0.5, "Weight of the hard targets' loss.")
    k: int = option(16, "Soft targets kept per frame, besides the tail.")

    def __post_init__(self) -> None:
        """Check the values that networks, losses and settings do not check."""
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
