"""The settings of `attar reproduce specialists`, and the paper's numbers."""

from dataclasses import dataclass, fields, replace
from typing import Any

from attar.errors import AttarError, check_not_negative, check_positive
from attar.recipes.config import option
from attar.recipes.generalist import DATA_HELP, GENERALIST_HELP

EXPERIMENT = "specialists"
TRAINS = ("upper", "all")
_GROUPS = ("specialists", "special_classes", "sketch_size", "sketch_examples", "group_temperature")
_TRAINING = (
    "trains", "epochs", "batch_size", "learning_rate", "weight_decay", "special_share",
    "temperature", "soft_weight",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A generalist of all classes, and specialists for those that it confuses.

    From the paper: half of a specialist's examples are special; the generalist's most probable
    class chooses the active ones. It has 61 specialists of 300 of 15,000 classes. All else is ours,
    chosen on held-out fonts of the training set (`--held-out`); docs/log.md tells how.
    """

    data: str = option("data/glyphs", DATA_HELP)
    generalist: str = option("", GENERALIST_HELP)
    generalist_epochs: int = option(6, "Passes of a generalist that is trained here.")
    classes: int = option(0, "Number of classes to use; 0 for all.")
    specialists: int = option(48, "Number of specialists.")
    special_classes: int = option(375, "Classes per specialist.")
    sketch_size: int = option(128, "Sketch size of each column of the predictions' covariance.")
    sketch_examples: int = option(40_000, "Training examples for the covariance.")
    group_temperature: float = option(2.0, "Temperature of the predictions for the covariance.")
    trains: str = option(
        "upper",
        "upper: specialists share the generalist's convolutions; all: they also train them.",
    )
    epochs: int = option(4, "Passes of a specialist over its special examples.")
    batch_size: int = option(256, "Examples in a batch of a specialist.")
    learning_rate: float = option(0.0003, "Peak learning rate of a specialist (AdamW).")
    weight_decay: float = option(0.05, "Weight decay of a specialist.")
    special_share: float = option(0.5, "Share of special examples in a specialist's training.")
    temperature: float = option(
        1.0, "Temperature of the generalist's soft targets for the other classes."
    )
    soft_weight: float = option(
        1.0, "Weight of the soft targets' loss; that of the hard targets is 1."
    )
    most_probable: int = option(
        1, "Most probable classes of the generalist that select the active specialists."
    )
    distilled_examples: int = option(
        60_000, "Training examples for distilling all into one network; 0 to skip."
    )
    distilled_epochs: int = option(
        1, "Passes of the distilled network, which starts from the generalist."
    )
    distilled_learning_rate: float = option(
        0.0005, "Peak learning rate of the distilled network (AdamW)."
    )
    distilled_temperature: float = option(
        2.0, "Temperature of the distilled network's soft targets."
    )
    distilled_hard_weight: float = option(
        0.5, "Weight of the distilled network's hard targets; that of the soft is 1."
    )
    k: int = option(16, "Number of logits stored per example.")
    seed: int = option(0, "Random seed of groups, order of examples and views.")
    held_out: int = option(0, "Faces to hold out of training and measure on, to choose settings.")

    def __post_init__(self) -> None:
        """Check the values that networks, losses and settings do not check."""
        check_not_negative(
            classes=self.classes, seed=self.seed, held_out=self.held_out,
            soft_weight=self.soft_weight, distilled_examples=self.distilled_examples,
            distilled_hard_weight=self.distilled_hard_weight,
        )  # fmt: skip
        check_positive(
            specialists=self.specialists, sketch_size=self.sketch_size,
            sketch_examples=self.sketch_examples, group_temperature=self.group_temperature,
            temperature=self.temperature, most_probable=self.most_probable, k=self.k,
        )  # fmt: skip
        if self.special_classes < 2:
            raise AttarError(
                f"expected special_classes of 2 or more, got {self.special_classes}; "
                "one class leaves nothing to tell apart"
            )
        if not 0 < self.special_share < 1:
            raise AttarError(f"expected special_share between 0 and 1, got {self.special_share}")
        if self.trains not in TRAINS:
            raise AttarError(f"expected trains to be upper or all, got {self.trains!r}")
        if self.generalist and self.held_out:
            raise AttarError("expected held_out without a generalist that has seen all faces")

    @property
    def of_groups(self) -> dict[str, Any]:
        """The settings that decide the groups."""
        return self._choose(_GROUPS)

    @property
    def of_specialists(self) -> dict[str, Any]:
        """The settings that decide the specialists."""
        return self._choose((*_GROUPS, *_TRAINING))

    def _choose(self, names: tuple[str, ...]) -> dict[str, Any]:
        return {
            each.name: getattr(self, each.name)
            for each in fields(self)
            if each.name in names or each.name == "seed"
        }


QUICK = replace(
    Config(), classes=500, generalist_epochs=8, specialists=10, special_classes=60, epochs=4,
    sketch_examples=4000, distilled_examples=4000, distilled_epochs=2,
)  # fmt: skip

# JFT, in percent: top-1 accuracy, and conditional accuracy on special classes (table 3); relative
# gain in top-1 by the number of specialists that cover the true class (table 4).
PAPER = {"generalist": 25.0, "ensemble": 26.1, "special": 43.1, "special ensemble": 45.9}
PAPER_GAINS = (0.0, 3.4, 7.4, 8.8, 10.5, 11.1, 11.3, 12.8, 13.6, 16.6, 14.1)
