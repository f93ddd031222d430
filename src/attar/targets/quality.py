"""How often a teacher is right, counted while it labels, and when that gives reason for doubt."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attar.errors import AttarError
from attar.losses.checks import hard_cross_entropy
from attar.targets.manifest import AnswerCounts, ShardEntry, StorePlan

FEWEST_LABELED = 50  # a teacher is not doubted on fewer examples
_MOST_CLASSES = 256  # whose counts a shard keeps: all others have less than 1/256 of its examples
_LEVEL = 0.05  # of the tests on all labeled examples
_EARLY_LEVEL = 0.001  # of those on the first shards, which are repeated after each shard
_ONE_CLASS = 0.9  # share of a class from which on examples seem to be sorted by class
_MIXED = 0.1  # how much a class's share in the first shards may differ from that in the whole set
_TOLERANCE = 0.05  # how far below the expected accuracy a teacher may be
MOST_NATS = 20.0  # that an example counts for: a probability of 0 would outweigh all others
_INFORMATIVE = 0.9  # an NLL below this part of the classes' entropy is not that of a guess
CAUSES = (
    "inputs normalized in another way than the teacher was trained with, classes in another "
    "order, an input that the model needs but did not get (token types, attention mask), "
    "a model left in training mode, the wrong checkpoint"
)


@dataclass(frozen=True, slots=True)
class TeacherQuality:
    """How often a teacher is right on the examples of a transfer set that have a hard target.

    Members of an ensemble are stored one by one, so the accuracy of their mean is not known:
    `accuracy` and `nll` are the means of those of the `members`.
    """

    labeled: int  # examples with a hard target
    classes: int
    accuracy: float  # fraction of them where the most probable class is the true one
    nll: float  # mean of -log p of the true class at T = 1, in nats, 20 an example at most
    # Of those examples; both are approximate if there are more than 256 classes.
    most_frequent_class_share: float
    class_entropy: float  # of the classes' frequencies, in nats
    members: tuple["TeacherQuality", ...] = ()  # none for a single teacher

    def __str__(self) -> str:
        """Say it in one line."""
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
    """Counts a teacher's right answers, a batch at a time."""

    def __init__(self, classes: int) -> None:
        """Begin with none."""
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
        """Return what was counted."""
        order = self.class_counts.argsort(descending=True, stable=True)[:_MOST_CLASSES]
        pairs = zip(order.tolist(), self.class_counts[order].tolist(), strict=True)
        # Six digits: what follows them depends on the processor. Finite: JSON has no infinity.
        nll_sum = float(f"{min(self.nll_sum, 1e300):.6g}")
        return AnswerCounts(
            self.labeled, self.right, nll_sum, tuple(pair for pair in pairs if pair[1])
        )


def counted_view(plan: StorePlan) -> int:
    """Return the number of the view in which answers are counted: 0, or else the first one."""
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
    """Tell whether the classes of the first shards are about as frequent as in the whole set.

    They are not if the examples are sorted by class. Without the hard targets of the whole set, the
    answer is no if nearly all examples are of one class.
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
    """Raise `AttarError` unless it is a fraction above 0, or None."""
    if expected_accuracy is not None and not 0 < expected_accuracy <= 1:
        raise AttarError(
            f"expected expected_accuracy as a fraction, above 0 and at most 1, "
            f"got {expected_accuracy}; 80 % is 0.8"
        )


def find_doubt(
    quality: TeacherQuality | None,
    expected_accuracy: float | None = None,
    *,
    is_early: bool = False,
) -> str | None:
    """Say why a teacher looks wrong; None if it does not, or if there are too few examples.

    It looks wrong if it is not significantly more often right than always answering the most
    frequent class (one-sided binomial test, 5 %) while its NLL is no better than 0.9 of the
    entropy of the class frequencies, or if it is significantly more than 5 percentage points below
    the expected accuracy. The NLL counts because a good teacher of rare classes may be right no
    more often than the most frequent class is.

    Args:
        quality: What was counted.
        expected_accuracy: Fraction of right answers that the teacher is known to have.
        is_early: These are the first shards, judged again after each: only a teacher that is far
            off is doubted.

    Returns:
        What is wrong and its usual causes, in one line.
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
    more = f"; members in doubt too: {', '.join(map(str, others))}" if others else ""
    return f"{who} is {'so far ' * is_early}{reasons[first]}{more}; usual causes: {CAUSES}"


def find_store_doubt(
    quality: TeacherQuality | None, expected_accuracy: float | None = None
) -> str | None:
    """Do what `find_doubt` does for a finished store; also say if the accuracy is not checked."""
    labeled = 0 if quality is None else quality.labeled
    if expected_accuracy is not None and labeled < FEWEST_LABELED:
        return (
            f"expected {FEWEST_LABELED} examples with a hard target, or more, to check "
            f"expected_accuracy, got {labeled}; leave it out, or give more hard targets"
        )
    return find_doubt(quality, expected_accuracy)


def _find_reason(quality: TeacherQuality, expected: float | None) -> str:
    labeled = quality.labeled
    if labeled < FEWEST_LABELED:
        return ""
    right = round(quality.accuracy * labeled)
    chance, meaning = quality.most_frequent_class_share, "always answering the most frequent class"
    if chance == 1:  # then every other answer would be a fault
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
    """Return the probability of so few right answers, or fewer, at a rate."""
    from scipy.special import bdtr  # here: importing it takes a while

    return float(bdtr(right, labeled, rate)) if rate > 0 else 1.0


def _at_least(right: int, labeled: int, rate: float) -> float:
    """Return the probability of so many right answers, or more, at a rate."""
    from scipy.special import bdtrc

    return float(bdtrc(right - 1, labeled, rate)) if right else 1.0


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"
