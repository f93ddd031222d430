"""The result of `attar.compare`: a record that can be printed, saved and reported."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from attar.comparison.table import write_tables
from attar.comparison_records import ComparisonRecord, tell
from attar.report import save_report
from attar.training import Epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison(ComparisonRecord):
    """Several models on one labeled set: `print` it, `save` it, `Comparison.read` it."""

    @property
    def headline(self) -> str | None:
        """The first sentence of the result.

        It states that the teacher is not better than the baseline, or else the verdicts on the
        first student. None if no pair was compared.
        """
        return next(iter(tell(self)), None)

    def __str__(self) -> str:
        """Write the verdicts, then the measurements and the costs."""
        return write_tables(self)

    def save_report(
        self,
        path: Path | str,
        *,
        title: str = "Did it help?",
        histories: Mapping[str, Sequence[Sequence[Epoch]]] | None = None,
    ) -> None:
        """Write the report, one self-contained HTML page.

        Args:
            path: Path of the page.
            title: Title of the page.
            histories: Name of a model -> training epochs of each seed, for curves.

        Raises:
            FolderError: If the page cannot be written; an earlier one is then unchanged.
        """
        save_report(self, path, title=title, histories=histories)
