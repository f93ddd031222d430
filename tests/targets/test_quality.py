"""When a teacher is doubted; that its answers are counted right, see tests/test_labeling.py."""

import hashlib
import json
import math
import re

import pytest
import torch
from labeled import make_jittered, make_network

from attar import label
from attar.targets import SoftTargets, TeacherQuality, inspect, merge
from attar.targets.manifest import AnswerCounts
from attar.targets.quality import AnswerTally, find_doubt, is_mixed, summarize_answers


def make_quality(right, labeled=200, *, share=0.34, classes=3, nll=9.0):
    entropy = math.log(classes)
    return TeacherQuality(labeled, classes, right / labeled, nll, share, entropy)


def agrees(pattern, doubt):
    return doubt is None if pattern is None else bool(re.search(pattern, doubt or ""))


@pytest.mark.parametrize(
    ("quality", "doubt"),
    [
        (make_quality(64), "^the teacher is right on 32.0 % of 200 labeled examples, not signif"),
        # P(80 or more of 200 at 0.34) = 0.045, P(79 or more) = 0.061
        (make_quality(79), r"always predicting the most frequent class \(34.0 %\); usual causes"),
        (make_quality(80), None),
        (make_quality(10, 49), None),  # too few to tell
        (make_quality(10, 50), "right on 20.0 % of 50 labeled examples"),
        (make_quality(64, nll=0.98), None),  # it knows something: 0.9 log 3 = 0.989
        (make_quality(190, share=1.0), None),  # all are of one class
        (make_quality(60, share=1.0), r"than a guess among 3 classes \(33.3 %\)"),
        (make_quality(0, classes=1000, share=0.002), "right on 0.0 % of 200"),
        (make_quality(5, classes=1000, share=0.002), None),
        (None, None),
    ],
)
def test_a_teacher_at_chance_is_doubted(quality, doubt):
    assert agrees(doubt, find_doubt(quality))


@pytest.mark.parametrize(
    ("right", "expected_accuracy", "doubt"),
    [
        # P(140 or fewer of 200 at 0.75) = 0.062, P(139 or fewer) = 0.047
        (140, 0.8, None),
        (139, 0.8, "right on 69.5 % of 200 labeled examples, far below the expected 80.0 %"),
        (139, None, None),
        (139, 0.04, None),
        (60, 0.8, "most frequent class"),
    ],
)
def test_a_teacher_below_what_is_expected_is_doubted(right, expected_accuracy, doubt):
    assert agrees(doubt, find_doubt(make_quality(right), expected_accuracy))


@pytest.mark.parametrize(
    ("right", "expected_accuracy", "doubt"),
    [
        (64, None, "^the teacher is so far right on 32.0 % of 200 .*a guess among 3 classes"),
        (79, None, None),  # significantly better than a guess
        (130, 0.8, None),  # below 75 %, but not far enough for the first shards
        (90, 0.8, "so far right on 45.0 % of 200 labeled examples, far below the expected 80.0 %"),
    ],
)
def test_first_shards_give_doubt_only_if_the_teacher_is_far_off(right, expected_accuracy, doubt):
    assert agrees(doubt, find_doubt(make_quality(right), expected_accuracy, is_early=True))


def test_doubtful_members_are_named():
    good = AnswerCounts(100, 90, 30.0, ((0, 50), (1, 50)))
    wrong = AnswerCounts(100, 50, 300.0, ((0, 50), (1, 50)))
    quality = summarize_answers([[good], [wrong], [wrong]], 2)
    assert quality.accuracy == pytest.approx(19 / 30)
    assert quality.nll == pytest.approx(2.1)
    assert str(quality) == (
        "3 members, right on 50.0 % to 90.0 %, on average on 63.3 % of 100 labeled examples "
        "(most frequent class 50.0 %), NLL 2.10"
    )
    expected = r"^member 1 of the teacher's 3 is right on 50.0 %.*; also wrong: members 2; usual"
    assert agrees(expected, find_doubt(quality))
    assert find_doubt(summarize_answers([[good], [good]], 2)) is None


def test_first_shards_of_sorted_examples_are_not_mixed():
    sorted_by_class = torch.arange(1000) // 250
    first = AnswerCounts(250, 0, 1e3, ((0, 250),))
    assert not is_mixed([first], sorted_by_class)
    assert not is_mixed([first], None)
    every = AnswerCounts(250, 0, 1e3, ((0, 70), (3, 62), (1, 60), (2, 58)))
    assert is_mixed([every], sorted_by_class)
    assert is_mixed([every], None)


def test_a_tally_counts_examples_with_a_hard_target_in_any_batches():
    logits = torch.randn(60, 300, generator=torch.Generator().manual_seed(0))
    hard_targets = torch.arange(60) % 7 - 1
    tally = AnswerTally(300)
    for at in (slice(0, 1), slice(1, 40), slice(40, 60)):
        tally.add(logits[at], hard_targets[at])
    counts, known = tally.counts(), hard_targets >= 0
    assert counts.labeled == 51
    assert counts.right == int((logits.argmax(1) == hard_targets)[known].sum())
    nll = torch.nn.functional.cross_entropy(logits[known], hard_targets[known], reduction="sum")
    assert counts.nll_sum == pytest.approx(nll.item(), rel=1e-5)
    assert counts.class_counts == ((0, 9), (1, 9), (2, 9), (3, 8), (4, 8), (5, 8))


def test_counts_of_the_256_most_frequent_classes_are_kept():
    tally = AnswerTally(1000)
    hard_targets = torch.cat([torch.arange(1000), torch.full((50,), 700)])
    tally.add(torch.zeros(1050, 1000), hard_targets)
    pairs = tally.counts().class_counts
    assert (len(pairs), pairs[0], pairs[1]) == (256, (700, 51), (0, 1))
    quality = summarize_answers([[tally.counts()]], 1000)
    assert quality.most_frequent_class_share == 51 / 1050


def test_logits_beyond_all_measure_make_no_infinite_nll():
    tally = AnswerTally(2)
    tally.add(torch.tensor([[1e308, -1e308]], dtype=torch.float64), torch.tensor([1]))
    assert math.isfinite(tally.counts().nll_sum)


# The manifest


def test_stores_of_earlier_releases_stay_readable(tmp_path):
    options = {"shard_examples": 4, "views": (0, 1)}
    new = label(make_network(), make_jittered(), tmp_path / "new", **options)
    old = label(make_network(), make_jittered(), tmp_path / "old", **options).folder
    content = json.loads((old / "manifest.json").read_bytes())
    counted = [shard.pop("answers") is not None for shard in content["shards"]]  # as they were
    assert counted == [True] * 6 + [False] * 6  # of the plain view alone
    del content["checksum"]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    content["checksum"] = hashlib.sha256(text.encode()).hexdigest()
    (old / "manifest.json").write_text(json.dumps(content), encoding="utf-8")
    opened = SoftTargets.open(old)
    assert opened.teacher_quality is None
    assert inspect(opened).teacher is None
    assert opened.entries == new.entries
    assert opened.fingerprint() == new.fingerprint()
    merged = merge([new.folder, old], tmp_path / "merged")  # the same shards
    assert merged.teacher_quality == new.teacher_quality == inspect(merged).teacher
