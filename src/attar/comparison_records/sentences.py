"""A comparison in words, for the terminal and for reports alike."""

from attar.comparison_records.records import ComparisonRecord, ModelResult, Outcome, Verdict

_WORDS: dict[Outcome, str] = {
    "better": "BETTER than",
    "no difference": "NO DIFFERENCE from",
    "worse": "WORSE than",
}


def tell(record: ComparisonRecord) -> tuple[str, ...]:
    """Say in one sentence for each student how it stands beside the teacher and the baseline.

    Without a teacher and a baseline that it was judged against, it stands beside the other models.
    """
    subjects = [model for model in record.models if model.role == "student"]
    if len(subjects) == len(record.models):
        return tuple(f"{_tell_pair(record, verdict)}." for verdict in record.verdicts)
    return tuple(filter(None, (_tell_student(record, model) for model in subjects)))


def tell_verdict(record: ComparisonRecord, verdict: Verdict) -> str:
    """Say how a model stands beside another one, the model itself left out.

    For example: `BETTER than hard targets (74 and 146 errors, p < 0.0001)`.
    """
    first, second = record.model(verdict.model), record.model(verdict.other)
    counts = f"{tell_errors(first)} and {tell_errors(second)} errors"
    p_value = write_p_value(verdict.p_value)
    p = f"p {p_value}" if p_value.startswith("<") else f"p = {p_value}"
    return f"{_WORDS[verdict.outcome]} {verdict.other} ({counts}, {p})"


def warn(record: ComparisonRecord) -> tuple[str, ...]:
    """Say what makes a reader careful: answers that are no numbers, few examples, empty classes."""
    warnings = []
    for model in record.models:
        for seed, network in enumerate(model.networks):
            if not network.not_a_number:
                continue
            which = model.name if len(model.networks) == 1 else f"{model.name}, seed {seed}"
            count = f"{network.not_a_number:,} of {record.examples:,}"
            warnings.append(f"{which}: {count} answers are not numbers (NaN); each is an error.")
    absent = sum(count == 0 for count in record.class_examples)
    if absent:
        of = f"{absent:,} of {len(record.class_names):,}"
        warnings.append(f"The test set has no example of {of} classes; of those it tells nothing.")
    if record.examples < 30:
        examples = "example" if record.examples == 1 else "examples"
        warnings.append(f"{record.examples} test {examples} can tell very little.")
    return tuple(warnings)


def tell_errors(model: ModelResult) -> str:
    """Write a model's errors: of its one network, or the mean over its seeds.

    Only the digits that say something: 74, or 74.3 over seeds.
    """
    mean = model.mean("errors")
    assert mean is not None  # errors are always counted
    return f"{mean:,.0f}" if len(model.networks) == 1 else f"{mean:,.1f}"


def write_p_value(p_value: float) -> str:
    """Write a p-value with two digits that mean something, as a cell of a table has it.

    Example:
        >>> write_p_value(1.0), write_p_value(0.0129), write_p_value(3e-9)
        ('1', '0.013', '< 0.0001')
    """
    return f"{p_value:.2g}" if p_value >= 1e-4 else "< 0.0001"


def write_count(count: float) -> str:
    """Write a count, or a mean of counts over seeds; one decimal, unless it is a whole number.

    Example:
        >>> write_count(12345), write_count(14.0), write_count(79.2222)
        ('12,345', '14', '79.2')
    """
    return f"{count:,.0f}" if count % 1 == 0 else f"{count:,.1f}"


def _tell_pair(record: ComparisonRecord, verdict: Verdict) -> str:
    return f"{verdict.model}: {tell_verdict(record, verdict)}"


def _tell_student(record: ComparisonRecord, model: ModelResult) -> str | None:
    others = [record.teacher, record.baseline]
    others += [other.name for other in record.models if other.role == "control"]
    named = dict.fromkeys(other for other in others if other not in (None, model.name))
    verdicts = [record.verdict(model.name, other) for other in named if other is not None]
    clauses = [tell_verdict(record, verdict) for verdict in verdicts if verdict]
    if not clauses:
        return None
    sentence = f"{model.name}: {', '.join(clauses)}"
    gap = model.gap_closed
    if gap is None:
        return f"{sentence}."
    closed = f"{sentence}; it closes {gap.share:.0%} of the gap between {record.baseline} and "
    if gap.interval is None:
        return f"{closed}{record.teacher}, a gap that is not sure to be there."
    low, high = gap.interval.low, gap.interval.high
    return f"{closed}{record.teacher} ({low:.0%} to {high:.0%})."
