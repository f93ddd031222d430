"""What `attar.compare` returns: the record, and what one does with it."""

from dataclasses import dataclass

from attar.comparison.table import write_tables
from attar.comparison_records import ComparisonRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison(ComparisonRecord):
    """Several models on one labelled set: `print` it, `save` it, `Comparison.read` it."""

    def __str__(self) -> str:
        """Write verdicts first, then what was measured and what each model costs."""
        return write_tables(self)
