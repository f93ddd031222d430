import json
import math
import resource
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import attar
from attar import AttarError, Comparison, StreamedSet, TransferSet, compare
from attar.comparison_records import NO_ANSWER, count_confusions
from attar.errors import DataError, FolderError, ShapeError
from attar.records import seal

QUICK = {"latency": False, "resamples": 300}


def make_set(hard_targets, classes=3, **options):
    """Make a test set whose example number i is the number i itself."""
    inputs = torch.arange(len(hard_targets)).float()[:, None]
    return TransferSet(inputs, torch.tensor(hard_targets), classes=classes, **options)


class Table(nn.Module):
    """Answers example i with row i of a table of logits."""

    def __init__(self, logits):
        super().__init__()
        self.rows = nn.Parameter(torch.tensor(logits))

    def forward(self, inputs):
        return self.rows[inputs[:, 0].long()]


def predict(predictions, classes=3, margin=4.0):
    """Make a network that predicts these classes, each with the same confidence."""
    rows = nn.functional.one_hot(torch.tensor(predictions), classes).float() * margin
    return Table(rows.tolist())


TRUTH = [0, 1, 2, 0, 1, 2, 0, 1]


def network_of(result, name="model"):
    (network,) = result.model(name).networks
    return network


# What is measured


def test_measures_by_hand():
    logits = [[math.log(3.0), 0.0], [0.0, 0.0], [0.0, math.log(4.0)]]
    test_set = make_set([0, 1, 0], classes=2)
    network = network_of(compare({"model": Table(logits)}, test_set, **QUICK))
    assert (network.errors, network.class_errors) == (2, (1, 1))  # of two alike, the first counts
    assert network.predictions == (0, 0, 1)
    nll = (math.log(4 / 3) + math.log(2) + math.log(5)) / 3
    assert network.nll == pytest.approx(nll, rel=1e-6)
    assert network.brier == pytest.approx((2 / 16 + 2 / 4 + 2 * 16 / 25) / 3, rel=1e-6)
    assert network.ece == pytest.approx((0.25 + 0.5 + 0.8) / 3, rel=1e-6)
    assert network.top5_accuracy is None
    filled = [each for each in network.reliability if each.examples]
    assert [each.mean_confidence for each in filled] == pytest.approx([0.5, 0.75, 0.8])
    assert [each.accuracy for each in filled] == [0, 1, 0]


def test_measures_agree_with_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(200, 8, generator=generator)
    hard_targets = torch.randint(8, (200,), generator=generator)
    result = compare(
        {"model": Table(logits.tolist())}, make_set(hard_targets.tolist(), classes=8), **QUICK
    )
    network, p = network_of(result), torch.softmax(logits.double(), dim=-1).numpy()
    truth, labels = hard_targets.numpy(), np.arange(8)
    assert network.nll == pytest.approx(metrics.log_loss(truth, p, labels=labels), rel=1e-6)
    top5 = metrics.top_k_accuracy_score(truth, p, k=5, labels=labels)
    assert network.top5_accuracy == pytest.approx(top5)
    assert network.accuracy == pytest.approx(metrics.accuracy_score(truth, p.argmax(1)))
    assert network.balanced_accuracy == pytest.approx(
        metrics.balanced_accuracy_score(truth, p.argmax(1))
    )
    assert result.recalls("model") == pytest.approx(
        metrics.recall_score(truth, p.argmax(1), average=None)
    )
    confusions = count_confusions(result.hard_targets, network.predictions)
    expected = metrics.confusion_matrix(truth, p.argmax(1), labels=labels)
    assert all(confusions[pair] == count for pair, count in np.ndenumerate(expected))
    assert confusions.total() == 200


