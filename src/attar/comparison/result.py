"""What `attar.compare` returns: the record, and what one does with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from attar.comparison.table import write_tables
from attar.comparison_records import ComparisonRecord
from attar.report import save_report
from attar.training import Epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison(ComparisonRecord):
    """Several models on one labelled set: `print` it, `save` it, `Comparison.read` it."""

    def __str__(self) -> str:
        """Write verdicts first, then what was measured and what each model costs."""
        return write_tables(self)

    def save_report(
        self,
        path: Path | str,
        *,
        title: str = "Did it help?",
        histories: Mapping[str, Sequence[Sequence[Epoch]]] | None = None,
    ) -> None:
        """Write the report, one HTML page that needs nothing else.

        Args:
            path: Of the page.
            title: Of the page.
            histories: The epochs of each seed's training, by the model's name, for their curves.

        Raises:
            FolderError: If it cannot be written; what was there before is then unharmed.
        """
        save_report(self, path, title=title, histories=histories)
