"""The sentences of the report, and the format of its numbers."""

from attar.comparison_records import ComparisonRecord, ModelResult, Outcome, Verdict, tell_teacher
from attar.comparison_records.sentences import tell_margin, write_count

LONGEST_NAME = 60

_AGAINST: dict[Outcome, str] = {
    "better": "makes fewer errors than",
    "worse": "makes more errors than",
    "undecided": "is not significantly different from",
    "equivalent": "is equivalent to",
}


def shorten(name: str) -> str:
    """Shorten a long name, and isolate its writing direction from the surrounding text.

    Example:
        >>> len(shorten("x" * 10_000))
        62
    """
    cut = name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
    return f"\u2068{' '.join(cut.split())}\u2069"  # between direction isolates


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
    """Return the student of the headline: the one with the fewest errors."""
    return min(_students(record), key=lambda model: model.mean("errors") or 0.0, default=None)


def headline(record: ComparisonRecord) -> str:
    """Return a sentence on whether the best student can replace its teacher.

    A sentence on a teacher that is not better than the baseline comes first.
    """
    lead = tell_teacher(record)
    return f"{lead} {_tell_student(record)}" if lead else _tell_student(record)


def _tell_student(record: ComparisonRecord) -> str:
    many, student = "s" * (record.examples > 1), candidate(record)
    of = f"of {record.examples:,} test example{many}"
    if student is None:
        best = min(record.models, key=lambda model: model.mean("errors") or 0.0)
        return f"{shorten(best.name)} makes the fewest errors, {_errors(best)} {of}."
    name, students = shorten(student.name), len(_students(record))
    if students > 1:  # selected by the errors that are reported here
        name = f"{name}, the best of {students} students on this test set,"
    to_teacher = _verdict(record, student, record.teacher)
    if to_teacher is None:
        sentence = f"{name} makes {_errors(student)} errors {of}"
    else:
        teacher = record.model(to_teacher.other)
        sentence = (
            f"{name} {_AGAINST[to_teacher.outcome]} its teacher{_limits(record, to_teacher)}"
            f"{_risk(to_teacher)}: "
            f"{_errors(student)} against {_errors(teacher)} errors {of}{_savings(student, teacher)}"
        )
    to_baseline = _verdict(record, student, record.baseline)
    if to_baseline is not None:
        baseline = record.model(to_baseline.other)
        sentence += (
            f"; it {_AGAINST[to_baseline.outcome]} the student without a teacher, "
            f"{shorten(baseline.name)} ({_errors(baseline)}){_limits(record, to_baseline)}"
        )
    return sentence + "."


def _students(record: ComparisonRecord) -> list[ModelResult]:
    return [model for model in record.models if model.role == "student"]


def _limits(record: ComparisonRecord, verdict: Verdict) -> str:
    """Return the limit of the difference, if it is significantly smaller than the margin."""
    if not verdict.within_margin:
        return ""
    margin = f"{tell_margin(record)} of error rate"
    return f", within {margin}" if verdict.outcome == "equivalent" else f", by less than {margin}"


def _risk(verdict: Verdict) -> str:
    """Return the upper limit of the difference if the pair is undecided."""
    if verdict.outcome != "undecided" or verdict.interval.high <= 0:
        return ""
    return f" (its error rate may be up to {100 * verdict.interval.high:.2f} points higher)"


def _verdict(record: ComparisonRecord, model: ModelResult, other: str | None) -> Verdict | None:
    return None if other is None else record.verdict(model.name, other)


def _errors(model: ModelResult) -> str:
    return count(model.mean("errors"), model.sd("errors"))


def _savings(student: ModelResult, teacher: ModelResult) -> str:
    """Return the student's cost relative to the teacher's."""
    parts = []
    if student.parameters and teacher.parameters:
        parts.append(f"with {student.parameters / teacher.parameters:.0%} of the parameters")
    if student.speeds and teacher.speeds:
        times = teacher.speeds[0].median_ms / student.speeds[0].median_ms
        parts.append(f"{times:.2g} times as fast" if times < 10 else f"{times:,.0f} times as fast")
    return "".join(f", {part}" for part in parts)