@settings(max_examples=15)
@given(st.integers(2, 6), st.floats(0.2, 5.0), st.integers(0, 1000))
def test_probabilities_that_are_the_truth_are_calibrated(classes, sharpness, seed):
    generator = torch.Generator().manual_seed(seed)
    row = sharpness * torch.randn(classes, generator=generator)
    counts = (torch.softmax(row.double(), dim=-1) * 500).round().long()
    hard_targets = torch.repeat_interleave(torch.arange(classes), counts)
    logits = row.expand(len(hard_targets), -1)
    test_set = TransferSet(logits.contiguous(), hard_targets, classes=classes)
    network = network_of(compare({"model": nn.Identity()}, test_set, **QUICK))
    assert network.ece < 0.01


def test_agreement_is_split_by_where_the_teacher_is_right():
    teacher, student = [0, 1, 2, 1], [0, 2, 2, 1]  # the truth: 0, 1, 2, 0
    models = {"teacher": predict(teacher), "model": predict(student)}
    found = network_of(compare(models, make_set([0, 1, 2, 0]), **QUICK)).with_teacher
    assert (found.everywhere.examples, found.everywhere.agreement) == (4, 0.75)
    assert (found.teacher_right.examples, found.teacher_right.agreement) == (
        3,
        pytest.approx(2 / 3),
    )
    assert (found.teacher_wrong.examples, found.teacher_wrong.agreement) == (1, 1)
    p = torch.softmax(torch.tensor([4.0, 0, 0], dtype=torch.float64), dim=0)
    kl = float((p[0] - p[1]) * 4) / 3  # one of three examples; log p - log q = ±4
    assert found.teacher_right.kl_nats == pytest.approx(kl, rel=1e-6)
    assert found.teacher_wrong.kl_nats == pytest.approx(0, abs=1e-12)


def test_an_ensemble_answers_with_the_mean_of_its_members():
    members = [Table([[0.0, math.log(3.0)]]), Table([[0.0, -math.log(3.0)]])]
    ensemble = attar.as_teacher(members, classes=2)
    test_set = make_set([0], classes=2)
    network = network_of(compare({"model": ensemble}, test_set, **QUICK))
    assert network.nll == pytest.approx(math.log(2))
    geometric = compare({"model": ensemble}, test_set, mean="geometric", **QUICK)
    assert network_of(geometric).nll == pytest.approx(math.log(2))


def test_member_weights_are_those_of_the_teacher_that_taught():
    right, wrong = predict([0, 1, 2, 0]), predict([1, 2, 0, 1], margin=5.0)
    ensemble = attar.as_teacher([right, wrong], classes=3)
    models = {"teacher": ensemble, "other": ensemble}
    test_set = make_set([0, 1, 2, 0])
    for weights, errors in (((1, 0), 0), ((0, 1), 4), ((3, 1), 0), (None, 4)):
        result = compare(models, test_set, member_weights=weights, **QUICK)
        assert network_of(result, "teacher").errors == errors
        assert network_of(result, "other").errors == 4  # of equal weights, always
        assert result.settings.get("member_weights") == (weights and list(weights))
    one = compare({"teacher": right}, test_set, member_weights=[2.0], **QUICK)
    assert network_of(one, "teacher").errors == 0


@pytest.mark.parametrize(
    ("name", "weights", "text"),
    [
        ("teacher", [1, 0, 0], r"model 'teacher': member_weights: expected one weight .* 2"),
        ("teacher", [0, 0], r"not all 0, got \[0, 0\]"),
        ("teacher", [1, -1], r"expected one weight >= 0"),
        ("model", [1, 0], r"member_weights needs a teacher"),
    ],
)
def test_member_weights_of_no_such_teacher_are_refused(name, weights, text):
    models = {name: attar.as_teacher([predict([0, 1]), predict([1, 0])], classes=3)}
    with pytest.raises(AttarError, match=text):
        compare(models, make_set([0, 1]), member_weights=weights, **QUICK)


