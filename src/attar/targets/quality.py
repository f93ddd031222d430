"""Accuracy of a teacher, measured during labeling, and warnings about it."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attar.errors import AttarError
from attar.losses.checks import hard_cross_entropy
from attar.targets.manifest import AnswerCounts, ShardEntry, StorePlan

FEWEST_LABELED = 50  # labeled examples needed for a warning
_MOST_CLASSES = 256  # with counts in a shard; all others have less than 1/256 of its examples
_LEVEL = 0.05  # significance level of the tests on all labeled examples
_EARLY_LEVEL = 0.001  # of the tests on the first shards, which are repeated
_ONE_CLASS = 0.9  # share of a class above which examples are assumed to be sorted by class
_MIXED = 0.1  # largest difference of a class's share in the first shards and the set
_TOLERANCE = 0.05  # how far the accuracy may be below the expected one
MOST_NATS = 20.0  # limit of an example's NLL, so that a probability of 0 does not dominate
_INFORMATIVE = 0.9  # an NLL below this fraction of the class entropy is better than guessing
CAUSES = (
    "inputs normalized differently than in the teacher's training, classes in another order, "
    "a missing model input (token types, attention mask), a model left in training mode, the wrong "
    "checkpoint"
)


@dataclass(frozen=True, slots=True)
class TeacherQuality:
    """Accuracy of a teacher on the examples of a transfer set that have a hard target.

    Members of an ensemble are stored separately, so the accuracy of their mean is unknown:
    `accuracy` and `nll` are averages over the `members`.
    """

    labeled: int  # examples with a hard target
    classes: int
    accuracy: float  # fraction whose most probable class is the true one
    nll: float  # mean of -log p of the true class at T = 1, in nats, at most 20 per example
    # On the labeled examples; approximate with more than 256 classes.
    most_frequent_class_share: float
    class_entropy: float  # of the classes' frequencies, in nats
    members: tuple["TeacherQuality", ...] = ()  # empty for a single teacher

    def __str__(self) -> str:
        """Return a one-line summary."""
        about = (
            f"{_percent(self.accuracy)} of {self.labeled:,} labeled examples (most frequent class "
            f"{_percent(self.most_frequent_class_share)}), NLL {self.nll:.2f}"
        )
        if not self.members:
            return f"right on {about}"
        known = [each.accuracy for each in self.members if each.labeled]
        span = f"{_percent(min(known))} to {_percent(max(known))}"
        return f"{len(self.members)} members, right on {span}, on average on {about}"


class AnswerTally:
    """Counts a teacher's right answers in batches."""

    def __init__(self, classes: int) -> None:
        """Start without any."""
        self.labeled, self.right, self.nll_sum = 0, 0, 0.0
        self.class_counts = torch.zeros(classes, dtype=torch.int64)

    def add(self, logits: Tensor, hard_targets: Tensor) -> None:
        """Count a batch: logits `[batch, classes]`, hard targets `[batch]`, -1 for none."""
        truth, z = hard_targets.cpu(), logits.detach().cpu()
        known = truth[truth >= 0]
        if len(known) == 0:
            return
        self.labeled += len(known)
        # max is 15 times as fast as argmax; -1 is never the most probable class.
        self.right += int((z.max(dim=-1).indices == truth).sum())
        nll = hard_cross_entropy(z, truth).clamp(max=MOST_NATS)  # 0 where there is no hard target
        self.nll_sum += float(nll.double().sum())
        self.class_counts += torch.bincount(known, minlength=len(self.class_counts))

    def counts(self) -> AnswerCounts:
        """Return the counts."""
        order = self.class_counts.argsort(descending=True, stable=True)[:_MOST_CLASSES]
        pairs = zip(order.tolist(), self.class_counts[order].tolist(), strict=True)
        # Six digits: further ones depend on the processor. Finite: JSON has no infinity.
        nll_sum = float(f"{min(self.nll_sum, 1e300):.6g}")
        return AnswerCounts(
            self.labeled, self.right, nll_sum, tuple(pair for pair in pairs if pair[1])
        )


