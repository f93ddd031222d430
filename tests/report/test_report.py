"""The report: what it says, and how it behaves in a browser."""

import re
from dataclasses import replace

import pytest

from attar.errors import FolderError
from attar.report import make_report, save_report
from attar.report.sentences import headline
from attar.training import Epoch
from report.comparisons import make_record, make_verdict, without_numbers

HOSTILE = (
    "<script>window.harmed = 1; alert(1)</script>",
    "\"><img src=x onerror='window.harmed = 1'>",
    "$\\frac{1}{0}$ \u202e\u05e9\u05dc\u05d5\u05dd " + "y" * 10_000,
)
HISTORY = [Epoch(index, 1.0, 0.1, 1.0, {"errors": 100.0 / index}) for index in range(1, 6)]


def words(page):
    """The page's text, roughly: without tags and marks of direction."""
    body = page[page.index("<body>") :]
    text = re.sub(r"<[^>]*>", " ", body).replace("\xa0", " ")
    return " ".join(re.sub("[\u2068\u2069]", "", text).split())


def test_the_verdict_comes_first_and_in_one_sentence():
    record = make_record(examples=1000, seeds=1)
    errors = [f"{model.mean('errors'):g}" for model in record.models]
    sentence = re.sub("[\u2068\u2069]", "", headline(record))
    assert sentence == (
        "distilled is not significantly different from its teacher (its error rate may be up to "
        f"1.00 points higher): {errors[2]} against {errors[0]} errors of 1,000 test examples, with "
        "53% of the parameters, 1.9 times as fast; it makes fewer errors than the student without "
        f"a teacher, hard targets ({errors[1]})."
    )
    assert words(make_report(record)).startswith(f"attar report · Did it help? {sentence}")


@pytest.mark.parametrize(
    ("outcome", "said"),
    [("better", "more errors than its"), ("worse", "fewer errors than its")],
)
def test_the_sentence_is_told_from_the_students_side(outcome, said):
    record = make_record()
    verdict = make_verdict("teacher", "distilled", outcome)
    assert said in headline(replace(record, verdicts=(verdict,)))


def test_a_teacher_that_is_no_better_comes_before_the_sentence_on_the_student():
    record = make_record(seeds=1)
    swapped = replace(record, teacher="hard targets", baseline="teacher")
    lead = "The teacher is no better than the student without it; distillation cannot help. "
    text = words(make_report(swapped))
    assert text.startswith(f"attar report · Did it help? {lead}Train the teacher longer")
    shown = headline(record)
    undecided = replace(record, verdicts=(make_verdict("teacher", "hard targets", "undecided"),))
    assert headline(undecided).startswith("The teacher is not shown to be better than the student ")
    assert "The teacher is" not in shown
    assert "gap not shown" in words(make_report(undecided))
    assert "75%" not in words(make_report(undecided)).partition("How to repeat")[0]


def test_the_student_of_the_headline_is_called_the_best_of_several():
    record = make_record(seeds=1)
    student = record.model("distilled")
    other = replace(student, name="distilled, T = 8")
    several = replace(record, models=(*record.models, other))
    best = re.sub("[\u2068\u2069]", "", headline(several))
    assert best.startswith("distilled, the best of 2 students on this test set, is not signif")
    assert "the best of" not in headline(record)


def test_equivalence_is_told_with_its_margin():
    small = {"equivalence_p_value": 0.002, "within_margin": True}
    record = replace(
        make_record(seeds=1),
        margin=0.015,
        verdicts=(
            make_verdict("distilled", "teacher", "equivalent", **small),
            make_verdict("distilled", "hard targets", "better", **small),
        ),
    )
    told = re.sub("[\u2068\u2069]", "", headline(record))
    assert told.startswith(
        "distilled is equivalent to its teacher, within 1.5 points of error rate"
    )
    assert re.search(r"hard targets \(\d+\), by less than 1.5 points of error rate\.$", told)
    text = words(make_report(record))
    assert "smaller than the margin of 1.5 points" in text
    assert "distilled EQUIVALENT teacher" in text
    assert "distilled BETTER within the margin hard targets" in text
    assert "0.004 0.002" in text
    assert "p, equivalence" not in words(make_report(make_record()))


def test_errors_by_class_have_the_recall_beside_them():
    record = make_record(seeds=1)
    student = record.model("distilled").networks[0]
    errors = student.class_errors[3]
    recall = record.recalls("distilled")[3]
    assert recall == 1 - errors / 20
    row = re.search(r" 3 20 (.*?) 4 20 ", words(make_report(record)))[1]
    assert row.endswith(f"{errors} ({recall:.0%})")
    assert "balanced accuracy" in words(make_report(record))


def test_without_verdicts_or_students_the_sentence_says_what_there_is():
    record = make_record(seeds=1)
    assert "makes" in headline(replace(record, verdicts=()))
    alone = replace(record, models=record.models[:1], baseline=None, verdicts=())
    assert re.search(r"teacher\S* makes the fewest errors, \d+ of 200", headline(alone))
    assert "No pair of models was judged." in words(make_report(alone))