def test_an_ensemble_network_is_compared_with_its_own_mean():
    members = [predict([1], margin=30.0), predict([0]), predict([0])]  # one is sure, two are right
    test_set = make_set([0])
    by_mean = {}
    for mean in ("arithmetic", "geometric"):
        network = attar.EnsembleNetwork(members, mean=mean)
        result = compare({"model": network}, test_set, **QUICK)
        expected = network(test_set.batch(torch.tensor([0])).inputs).argmax(1)
        assert network_of(result).predictions == tuple(expected.tolist())
        assert result.settings["mean"] == mean
        by_mean[mean] = network_of(result).predictions
    assert by_mean == {"arithmetic": (0,), "geometric": (1,)}
    network = attar.EnsembleNetwork(members, mean="geometric")
    result = compare({"model": network}, test_set, mean="arithmetic", **QUICK)
    assert network_of(result).predictions == (0,)  # as asked for


def test_costs_are_counted_and_speeds_measured():
    network = nn.Sequential(nn.Linear(1, 3), nn.Dropout(0.5))
    network.train()
    stored = np.zeros((8, 3), dtype=np.float32)
    both = attar.as_teacher([network, network], classes=3)
    result = compare(
        {"net": network, "both": both, "stored": stored}, make_set(TRUTH), resamples=50
    )
    net, both, stored = result.models
    assert (net.parameters, both.parameters, stored.parameters) == (6, 12, None)
    assert 24 < net.size_bytes < 500
    for speed in net.speeds:
        assert 0 < speed.median_ms <= speed.p95_ms
        assert speed.examples_per_second > 0
    assert net.speeds[0].threads == 1
    assert stored.speeds == ()
    assert network.training  # left as it was


# Verdicts


def test_the_verdict_says_who_makes_fewer_errors():
    truth = [0, 1] * 20
    wrong = [1 - each for each in truth]
    models = {
        "good": predict(truth, classes=2),
        "bad": predict(wrong[:20] + truth[20:], classes=2),
    }
    result = compare(models, make_set(truth, classes=2), **QUICK)
    verdict = result.verdict("good", "bad")
    assert (verdict.outcome, verdict.test) == ("better", "exact McNemar")
    assert verdict.p_value == pytest.approx(2 * 0.5**20)
    assert (verdict.only_model_right, verdict.only_other_right) == (20, 0)
    assert result.verdict("bad", "good").outcome == "worse"
    assert str(result).startswith("good: BETTER than bad (0 and 20 errors, p < 0.0001).")


def test_the_examples_that_one_model_alone_gets_right_are_counted_in_full():
    truth = [0, 1] * 12_500
    models = {
        "good": predict(truth, classes=2),
        "bad": predict([1 - each for each in truth[:12_345]] + truth[12_345:], classes=2),
    }
    lines = str(compare(models, make_set(truth, classes=2), **QUICK)).splitlines()
    (row,) = (cells for cells in map(str.split, lines) if cells[:3] == ["good", "BETTER", "bad"])
    assert row[5:8] == ["12,345", ":", "0"]


def test_identical_models_are_undecided():
    model = predict([0, 1, 2, 1, 1, 0, 0, 1])
    for models in ({"a": model, "b": model}, {"a": [model] * 3, "b": [model] * 3}):
        result = compare(models, make_set(TRUTH), **QUICK)
        verdict = result.verdict("a", "b")
        assert (verdict.outcome, verdict.p_value, verdict.difference) == ("undecided", 1, 0)


def test_several_seeds_are_judged_by_the_bootstrap_and_pairs_are_corrected():
    models = {
        "a": [predict(TRUTH), predict([1, *TRUTH[1:]])],
        "b": predict(TRUTH),
        "c": predict([1, 0, 0, 1, 0, 0, 1, 0]),
    }
    result = compare(models, make_set(TRUTH), **QUICK)
    assert [each.test for each in result.verdicts] == ["paired bootstrap"] * 2 + ["exact McNemar"]
    raw = result.verdict("b", "c").raw_p_value
    assert raw == pytest.approx(2 * 0.5**8)
    assert result.verdict("b", "c").p_value >= 2 * raw
    alone = compare(models, make_set(TRUTH), pairs=[("b", "c")], **QUICK)
    assert alone.verdict("b", "c").p_value == pytest.approx(raw)
    assert alone.verdict("a", "b") is None
    assert result.model("a").mean("errors") == 0.5
    assert result.model("a").sd("errors") == pytest.approx(math.sqrt(0.5))