def counted_view(plan: StorePlan) -> int:
    """Return the number of the view in which answers are counted: 0, or else the first."""
    numbers = [view.number for view in plan.views]
    return 0 if 0 in numbers else numbers[0]


def pool_answers(plan: StorePlan, entries: Sequence[ShardEntry]) -> TeacherQuality | None:
    """Summarize the counts of a store's shards; None if they have no labeled example."""
    members: list[list[AnswerCounts]] = [[] for _ in range(plan.member_count)]
    for entry in entries:
        if entry.answers is not None:
            members[entry.member].append(entry.answers)
    return summarize_answers(members, plan.classes)


def summarize_answers(
    members: Sequence[Sequence[AnswerCounts]], classes: int
) -> TeacherQuality | None:
    """Pool counts of each member's answers; None if they have no labeled example."""
    each = tuple(_summarize(counts, classes) for counts in members)
    known = [quality for quality in each if quality.labeled]
    if not known:
        return None
    if len(each) == 1:
        return each[0]
    most = max(known, key=lambda quality: quality.labeled)
    return TeacherQuality(
        labeled=most.labeled,
        classes=classes,
        accuracy=math.fsum(quality.accuracy for quality in known) / len(known),
        nll=math.fsum(quality.nll for quality in known) / len(known),
        most_frequent_class_share=most.most_frequent_class_share,
        class_entropy=most.class_entropy,
        members=each,
    )


def _summarize(counts: Sequence[AnswerCounts], classes: int) -> TeacherQuality:
    labeled = sum(one.labeled for one in counts)
    if not labeled:
        return TeacherQuality(0, classes, math.nan, math.nan, math.nan, math.nan)
    shares = [count / labeled for count in _add_up(counts).values()]
    return TeacherQuality(
        labeled=labeled,
        classes=classes,
        accuracy=sum(one.right for one in counts) / labeled,
        nll=math.fsum(one.nll_sum for one in counts) / labeled,
        most_frequent_class_share=max(shares),
        class_entropy=-math.fsum(share * math.log(share) for share in shares),
    )


def is_mixed(counts: Sequence[AnswerCounts], hard_targets: Tensor | None) -> bool:
    """Return whether class frequencies in the first shards are similar to those in the set.

    They are not if the examples are sorted by class. Without the hard targets of the whole set, the
    result is False if nearly all examples have the same class.
    """
    labeled = sum(one.labeled for one in counts)
    frequencies = _add_up(counts)
    if not labeled or hard_targets is None:
        return max(frequencies.values(), default=0) <= _ONE_CLASS * labeled
    whole = hard_targets[hard_targets >= 0].cpu().bincount().double()
    here = torch.zeros_like(whole)
    here[list(frequencies)] = torch.tensor(list(frequencies.values())).double()
    return bool((here / labeled - whole / whole.sum()).abs().max() <= _MIXED)


def _add_up(counts: Sequence[AnswerCounts]) -> Counter[int]:
    frequencies: Counter[int] = Counter()
    for one in counts:
        frequencies.update(dict(one.class_counts))
    return frequencies


def check_expected_accuracy(expected_accuracy: float | None) -> None:
    """Raise `AttarError` unless the value is a fraction above 0, or None."""
    if expected_accuracy is not None and not 0 < expected_accuracy <= 1:
        raise AttarError(
            f"expected_accuracy must be a fraction above 0 and at most 1, "
            f"got {expected_accuracy}; 80 % is 0.8"
        )


