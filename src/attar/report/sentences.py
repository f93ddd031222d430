"""What the report says in words, and how it writes numbers."""

from attar.comparison_records import ComparisonRecord, ModelResult, Outcome, Verdict
from attar.comparison_records.sentences import write_count

LONGEST_NAME = 60

_AGAINST_TEACHER: dict[Outcome, str] = {
    "better": "makes fewer errors than its teacher",
    "no difference": "shows no difference in errors to its teacher",
    "worse": "makes more errors than its teacher",
}
_AGAINST: dict[Outcome, str] = {
    "better": "fewer than",
    "no difference": "neither surely fewer nor surely more than",
    "worse": "more than",
}


def shorten(name: str) -> str:
    """Cut a long name, and keep one that runs from right to left from turning its surroundings.

    Example:
        >>> len(shorten("x" * 10_000))
        62
    """
    cut = name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
    return f"\u2068{' '.join(cut.split())}\u2069"  # between the marks that isolate a direction


def count(number: float | None, sd: float | None = None) -> str:
    r"""Write a number of errors, with its spread over seeds.

    Example:
        >>> count(67.0), count(91.0, 5.66), count(None)
        ('67', '91.0\xa0±\xa05.7', '–')
    """
    if number is None:
        return "–"
    return f"{number:,.1f}\xa0±\xa0{sd:,.1f}" if sd is not None else write_count(number)


def percent(fraction: float | None, digits: int = 2) -> str:
    """Write a fraction in percent.

    Example:
        >>> percent(0.9731), percent(None)
        ('97.31%', '–')
    """
    return "–" if fraction is None else f"{100 * fraction:.{digits}f}%"


def points(difference: float) -> str:
    """Write a difference of rates, in percentage points.

    Example:
        >>> points(-0.0125)
        '−1.25'
    """
    return f"{100 * difference:+.2f}".replace("-", "−")


def candidate(record: ComparisonRecord) -> ModelResult | None:
    """Return the student that the report is about: of the distilled ones, the best."""
    students = [model for model in record.models if model.role == "student"]
    return min(students, key=lambda model: model.mean("errors") or 0.0, default=None)


def headline(record: ComparisonRecord) -> str:
    """Say in one sentence whether the best student may stand in for its teacher."""
    many, student = "s" * (record.examples > 1), candidate(record)
    of = f"of {record.examples:,} test example{many}"
    if student is None:
        best = min(record.models, key=lambda model: model.mean("errors") or 0.0)
        return f"{shorten(best.name)} makes the fewest errors, {_errors(best)} {of}."
    to_teacher = _verdict(record, student, record.teacher)
    if to_teacher is None:
        sentence = f"{shorten(student.name)} makes {_errors(student)} errors {of}"
    else:
        teacher = record.model(to_teacher.other)
        sentence = (
            f"{shorten(student.name)} {_AGAINST_TEACHER[to_teacher.outcome]}: {_errors(student)} "
            f"against {_errors(teacher)} {of}{_savings(student, teacher)}"
        )
    to_baseline = _verdict(record, student, record.baseline)
    if to_baseline is not None:
        baseline = record.model(to_baseline.other)
        sentence += (
            f"; it makes {_AGAINST[to_baseline.outcome]} {shorten(baseline.name)}, the student "
            f"without a teacher ({_errors(baseline)})"
        )
    return sentence + "."


def _verdict(record: ComparisonRecord, model: ModelResult, other: str | None) -> Verdict | None:
    return None if other is None else record.verdict(model.name, other)


def _errors(model: ModelResult) -> str:
    return count(model.mean("errors"), model.sd("errors"))


def _savings(student: ModelResult, teacher: ModelResult) -> str:
    """Tell what of the teacher's cost is left."""
    parts = []
    if student.parameters and teacher.parameters:
        parts.append(f"with {student.parameters / teacher.parameters:.0%} of the parameters")
    if student.speeds and teacher.speeds:
        times = teacher.speeds[0].median_ms / student.speeds[0].median_ms
        parts.append(f"{times:.2g} times as fast")
    return "".join(f", {part}" for part in parts)