def test_the_first_sentence_tells_the_students_verdicts_and_the_gap():
    truth = [0, 1] * 100
    flip = [1 - each for each in truth]
    models = {
        "teacher": predict(truth[:196] + flip[196:], classes=2),
        "hard targets": predict(flip[:60] + truth[60:], classes=2),
        "distilled": predict(flip[:18] + truth[18:], classes=2),
    }
    result = compare(models, make_set(truth, classes=2), **QUICK)
    assert [model.role for model in result.models] == ["teacher", "baseline", "student"]
    assert (result.teacher, result.baseline) == ("teacher", "hard targets")
    text = str(result)
    assert text.startswith(
        "distilled: WORSE than teacher (18 and 4 errors, p = 0.0043), BETTER than"
    )
    assert "closes 75% of the gap between hard targets and teacher" in text.replace("\n", " ")


def flip(count, truth, start=0):
    """Make a network that errs on so many examples."""
    wrong = [1 - each for each in truth]
    return predict(truth[:start] + wrong[start : start + count] + truth[start + count :], classes=2)


TWO = [0, 1] * 1000  # a truth


def test_with_a_margin_a_small_difference_is_equivalent():
    models = {"a": flip(20, TWO), "b": flip(22, TWO)}
    test_set = make_set(TWO, classes=2)
    result = compare(models, test_set, margin=0.01, **QUICK)
    verdict = result.verdict("a", "b")
    assert (verdict.outcome, verdict.within_margin, result.margin) == ("equivalent", True, 0.01)
    assert verdict.equivalence_p_value < 0.001
    assert result.verdict("b", "a").outcome == "equivalent"
    start = "a: EQUIVALENT to b within 1 point (20 and 22 errors, p < 0.0001)."
    assert str(result).startswith(start)
    strict = compare(models, test_set, margin=0.001, **QUICK).verdict("a", "b")
    assert (strict.outcome, strict.within_margin) == ("undecided", False)


def test_without_a_margin_equal_models_are_undecided_and_the_sentence_has_the_interval():
    models = {"a": flip(20, TWO), "b": flip(20, TWO)}
    result = compare(models, make_set(TWO, classes=2), **QUICK)
    verdict = result.verdict("a", "b")
    assert (verdict.outcome, verdict.equivalence_p_value) == ("undecided", None)
    text = " ".join(str(result).split())
    start = "a: UNDECIDED against b (20 and 20 errors, p = 1, difference −0.14 to +0.14 points)."
    assert text.startswith(start)


def test_a_difference_may_be_significant_and_within_the_margin():
    models = {"a": flip(20, TWO), "b": flip(40, TWO)}
    result = compare(models, make_set(TWO, classes=2), margin=0.03, **QUICK)
    verdict = result.verdict("a", "b")
    assert (verdict.outcome, verdict.within_margin) == ("better", True)
    assert "a: BETTER than b, but within 3 points (20 and 40 errors" in str(result)
    assert " BETTER, within " in str(result)


def test_several_seeds_can_be_equivalent():
    models = {"a": [flip(20, TWO), flip(22, TWO, 40)], "b": [flip(21, TWO), flip(22, TWO, 40)]}
    result = compare(models, make_set(TWO, classes=2), margin=0.02, **QUICK)
    assert result.verdict("a", "b").outcome == "equivalent"


# The teacher, first of all

NO_BETTER = (
    "The teacher is no better than the student without it; distillation cannot help. "
    "Train the teacher longer or use a better one."
)


def comparing(teacher, baseline, **options):
    """Compare a teacher, a baseline and a student by their errors of 2,000."""
    models = {"teacher": teacher, "hard targets": baseline, "distilled": 30}
    made = {name: flip(errors, TWO) for name, errors in models.items()}
    return compare(made, make_set(TWO, classes=2), **{**QUICK, **options})