def test_all_of_it_is_there():
    record = make_record()
    histories = {"distilled": [HISTORY, HISTORY]}
    page = make_report(record, histories=histories, published={"teacher": 67.0}, title="MNIST")
    text = words(page)
    student = record.model("distilled")
    for expected in (
        f"{student.mean('errors'):.1f} ± {student.sd('errors'):.1f}",
        "75% (50% to 100%)",
        "UNDECIDED",
        "−1.50 −2.00 to −1.00 0.004",
        "2,395,210 9.58 MB",
        "distilled BETTER hard targets",  # though it was judged the other way around
        "attar compare &lt;job.toml&gt;",
        "paper’s errors",
        "Errors over seeds",
        "Reliability",
        "Training",
        "Latency against errors",
        record.machine.torch,
    ):
        assert expected in text, expected
    assert page.count("<svg") == 4
    identities = re.findall(r'\bid="([^"]+)"', page)
    assert len(set(identities)) == len(identities)
    assert "<script" not in page
    assert "0a0a0" not in page  # colors that only stand for the page's own


def test_the_same_record_makes_the_same_page():
    assert make_report(make_record()) == make_report(make_record())


def test_confusions_count_all_seeds():
    record = make_record(seeds=2)
    predicted = [network.predictions for network in record.model("distilled").networks]
    expected = sum(
        (target, answer) == (3, 4)
        for answers in predicted
        for target, answer in zip(record.hard_targets, answers, strict=True)
    )
    assert expected
    matrix = make_report(record).split('<table class="confusions">')[2]
    row = re.search(r'<th scope="row">\u20683\u2069</th>(.*?)</tr>', matrix, re.DOTALL)[1]
    cells = re.findall(r"<td[^>]*>(\d*)</td>", row)
    assert int(cells[4]) == expected
    assert int(cells[3]) == 40 - sum(int(cell or 0) for cell in cells[:3] + cells[4:])


def test_of_many_classes_those_with_most_errors_are_shown():
    page = make_report(make_record(classes=500, examples=2000))
    assert "The 30 classes with most errors, of 500." in words(page)
    assert len(page) < 5e5


def test_a_model_that_never_answers_is_shown_as_such():
    text = words(make_report(without_numbers(make_record(seeds=1), 2)))
    assert "no answer" in text
    assert (
        "distilled: 200 of 200 outputs are not numbers (NaN); each counts as an error. Verdicts"
        in text
    )
    assert "distilled 200 0.00%" in text
    everyone = make_record(seeds=1)
    for place in range(3):
        everyone = without_numbers(everyone, place)
    page = make_report(everyone)
    assert page.count("<svg") == 1  # neither reliability nor latency


@pytest.mark.parametrize("examples", [1, 3])
def test_few_examples_and_absent_classes_are_no_trouble(examples):
    text = words(make_report(make_record(examples=examples, seeds=1)))
    assert re.search(r" 9 none – – –", text)
    assert re.search(r"The test set has no examples of \d of 10 classes", text)
    assert re.search(rf"{examples} test examples?: too few to show most differences\.", text)


def test_ten_thousand_examples_stay_far_below_5_mb(tmp_path):
    path = tmp_path / "report.html"
    save_report(make_record(examples=10_000, seeds=10), path)
    assert path.stat().st_size < 1e6


def test_a_report_that_cannot_be_written_is_told_and_the_earlier_one_stays(tmp_path):
    with pytest.raises(FolderError, match="cannot write"):
        save_report(make_record(), tmp_path / "no" / "report.html")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_it_opens_without_a_fault_and_keeps_nobody_out(browser, tmp_path, scheme, width):
    from pages.browser import opened, serious_violations

    path = tmp_path / "report.html"
    save_report(make_record(), path, histories={"distilled": [HISTORY]}, title=HOSTILE[0])
    with opened(browser, path, scheme=scheme, width=width) as page:
        assert serious_violations(page) == []
        assert page.evaluate("() => document.documentElement.scrollWidth") == width


def test_hostile_names_are_text(browser, tmp_path):
    from pages.browser import opened

    names = (HOSTILE[1], HOSTILE[0], HOSTILE[2])
    record = make_record(classes=3, names=names, class_names=HOSTILE)
    path = tmp_path / "'\"<b>&#.html"
    settings = {HOSTILE[0]: HOSTILE[1]}
    save_report(record, path, title=HOSTILE[0], histories={names[2]: [HISTORY]}, settings=settings)
    with opened(browser, path, width=390) as page:
        state = "() => [window.harmed, document.scripts.length, document.images.length]"
        assert page.evaluate(state) == [None, 0, 0]
        assert "<script>window.harmed = 1" in page.locator("table.classes").inner_text()
        chart = page.locator("figure svg").first.text_content()
        assert "\"><img src=x onerror='window.harmed = 1'>" in chart
        assert page.evaluate("() => document.documentElement.scrollWidth") == 390
