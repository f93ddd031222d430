"""What the speech experiment's table says of its numbers."""

import json
from pathlib import Path

import pytest

from attar.recipes.speech_results import share_kept, tell_intervals, tell_kept
from attar.recipes.speech_scoring import Score
from attar.speech.decoding import DecodingSettings
from attar.speech.scoring import WordErrors, interval_over_speakers

RESULTS = Path(__file__).parents[2] / "results"


def score_of(by_speaker):
    return Score(
        name="distilled",
        held_out_accuracy=0.5,
        test_accuracy=0.5,
        test=sum(by_speaker.values(), WordErrors()),
        interval_over_utterances=(0.049, 0.079),
        by_speaker=by_speaker,
        settings=DecodingSettings(acoustic_scale=0.1, word_penalty=0.0),
    )


def test_both_intervals_are_in_the_result_and_the_text_says_which_is_which():
    speakers = {f"s{number}": WordErrors(number, 0, 0, 100) for number in range(12)}
    score = score_of(speakers)
    low, high = score.to_json()["interval_over_speakers"]
    assert 0.03 < low < score.test.wer < high < 0.08
    told = tell_intervals(score)
    assert "4.9% to 7.9% for other utterances of these speakers" in told
    assert f"{low:.1%} to {high:.1%} for other speakers" in told


def test_two_speakers_tell_nothing_of_others():
    score = score_of({"theo": WordErrors(11, 0, 3, 499), "yweweler": WordErrors(50, 0, 0, 509)})
    assert score.to_json()["interval_over_speakers"] is None
    told = "none for other speakers, as 2 are too few to tell (they have 2.8% to 9.8%)"
    assert told in tell_intervals(score)


def test_a_share_is_told_of_a_gain_alone_that_chance_does_not_make():
    assert share_kept([0.32, 0.31, 0.33], ensemble=0.27, distilled=0.29) == pytest.approx(0.6)
    wers = [0.103, 0.095, 0.111]
    assert share_kept(wers, ensemble=0.1034, distilled=0.11) is None  # no gain, 1,767 % of it
    assert share_kept(wers, ensemble=0.095, distilled=0.11) is None  # within their deviation
    assert share_kept([0.32], ensemble=0.27, distilled=0.29) is None  # whose deviation none knows
    told = tell_kept({"test frame accuracy": 0.6, "test WER": None})
    assert "keeps 60% of the ensemble's gain in frame accuracy" in told
    assert "in WER the ensemble has no gain beyond its members' deviation" in told


@pytest.mark.parametrize("name", ["speech", "speech-fsdd"])
def test_the_kept_results_have_the_intervals_of_their_counts(name):
    details = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["details"]
    for score in (*details["baselines"], details["ensemble"], details["distilled"]):
        by_speaker = {key: WordErrors(**each) for key, each in score["by_speaker"].items()}
        expected = interval_over_speakers(by_speaker)
        found = score["interval_over_speakers"]
        assert (found and tuple(found)) == (expected and pytest.approx(tuple(expected)))