@pytest.mark.parametrize("teacher", [40, 41, 400])
def test_a_teacher_that_is_equal_or_worse_is_said_first(teacher):
    result = comparing(teacher, 40)
    assert result.headline == NO_BETTER
    assert " ".join(str(result).split()).startswith(f"{NO_BETTER} distilled: ")
    assert result.teacher_standing == "not better"
    assert "closes" not in str(result)
    unjudged = comparing(teacher, 40, pairs=[("distilled", "teacher")])
    assert unjudged.headline == NO_BETTER


def test_a_teacher_that_is_not_shown_to_be_better_is_said_first():
    result = comparing(38, 40)
    assert result.teacher_standing == "not shown"
    assert result.headline.startswith(
        "The teacher is not shown to be better than the student without it "
        "(38 and 40 errors, p = 0.5, difference −0.3"
    )
    assert " ".join(str(result).split()).startswith(result.headline)
    near = comparing(38, 40, margin=0.02)  # then the two are also equivalent
    assert "and is EQUIVALENT to it within 2 points" in near.headline
    assert "(38 and 40 errors, p = 0.5, " in near.headline


def test_of_a_better_teacher_nothing_is_said():
    result = comparing(10, 40)
    assert result.teacher_standing == "better"
    assert result.headline.startswith("distilled: WORSE than teacher")
    assert comparing(38, 40, pairs=[("distilled", "teacher")]).teacher_standing is None


def test_the_baseline_may_be_a_control():
    models = {"teacher": flip(40, TWO), "distilled": flip(30, TWO)}
    controls = {"hard targets": flip(20, TWO)}
    result = compare(models, make_set(TWO, classes=2), controls=controls, **QUICK)
    assert result.headline == NO_BETTER


# The share of the gap


def test_a_share_of_a_gap_that_is_not_shown_is_not_printed():
    result = comparing(38, 40)  # a student of 30 errors would close 500 % of it
    assert result.model("distilled").gap_closed.share == pytest.approx(5)
    assert "500%" not in str(result)
    assert "gap not shown" in str(result)
    worse = compare(
        {"teacher": flip(36, TWO), "hard targets": flip(40, TWO), "distilled": flip(51, TWO)},
        make_set(TWO, classes=2),
        **QUICK,
    )  # −275 %
    assert "275" not in str(worse)


def test_a_student_below_the_baseline_closes_none_of_the_gap():
    models = {"teacher": flip(10, TWO), "hard targets": flip(60, TWO), "distilled": flip(90, TWO)}
    result = compare(models, make_set(TWO, classes=2), **QUICK)
    assert result.model("distilled").gap_closed.share < 0
    assert "it closes none of the gap between hard targets and teacher (−" in " ".join(
        str(result).split()
    )


# Rare classes


def test_a_rare_class_shows_in_balanced_accuracy_and_recall():
    truth = [0] * 98 + [1] * 2
    models = {
        "always 0": predict([0] * 100, classes=2),
        "both": predict([1] * 3 + truth[3:], classes=2),
    }
    result = compare(models, make_set(truth, classes=2), **QUICK)
    assert result.verdict("always 0", "both").outcome == "undecided"
    assert network_of(result, "always 0").balanced_accuracy == pytest.approx(0.5)
    assert network_of(result, "both").balanced_accuracy == pytest.approx((95 / 98 + 1) / 2)
    assert result.recalls("always 0") == (1, 0)
    lines = [line.split() for line in str(result).splitlines()]
    assert ["always", "0", "2", "98.00%", "50.00%"] in [line[:5] for line in lines]
    assert ["1", "2", "0.00%", "100.00%"] in lines


def test_absent_classes_do_not_count_in_the_balanced_accuracy():
    result = compare({"model": predict([0, 1, 0])}, make_set([0, 1, 1]), **QUICK)
    assert network_of(result).balanced_accuracy == pytest.approx(0.75)
    assert result.recalls("model") == (1, 0.5, None)


# The record on disk