def find_doubt(
    quality: TeacherQuality | None,
    expected_accuracy: float | None = None,
    *,
    is_early: bool = False,
) -> str | None:
    """Return a warning if a teacher looks wrong; None if not, or if there are too few examples.

    It looks wrong in two cases. First, its accuracy is not significantly higher than that of always
    predicting the most frequent class (one-sided binomial test, 5 %), and its NLL is at least 0.9
    times the entropy of the class frequencies. The NLL is used because with rare classes the
    accuracy of a good teacher may not exceed the share of the most frequent class. Second, its
    accuracy is significantly more than 5 percentage points below the expected accuracy.

    Args:
        quality: Accuracy and NLL of the teacher.
        expected_accuracy: Known accuracy of the teacher.
        is_early: Whether these are the first shards, which are tested again after each shard. The
            tests are then stricter.

    Returns:
        The problem and its usual causes, in one line.
    """
    if quality is None:
        return None
    find = _find_early_reason if is_early else _find_reason
    reasons = [find(each, expected_accuracy) for each in quality.members or (quality,)]
    doubted = [member for member, reason in enumerate(reasons) if reason]
    if not doubted:
        return None
    first, *others = doubted
    who = f"member {first} of the teacher's {len(reasons)}" if quality.members else "the teacher"
    more = f"; also wrong: members {', '.join(map(str, others))}" if others else ""
    return f"{who} is {'so far ' * is_early}{reasons[first]}{more}; usual causes: {CAUSES}"


def find_store_doubt(
    quality: TeacherQuality | None, expected_accuracy: float | None = None
) -> str | None:
    """Return the warning for a finished store; also if the accuracy cannot be checked."""
    labeled = 0 if quality is None else quality.labeled
    if expected_accuracy is not None and labeled < FEWEST_LABELED:
        return (
            f"checking expected_accuracy needs at least {FEWEST_LABELED} examples with a hard "
            f"target, got {labeled}; leave it out or add hard targets"
        )
    return find_doubt(quality, expected_accuracy)


def _find_reason(quality: TeacherQuality, expected: float | None) -> str:
    labeled = quality.labeled
    if labeled < FEWEST_LABELED:
        return ""
    right = round(quality.accuracy * labeled)
    chance, meaning = quality.most_frequent_class_share, "always predicting the most frequent class"
    if chance == 1:  # then every other prediction would be wrong
        chance, meaning = 1 / quality.classes, f"a guess among {quality.classes:,} classes"
    is_informative = quality.nll < _INFORMATIVE * quality.class_entropy
    if not is_informative and _at_least(right, labeled, chance) > _LEVEL:
        than = f"than {meaning} ({_percent(chance)})"
        return f"{_accuracy(quality)}, not significantly more often {than}"
    if expected is not None and _at_most(right, labeled, expected - _TOLERANCE) < _LEVEL:
        return f"{_accuracy(quality)}, far below the expected {_percent(expected)}"
    return ""


def _find_early_reason(quality: TeacherQuality, expected: float | None) -> str:
    labeled = quality.labeled
    if labeled < FEWEST_LABELED:
        return ""
    right = round(quality.accuracy * labeled)
    chance = 1 / quality.classes
    is_guess = _at_least(right, labeled, chance) > _LEVEL
    if is_guess and _at_most(right, labeled, chance + (1 - chance) / 4) < _EARLY_LEVEL:
        return (
            f"{_accuracy(quality)}, not significantly more often than a guess among "
            f"{quality.classes:,} classes ({_percent(chance)})"
        )
    if expected is not None and _at_most(right, labeled, (chance + expected) / 2) < _EARLY_LEVEL:
        return f"{_accuracy(quality)}, far below the expected {_percent(expected)}"
    return ""


def _accuracy(quality: TeacherQuality) -> str:
    return f"right on {_percent(quality.accuracy)} of {quality.labeled:,} labeled examples"


def _at_most(right: int, labeled: int, rate: float) -> float:
    """Return the probability of at most this many right answers at a rate."""
    from scipy.special import bdtr  # here: importing it takes a while

    return float(bdtr(right, labeled, rate)) if rate > 0 else 1.0


def _at_least(right: int, labeled: int, rate: float) -> float:
    """Return the probability of at least this many right answers at a rate."""
    from scipy.special import bdtrc

    return float(bdtrc(right - 1, labeled, rate)) if right else 1.0


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"
