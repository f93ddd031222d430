import math

import pytest

from attar.errors import DataError, FolderError
from attar.speech.language_models import END, START, count_bigrams, count_words, read_arpa

ARPA = """a comment
\\data\\
ngram 1=4
ngram 2=2

\\1-grams:
-0.3010 </s> -99
-99 <s> -0.3010
-0.6021 A -0.6021
-0.6021 B

\\2-grams:
-0.1249 <s> A
-0.3010 A </s>

\\end\\
"""


def test_arpa_by_hand(tmp_path):
    path = tmp_path / "two.lm"
    path.write_text(ARPA)
    model = read_arpa(path)
    assert model.score(["A"]) == pytest.approx(math.log(0.75 * 0.5), abs=1e-3)
    assert model.score(["B"]) == pytest.approx(math.log(0.5 * 0.25 * 0.5), abs=1e-3)  # backs off
    assert model.score(["A", "B"]) == pytest.approx(math.log(0.75 * 0.25**2 * 0.5), abs=1e-3)
    assert model.score(["C"]) == -math.inf


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("-0.6021 B", "-0.6021", r"two.lm:10: expected log10 p, 1 word"),
        ("-0.6021 B", "often B", "two.lm:10: expected log10 p"),
        ("\\2-grams:", "\\3-grams:", "at most two words"),
        ("</s>", "END", r"expected an ARPA language model with </s>"),
    ],
)
def test_damaged_arpa_names_the_line(tmp_path, old, new, error):
    path = tmp_path / "two.lm"
    path.write_text(ARPA.replace(old, new))
    with pytest.raises(DataError, match=error):
        read_arpa(path)


def test_missing_arpa_is_one_clear_error(tmp_path):
    with pytest.raises(FolderError, match=r"cannot read .*none.lm"):
        read_arpa(tmp_path / "none.lm")


@pytest.mark.parametrize("previous", [START, "A", "B", "C"])
def test_counted_probabilities_sum_to_one(previous):
    model = count_bigrams([["A", "B"], ["A"], ["A", "A"]], "ABC")
    total = sum(math.exp(model.log_probability(word, previous)) for word in ["A", "B", "C", END])
    assert total == pytest.approx(1.0)
    assert model.log_probability("A", START) > model.log_probability("B", START)


def test_counted_unigrams_by_hand():
    model = count_words([["A", "A"]], ["A", "B"])  # A 3, B 1, the end 1
    assert model.score(["B", "A"]) == pytest.approx(math.log(1 / 5 * 3 / 5 * 1 / 5))


def test_no_sentence_is_an_error():
    for count in (count_words, count_bigrams):
        with pytest.raises(DataError, match="one sentence or more"):
            count([], ["A"])