def test_every_changed_byte_of_a_saved_record_is_noticed(tmp_path):
    path = tmp_path / "comparison.json"
    result = comparing(10, 40, pairs=[("distilled", "teacher")])
    result = replace(result, hard_targets=(0, 1), class_names=("a", "b"))
    result.save(path)
    content = path.read_bytes()
    assert Comparison.read(path) == result
    generator = np.random.default_rng(0)
    for place in generator.choice(len(content), 150, replace=False):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(generator.integers(7))
        path.write_bytes(damaged)
        try:
            found = Comparison.read(path)
        except FolderError:
            continue
        assert found == result  # white space between values


def test_a_record_of_format_1_is_read(tmp_path):
    path = tmp_path / "comparison.json"
    result = comparing(38, 40)
    result.save(path)
    content = json.loads(path.read_text("utf-8"))
    for name in ("checksum", "margin"):
        del content[name]
    content["format"] = 1
    for model in content["models"]:
        for network in model["networks"]:
            del network["balanced_accuracy"]
    for verdict in content["verdicts"]:
        del verdict["equivalence_p_value"], verdict["within_margin"]
        if verdict["outcome"] == "undecided":
            verdict["outcome"] = "no difference"
    path.write_text(json.dumps(content), "utf-8")
    assert "no difference" in path.read_text("utf-8")
    assert Comparison.read(path) == result


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{}", "is not a comparison .it has no checksum."),
        ('{"format": 1, "models": 3}', "is not a comparison"),
        ('{"format": 1, "hard_targets": [0], "class_names": ["a"], "models": [], "verdicts": []}',
         "is not a comparison .level: Field required."),
        ("[1]", "expected a JSON object"),
        (json.dumps(seal({"format": 3})), "has format 3, but this release reads formats 1 to 2"),
    ],
)  # fmt: skip
def test_what_is_no_comparison_is_told(tmp_path, content, text):
    path = tmp_path / "comparison.json"
    path.write_text(content, "utf-8")
    with pytest.raises(FolderError, match=text):
        Comparison.read(path)


# Sets and classes that are large


def test_a_streamed_set_is_compared_as_one_in_memory():
    whole = make_set(TRUTH)
    parts = [whole.subset(torch.arange(start, start + 4)) for start in (0, 4)]
    streamed = StreamedSet([4, 4], parts.__getitem__, class_names=whole.class_names)
    models = {"teacher": predict(TRUTH), "model": predict([0] * 8)}
    expected, found = (compare(models, each, **QUICK) for each in (whole, streamed))
    assert replace(found, made_at="") == replace(expected, made_at="")
    assert compare(models, streamed, resamples=50).model("model").speeds


def test_a_streamed_set_without_hard_targets_is_refused():
    parts = [make_set([0, 1]), make_set([2, -1])]
    streamed = StreamedSet([2, 2], parts.__getitem__, class_names=parts[0].class_names)
    with pytest.raises(DataError, match="example 3 has none"):
        compare({"a": predict(TRUTH)}, streamed, **QUICK)


def test_a_hundred_thousand_classes_take_little_memory(tmp_path):
    classes, examples = 100_000, 60
    model = nn.Sequential(nn.Embedding(examples, classes), nn.Flatten())
    inputs, truth = torch.arange(examples)[:, None], 7 * torch.arange(examples)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    test_set = TransferSet(inputs, truth, classes=classes)
    result = compare({"teacher": model, "model": model}, test_set, **QUICK)
    text = " ".join(str(result).split())
    result.save_report(tmp_path / "report.html")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert most < 1e6  # kB; a table of classes by classes would take 8e7
    assert "recall of the 10 classes with most errors, of 100,000" in text
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "The 30 classes with most errors, of 100,000." in page
    assert "The table shows the 12 classes that are confused most, of" in page
    assert len(page) < 1e6


