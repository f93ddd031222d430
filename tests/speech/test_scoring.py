import numpy as np
import pytest

from attar.errors import AttarError, DataError
from attar.speech.scoring import (
    WordErrors,
    bootstrap_interval,
    count_errors,
    interval_over_speakers,
    pool,
    pool_by_speaker,
)

pytest.importorskip("jiwer", reason="needs attar[speech]")


@pytest.mark.parametrize(
    ("reference", "hypothesis", "counts"),
    [
        ("ONE TWO THREE", "ONE TWO THREE", (0, 0, 0)),
        ("ONE TWO THREE", "ONE THREE", (0, 1, 0)),
        ("ONE TWO THREE", "ONE TOO THREE FOUR", (1, 0, 1)),
        ("ONE TWO", "", (0, 2, 0)),  # an empty hypothesis
        ("", "ONE TWO", (0, 0, 2)),  # an empty reference
        ("", "", (0, 0, 0)),
        ("A B C D", "X A B C", (0, 1, 1)),  # or 4 substitutions: the fewest count
    ],
)
def test_counts_by_hand(reference, hypothesis, counts):
    found = count_errors(reference.split(), hypothesis.split())
    assert found == WordErrors(*counts, reference_words=len(reference.split()))


def test_words_are_compared_as_they_are():
    assert count_errors(["B'S", "9-1"], ["B'S", "9-1"]).errors == 0
    assert count_errors(["one"], ["ONE"]).substitutions == 1


def test_counts_are_pooled_not_rates():
    pooled = pool([WordErrors(1, 0, 0, 1), WordErrors(0, 0, 0, 9)])
    assert pooled.wer == pytest.approx(0.1)
    assert "10.0% WER: 1 substitutions" in str(pooled)


def test_empty_references_add_insertions_and_no_words():
    assert pool([WordErrors(0, 0, 2, 0), WordErrors(0, 0, 0, 4)]).wer == pytest.approx(0.5)
    with pytest.raises(DataError, match="got none"):
        _ = WordErrors(insertions=2).wer


def test_by_speaker():
    errors = [WordErrors(1, 0, 0, 2), WordErrors(0, 0, 0, 2), WordErrors(0, 1, 0, 3)]
    pooled = pool_by_speaker(errors, ["b", "a", "b"])
    assert list(pooled) == ["a", "b"]
    assert pooled["b"] == WordErrors(1, 1, 0, 5)
    with pytest.raises(AttarError, match="3 utterances, 1 speakers"):
        pool_by_speaker(errors, ["b"])


def test_interval_holds_the_rate_and_shrinks_with_utterances():
    few = [WordErrors(1, 0, 0, 5), WordErrors(0, 0, 0, 5), WordErrors(2, 0, 0, 5)]

    def interval(errors):
        return bootstrap_interval(errors, generator=np.random.default_rng(0))

    narrow, wide = interval(few * 20), interval(few)
    assert wide.low < narrow.low < 0.2 < narrow.high < wide.high
    assert interval([WordErrors(1, 0, 0, 4)] * 3) == (0.25, 0.25)


def test_interval_checks_what_it_is_given():
    with pytest.raises(AttarError, match="level"):
        bootstrap_interval([WordErrors(0, 0, 0, 1)], generator=np.random.default_rng(0), level=95)
    with pytest.raises(DataError, match="got none"):
        bootstrap_interval([WordErrors()], generator=np.random.default_rng(0))


def test_speakers_who_differ_make_the_interval_over_speakers_the_wider_one():
    # 30 utterances of each of ten speakers, of whom every other one is recognized badly.
    bad, good = WordErrors(2, 0, 0, 5), WordErrors(0, 0, 0, 5)
    errors = [bad if speaker % 2 else good for speaker in range(10) for _ in range(30)]
    by_speaker = pool_by_speaker(errors, [str(speaker) for speaker in range(10) for _ in range(30)])
    over_utterances = bootstrap_interval(errors, generator=np.random.default_rng(0))
    over_speakers = interval_over_speakers(by_speaker)
    assert over_speakers.low < 0.1 < over_utterances.low < 0.2
    assert 0.2 < over_utterances.high < 0.3 < over_speakers.high
    few = {name: by_speaker[name] for name in list(by_speaker)[:9]}
    assert interval_over_speakers(few) is None
