"""A comparison in words, for the terminal and for reports alike."""

from dataclasses import replace

from attar.comparison_records.records import ComparisonRecord, ModelResult, Outcome, Verdict

_WORDS: dict[Outcome, str] = {
    "better": "BETTER than",
    "worse": "WORSE than",
    "undecided": "UNDECIDED against",
    "equivalent": "EQUIVALENT to",
}


def tell(record: ComparisonRecord) -> tuple[str, ...]:
    """Return the verdicts in sentences: a teacher that is not better first, then each student.

    A student is compared with the teacher, the baseline and the controls. Without any of these, the
    sentences are those of all pairs.
    """
    lead = tell_teacher(record)
    subjects = [model for model in record.models if model.role == "student"]
    if len(subjects) == len(record.models):
        sentences = [f"{_tell_pair(record, verdict)}." for verdict in record.verdicts]
    else:
        sentences = list(filter(None, (_tell_student(record, model) for model in subjects)))
    return (*([lead] if lead else []), *sentences)


def tell_teacher(record: ComparisonRecord) -> str | None:
    """Say that the teacher is not better than the baseline, if that is so; else return None."""
    standing = record.teacher_standing
    if standing == "not better":
        return (
            "The teacher is no better than the student without it; distillation cannot help. "
            "Train the teacher longer or use a better one."
        )
    if standing == "not shown":
        assert record.teacher and record.baseline
        verdict = record.verdict(record.teacher, record.baseline)
        assert verdict
        undecided = replace(verdict, outcome="undecided")  # as a difference, if it is equivalent
        equivalent = ""
        if verdict.within_margin:
            equivalent = f" and is EQUIVALENT to it within {tell_margin(record)}"
        return (
            "The teacher is not shown to be better than the student without it "
            f"({_tell_numbers(record, undecided)}){equivalent}, so distillation may not help. "
            "Train the teacher longer, use a better one, or test on more examples."
        )
    return None


def tell_verdict(record: ComparisonRecord, verdict: Verdict) -> str:
    """Return a verdict without the name of its first model.

    For example: `BETTER than hard targets (74 and 146 errors, p < 0.0001)`.
    """
    words = f"{_WORDS[verdict.outcome]} {verdict.other}"
    if verdict.outcome == "equivalent":
        words += f" within {tell_margin(record)}"
    elif verdict.within_margin:
        words += f", but within {tell_margin(record)}"
    return f"{words} ({_tell_numbers(record, verdict)})"


def tell_margin(record: ComparisonRecord) -> str:
    """Return the margin in percentage points of the error rate."""
    assert record.margin is not None
    points = 100 * record.margin
    return f"{points:.4g} point{'s' * (points != 1)}"


def tell_gap(record: ComparisonRecord, model: ModelResult) -> tuple[str, str] | None:
    """Return the share of the gap that a model closes, and its interval.

    If the share has no meaning, the first text is the reason, and the interval is empty. None for
    teacher and baseline, and if either is missing.
    """
    ends = (record.teacher, record.baseline)
    if None in ends or model.name in ends:
        return None
    gap, standing = model.gap_closed, record.teacher_standing
    if standing == "not better" or gap is None:
        return "no gap", ""
    if standing == "not shown" or gap.interval is None:
        return "gap not shown", ""
    interval = f"{gap.interval.low:.0%} to {gap.interval.high:.0%}".replace("-", "−")
    return "none" if gap.share <= 0 else f"{gap.share:.0%}", interval


def warn(record: ComparisonRecord) -> tuple[str, ...]:
    """Return warnings: outputs that are not numbers, few examples, classes without examples."""
    warnings = []
    for model in record.models:
        for seed, network in enumerate(model.networks):
            if not network.not_a_number:
                continue
            which = model.name if len(model.networks) == 1 else f"{model.name}, seed {seed}"
            count = f"{network.not_a_number:,} of {record.examples:,}"
            warnings.append(
                f"{which}: {count} outputs are not numbers (NaN); each counts as an error."
            )
    absent = sum(count == 0 for count in record.class_examples)
    if absent:
        of = f"{absent:,} of {len(record.class_names):,}"
        warnings.append(f"The test set has no examples of {of} classes; these are not measured.")
    if record.examples < 30:
        examples = "example" if record.examples == 1 else "examples"
        warnings.append(f"{record.examples} test {examples}: too few to show most differences.")
    return tuple(warnings)


def tell_errors(model: ModelResult) -> str:
    """Write a model's errors: 74 of one network, or 74.3 as the mean over seeds."""
    mean = model.mean("errors")
    assert mean is not None  # errors are always counted
    return f"{mean:,.0f}" if len(model.networks) == 1 else f"{mean:,.1f}"


def write_p_value(p_value: float) -> str:
    """Write a p-value with two significant digits.

    Example:
        >>> write_p_value(1.0), write_p_value(0.0129), write_p_value(3e-9)
        ('1', '0.013', '< 0.0001')
    """
    return f"{p_value:.2g}" if p_value >= 1e-4 else "< 0.0001"


def write_count(count: float) -> str:
    """Write a count, or a mean of counts over seeds, with one decimal unless it is whole.

    Example:
        >>> write_count(12345), write_count(14.0), write_count(79.2222)
        ('12,345', '14', '79.2')
    """
    return f"{count:,.0f}" if count % 1 == 0 else f"{count:,.1f}"


def _tell_numbers(record: ComparisonRecord, verdict: Verdict) -> str:
    """Return the errors of both models and the p-value; the interval too if undecided."""
    first, second = record.model(verdict.model), record.model(verdict.other)
    counts = f"{tell_errors(first)} and {tell_errors(second)} errors"
    p_value = verdict.p_value
    if verdict.outcome == "equivalent" and verdict.equivalence_p_value is not None:
        p_value = verdict.equivalence_p_value
    written = write_p_value(p_value)
    p = f"p {written}" if written.startswith("<") else f"p = {written}"
    if verdict.outcome != "undecided":
        return f"{counts}, {p}"
    low, high = (f"{100 * each:+.2f}" for each in (verdict.interval.low, verdict.interval.high))
    return f"{counts}, {p}, difference {low} to {high} points".replace("-", "−")


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
    share, interval = tell_gap(record, model) or ("", "")
    gap = f"the gap between {record.baseline} and {record.teacher}"
    if interval:
        return f"{sentence}; it closes {share} of {gap} ({interval})."
    if share == "gap not shown" and not tell_teacher(record):
        return f"{sentence}; {gap} is not shown, so no share of it is given."
    return f"{sentence}."