# Models that misbehave


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_model_that_answers_no_numbers_is_wrong_everywhere(value, tmp_path):
    models = {"teacher": predict(TRUTH), "broken": Table([[value, value, value]] * 8)}
    result = compare(models, make_set(TRUTH), **QUICK)
    network = network_of(result, "broken")
    assert (network.errors, network.not_a_number) == (8, 8)
    assert network.predictions == (NO_ANSWER,) * 8
    assert (network.nll, network.brier, network.ece) == (None, None, None)
    assert network.with_teacher.everywhere.agreement == 0
    assert result.verdict("broken", "teacher").outcome == "worse"
    assert "broken: 8 of 8 outputs are not numbers (NaN); each counts as an error." in str(result)
    result.save(tmp_path / "comparison.json")
    assert Comparison.read(tmp_path / "comparison.json") == result


def test_a_broken_teacher_and_a_broken_student_do_not_agree():
    broken = Table([[math.nan] * 3] * 8)
    result = compare({"teacher": broken, "model": broken}, make_set(TRUTH), **QUICK)
    assert network_of(result).with_teacher.everywhere.agreement == 0
    assert result.verdict("teacher", "model").p_value == 1


def test_a_class_that_a_model_rules_out_costs_it_an_infinite_nll():
    network = network_of(
        compare({"model": Table([[0.0, -math.inf, 0.0]] * 8)}, make_set(TRUTH), **QUICK)
    )
    assert (network.nll, network.not_a_number) == (None, 0)
    assert network.brier == pytest.approx((3 * 0.5 + 3 * 1.5 + 2 * 0.5) / 8)


def test_classes_without_examples_are_told():
    result = compare({"model": predict([0, 4], classes=7)}, make_set([0, 4], classes=7), **QUICK)
    assert result.class_examples == (1, 0, 0, 0, 1, 0, 0)
    assert network_of(result).class_errors == (0,) * 7
    assert "no examples of 5 of 7 classes" in str(result)


def test_one_example_proves_nothing():
    models = {"teacher": predict([0]), "hard targets": predict([1]), "model": [predict([0])] * 2}
    result = compare(models, make_set([0]), **QUICK)
    assert {each.outcome for each in result.verdicts} == {"undecided"}
    assert {each.p_value for each in result.verdicts} == {1}
    assert result.model("model").gap_closed.share == 1
    assert "1 test example: too few" in str(result)


# Class orders

NAMES = ("cat", "dog", "eel")


def test_a_model_of_another_class_order_is_mapped():
    test_set = make_set(TRUTH, class_names=NAMES)
    turned = predict([(each + 1) % 3 for each in TRUTH])  # answers in the order eel, cat, dog
    models = {"straight": predict(TRUTH), "turned": turned}
    orders = {"turned": ["eel", "cat", "dog"]}
    result = compare(models, test_set, class_orders=orders, **QUICK)
    assert network_of(result, "turned").errors == 0
    assert network_of(compare(models, test_set, **QUICK), "turned").errors == 8


def test_numbered_classes_can_have_an_order_too():
    turned = predict([(each + 1) % 3 for each in TRUTH])
    orders = {"model": ["2", "0", "1"]}
    result = compare({"model": turned}, make_set(TRUTH), class_orders=orders, **QUICK)
    assert network_of(result).errors == 0


def test_a_file_that_attar_exported_knows_its_class_order(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    path = tmp_path / "student.onnx"
    weights = onnx.numpy_helper.from_array(5 * np.eye(3, dtype=np.float32), "weights")
    inputs, logits = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 3])
        for name in ("inputs", "logits")
    )
    product = onnx.helper.make_node("MatMul", ["inputs", "weights"], ["logits"])
    graph = onnx.helper.make_graph([product], "student", [inputs], [logits], [weights])
    opsets = [onnx.helper.make_opsetid("", 18)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9)
    onnx.helper.set_model_props(model, {"class_names": '["eel", "cat", "dog"]'})  # as attar does
    onnx.save(model, path)
    test_set = TransferSet(2 * torch.eye(3), torch.tensor([2, 0, 1]), class_names=NAMES)
    result = compare({"file": path, "same": nn.Identity()}, test_set, resamples=50)
    assert network_of(result, "file").errors == 0
    assert network_of(result, "same").errors == 3
    file = result.model("file")
    assert (file.parameters, file.size_bytes) == (9, path.stat().st_size)
    assert file.speeds


