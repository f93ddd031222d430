"""Records of a temperature search: its settings and its result."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from attar.errors import AttarError, FolderError, check_not_negative, check_positive
from attar.figures import Curve, draw_curves
from attar.records import read_sealed_json, write_sealed_json

SIGNIFICANT = 0.05  # level below which a p-value is significant


@dataclass(frozen=True, slots=True, kw_only=True)
class TemperatureSearch:
    """The candidates of a search, and the held-out fraction."""

    temperatures: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0)
    hard_weights: tuple[float, ...] | None = None  # None: that of the distillation
    held_out: float = 0.1  # fraction of the labeled examples that is held out

    def __post_init__(self) -> None:
        """Check the ranges."""
        for temperature in self.temperatures:
            check_positive(temperature=temperature)
        for hard_weight in self.hard_weights or ():
            check_not_negative(hard_weight=hard_weight)
        for name in ("temperatures", "hard_weights"):
            values = getattr(self, name)
            if values is not None and (not values or len(set(values)) < len(values)):
                raise AttarError(f"expected different {name}, at least one, got {values}")
        if not 0 < self.held_out < 1:
            raise AttarError(f"expected held_out in (0, 1), got {self.held_out}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One temperature and hard weight, and the held-out errors of its student."""

    temperature: float
    hard_weight: float
    errors: int
    nll: float  # mean negative log-likelihood of the true class, nats
    worse_by_chance: float  # p-value of its difference to the chosen one


@dataclass(frozen=True, slots=True, kw_only=True)
class TemperatureChoice:
    """The chosen temperature and hard weight, and the results of all candidates."""

    temperature: float
    hard_weight: float
    candidates: tuple[Candidate, ...]
    examples: int  # held out
    matters: bool  # whether any candidate is significantly worse than the chosen one

    def __str__(self) -> str:
        chosen = f"temperature {self.temperature:g}, hard weight {self.hard_weight:g}"
        errors = [candidate.errors for candidate in self.candidates]
        found = f"{min(errors)} to {max(errors)} errors on {self.examples} held-out examples"
        if not self.matters:
            return f"{chosen}; {found}, no candidate is significantly worse than the chosen one"
        worse = sum(each.worse_by_chance < SIGNIFICANT for each in self.candidates)
        return (
            f"{chosen}; {found}, {worse} of {len(errors)} candidates significantly worse than the "
            "chosen one"
        )

    def draw(self, path: Path | str) -> None:
        """Plot errors by temperature, one curve per hard weight, to a PNG or SVG file."""
        curves = []
        for hard_weight in sorted({each.hard_weight for each in self.candidates}):
            points = [each for each in self.candidates if each.hard_weight == hard_weight]
            points.sort(key=lambda each: each.temperature)
            x, y = zip(*((each.temperature, float(each.errors)) for each in points), strict=True)
            curves.append(Curve(f"hard weight {hard_weight:g}", x, y))
        draw_curves(
            Path(path),
            [curves],
            titles=[str(self).partition(";")[0]],
            x_label="temperature",
            y_label=f"errors of {self.examples} held-out examples",
            marked=self.temperature,
        )

    def write(self, path: Path, *, made_for: str) -> None:
        """Write the record as JSON with a checksum; `made_for` identifies the search."""
        write_sealed_json(path, {"made_for": made_for} | json.loads(json.dumps(asdict(self))))

    @classmethod
    def read(cls, path: Path, *, made_for: str | None = None) -> "TemperatureChoice":
        """Read a record written by `write`.

        Raises:
            FolderError: If it cannot be read, is not a record, or belongs to another search.
        """
        content = read_sealed_json(path)
        if content.pop("made_for", None) != made_for and made_for is not None:
            raise FolderError(
                f"{path} is the choice of a run with another student, data, store, settings or "
                "candidates; choose another checkpoint, or remove it to search again"
            )
        try:
            candidates = tuple(Candidate(**each) for each in content["candidates"])
            return cls(**content | {"candidates": candidates})
        except (KeyError, TypeError) as error:
            raise FolderError(f"{path} is not a temperature choice ({error})") from error