def test_a_classifier_of_scikit_learn_is_mapped_by_its_class_names():
    linear_model = pytest.importorskip("sklearn.linear_model")
    inputs = torch.eye(3).repeat(6, 1)
    test_set = TransferSet(inputs, torch.arange(18) % 3, class_names=("eel", "cat", "dog"))
    model = linear_model.LogisticRegression().fit(inputs.numpy(), ["eel", "cat", "dog"] * 6)
    result = compare({"model": model}, test_set, **QUICK)
    assert network_of(result).errors == 0
    assert result.model("model").size_bytes > 0


# Errors


@pytest.mark.parametrize(
    ("models", "options", "error", "text"),
    [
        ({}, {}, AttarError, "at least one model"),
        ({"a": []}, {}, AttarError, "at least one network for 'a'"),
        ({"": predict(TRUTH)}, {}, AttarError, "a name for each model"),
        ({"a": [[predict(TRUTH)]]}, {}, AttarError, "got a nested list"),
        ({"a": predict(TRUTH)}, {"teacher": "b"}, AttarError, "teacher to be one of"),
        ({"a": predict(TRUTH)}, {"baseline": "b"}, AttarError, "baseline to be one of"),
        ({"a": predict(TRUTH)}, {"teacher": "a", "baseline": "a"}, AttarError, "as both"),
        ({"a": predict(TRUTH)}, {"level": 0.0}, AttarError, "level between 0 and 1"),
        ({"a": predict(TRUTH)}, {"margin": 0.0}, AttarError, "margin as a difference of error"),
        ({"a": predict(TRUTH)}, {"margin": 1.0}, AttarError, "half a percentage point is marg"),
        ({"a": predict(TRUTH)}, {"resamples": 0}, AttarError, "resamples > 0"),
        ({"a": predict(TRUTH)}, {"mean": "median"}, AttarError, "arithmetic or geometric"),
        ({"a": predict(TRUTH)}, {"pairs": [("a", "b")]}, AttarError, "pairs of two of"),
        ({"a": predict(TRUTH)}, {"controls": {"a": predict(TRUTH)}}, AttarError, "different names"),
        ({"a": predict(TRUTH)}, {"class_orders": {"b": NAMES}}, AttarError, "class_orders for"),
        ({"a": predict(TRUTH)}, {"class_orders": {"a": ("x", "y", "z")}}, DataError, "lacks"),
        ({"a": predict(TRUTH, classes=4)}, {}, ShapeError, "model 'a': expected logits"),
        ({"a": nn.Linear(5, 3)}, {}, DataError, r"model 'a' fails on inputs \[8, 1\]"),
        ({"a": 3.0}, {}, AttarError, "model 'a': expected a model"),
        ({"a": np.full((8, 3), 1 / 3)}, {}, DataError, "model 'a': expected logits"),
        ({"a": np.zeros((7, 3))}, {}, ShapeError, "a row for each"),
    ],
)
def test_what_is_wrong_is_told_with_the_models_name(models, options, error, text, shape_hints_off):
    test_set = make_set(TRUTH, class_names=NAMES)
    with pytest.raises(error, match=text):
        compare(models, test_set, **{**QUICK, **options})


def test_examples_without_hard_targets_are_refused():
    with pytest.raises(DataError, match="example 1 has none"):
        compare({"a": predict([0, 1])}, make_set([0, -1]), **QUICK)


def test_names_that_a_terminal_would_obey_are_shown_as_text():
    result = compare({"[red]\x1b[31mx": predict(TRUTH)}, make_set(TRUTH), **QUICK)
    assert "[red]�[31mx" in str(result)


def test_progress_counts_the_examples():
    told = []
    compare({"a": predict(TRUTH)}, make_set(TRUTH), progress=told.append, **QUICK)
    assert [(now.fraction, str(now)) for now in told] == [(1.0, "comparing · 8 of 8 examples")]
