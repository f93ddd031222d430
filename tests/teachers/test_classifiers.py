# ruff: noqa: E402 (what may be absent is imported last)
import io
import pickle

import numpy as np
import pytest
import torch

import attar
from attar.errors import DataError, ShapeError
from attar.teachers import ZERO_LOGIT, as_teacher

from .batches import make_batch

sklearn = pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

GENERATOR = np.random.default_rng(0)
INPUTS = GENERATOR.normal(size=(60, 4)).astype(np.float32)
CLASSES = np.argmax(INPUTS[:, :3], axis=1)
NAMES = np.array(["cat", "dog", "bee"])


def make_models() -> list:
    return [
        RandomForestClassifier(n_estimators=4, random_state=0),
        HistGradientBoostingClassifier(max_iter=3, random_state=0),
        LogisticRegression(),
        KNeighborsClassifier(3),
        MLPClassifier([4], max_iter=400, tol=1e-2, random_state=0),
        make_pipeline(StandardScaler(), SVC()),
    ]


def ask(teacher) -> torch.Tensor:
    return teacher.logits(make_batch(torch.from_numpy(INPUTS)))


@pytest.mark.parametrize("model", make_models(), ids=lambda model: type(model).__name__)
def test_classifiers_answer_what_they_predict(model):
    model.fit(INPUTS, CLASSES)
    teacher = as_teacher(model, classes=3)
    logits = ask(teacher)
    assert teacher.reads_inputs
    assert logits.isfinite().all()
    if hasattr(model, "predict_proba"):
        expected = torch.from_numpy(model.predict_proba(INPUTS))
        torch.testing.assert_close(logits.softmax(dim=1).to(expected), expected)
    else:
        torch.testing.assert_close(logits, torch.from_numpy(model.decision_function(INPUTS)))


def test_classes_are_found_by_name_whatever_their_order():
    model = LogisticRegression().fit(INPUTS, NAMES[CLASSES])  # sorted: bee, cat, dog
    logits = ask(as_teacher(model, class_names=["cat", "dog", "bee"]))
    numbered = ask(as_teacher(LogisticRegression().fit(INPUTS, CLASSES), classes=3))
    torch.testing.assert_close(logits, numbered, atol=1e-3, rtol=1e-3)


def test_integers_from_zero_are_class_indices_and_others_are_names():
    model = LogisticRegression().fit(INPUTS, CLASSES)
    indices = ask(as_teacher(model, class_names=["c", "b", "a"]))
    torch.testing.assert_close(indices, ask(as_teacher(model, classes=3)))
    torch.testing.assert_close(indices, ask(as_teacher(model, class_names=["0", "1", "2"])))
    # As folders 0, 1, 10, 2 give: 18 % right by position, without a word.
    with pytest.raises(DataError, match=r"the integers 0\.\.2 .* may be indices or names"):
        as_teacher(model, class_names=["2", "1", "0"])
    years = LogisticRegression().fit(INPUTS, CLASSES + 1990)
    reversed_ = ask(as_teacher(years, class_names=["1992", "1991", "1990"]))
    torch.testing.assert_close(reversed_.flip(1), indices)


def test_a_class_that_no_tree_votes_for_gets_a_finite_logit():
    forest = RandomForestClassifier(n_estimators=3, random_state=0).fit(INPUTS, CLASSES)
    logits = ask(as_teacher(forest, classes=3))
    assert logits.min() == ZERO_LOGIT


def test_a_binary_decision_function_is_a_difference_of_logits():
    targets = (CLASSES == 1).astype(int)
    model = LogisticRegression().fit(INPUTS, targets)
    scores = ask(as_teacher(model, classes=2, answers="logits"))
    assert scores[:, 0].eq(0).all()
    log_probabilities = ask(as_teacher(model, classes=2))
    torch.testing.assert_close(scores.log_softmax(dim=1), log_probabilities)


def test_images_are_flattened():
    model = LogisticRegression().fit(INPUTS, CLASSES)
    images = torch.from_numpy(INPUTS).view(-1, 1, 2, 2)
    teacher = as_teacher(model, classes=3)
    assert torch.equal(teacher.logits(make_batch(images)), ask(teacher))


# Errors


def test_a_model_without_the_method_names_it():
    model = RidgeClassifier().fit(INPUTS, CLASSES)
    assert ask(as_teacher(model, classes=3)).shape == (60, 3)
    with pytest.raises(
        DataError, match=r"expected predict_proba for probabilities, but the classif"
    ):
        as_teacher(model, classes=3, answers="probabilities")


def test_models_that_are_not_fitted_are_errors():
    for model in (LogisticRegression(), make_pipeline(StandardScaler(), LogisticRegression())):
        with pytest.raises(DataError, match=r"a fitted classifier with classes_, but the"):
            as_teacher(model, classes=3)


def test_another_number_of_classes_names_both_sides():
    model = LogisticRegression().fit(INPUTS, CLASSES)
    told = "transfer set's 10 classes, got one of 3: the classifier LogisticRegression"
    with pytest.raises(ShapeError, match=told):
        as_teacher(model, classes=10)


def test_classes_of_other_names_tell_which_are_missing_and_extra():
    model = LogisticRegression().fit(INPUTS, NAMES[CLASSES])
    with pytest.raises(DataError, match=r"lacks \['cow'\] and has \['dog'\]; fit it on the same"):
        as_teacher(model, class_names=["bee", "cat", "cow"])
    with pytest.raises(
        DataError, match=r"classes_ 0\.\.2, got \['bee', 'cat', 'dog'\] .*; pass cl"
    ):
        as_teacher(model, classes=3)


def test_several_targets_at_once_are_an_error():
    forest = RandomForestClassifier(n_estimators=2).fit(INPUTS, np.stack([CLASSES, CLASSES], 1))
    with pytest.raises(DataError, match="expected one target, got 2 from the classifier"):
        as_teacher(forest, classes=3)


LABELS = (INPUTS[:, :3] > 0).astype(int)  # any of three at once


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "model",
    [
        OneVsRestClassifier(LogisticRegression()),
        make_pipeline(StandardScaler(), OneVsRestClassifier(LogisticRegression())),
        GridSearchCV(OneVsRestClassifier(LogisticRegression()), {"estimator__C": [1.0]}, cv=2),
        MultiOutputClassifier(LogisticRegression()),
        MLPClassifier([4], max_iter=20, random_state=0),
        RidgeClassifier(),
        KNeighborsClassifier(3),
    ],
    ids=lambda model: type(model).__name__,
)
def test_multi_label_models_are_refused_as_such(model):  # advice was answers="logits"
    model.fit(INPUTS, LABELS)
    told = "a multi-label or multi-output model; fit one model per target, or use attar.TrainingRun"
    with pytest.raises(DataError, match=told):
        as_teacher(model, classes=3)


@pytest.mark.parametrize(
    "model", [LinearRegression(), make_pipeline(StandardScaler(), RandomForestRegressor(2))]
)
def test_regressors_are_refused_as_such(model):  # advice was a function to logits
    model.fit(INPUTS, INPUTS[:, 0])
    with pytest.raises(DataError, match=r"is a regressor; use attar\.TrainingRun"):
        as_teacher(model, classes=3)


def test_models_that_predict_without_scores_say_what_is_missing():
    with pytest.raises(
        DataError, match="predict_proba or decision_function, but KMeans has neither"
    ):
        as_teacher(KMeans(2), classes=3)


# Names of features

FEATURES = ["height", "width", "weight", "age"]


def fit_on_table(order=FEATURES, model=None):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    table = pandas.DataFrame(INPUTS, columns=FEATURES)[order]
    return (LogisticRegression() if model is None else model).fit(table, CLASSES)


@pytest.mark.parametrize("model", [LogisticRegression(), RandomForestClassifier(4, random_state=0)])
def test_a_model_that_was_fitted_on_a_table_gets_its_columns_by_name(model):
    model = fit_on_table(["age", "height", "weight", "width"], model)
    expected = as_teacher(model, classes=3, feature_names=FEATURES)
    assert (ask(expected).argmax(dim=1).numpy() == CLASSES).mean() > 0.9
    order = [2, 0, 3, 1]
    teacher = as_teacher(model, classes=3, feature_names=[FEATURES[place] for place in order])
    batch = make_batch(torch.from_numpy(INPUTS[:, order]))
    assert torch.equal(teacher.logits(batch), ask(expected))
    assert teacher.fingerprint() != expected.fingerprint()
    more = as_teacher(model, classes=3, feature_names=["id", *FEATURES])
    batch = make_batch(torch.from_numpy(np.hstack([INPUTS[:, :1], INPUTS])))
    assert torch.equal(more.logits(batch), ask(expected))


def test_a_pipeline_that_picks_columns_by_name_gets_a_table():
    columns = make_column_transformer((StandardScaler(), ["width", "age"]), remainder="passthrough")
    model = fit_on_table(model=make_pipeline(columns, LogisticRegression()))
    assert ask(as_teacher(model, classes=3, feature_names=FEATURES)).shape == (60, 3)


def test_features_that_the_transfer_set_lacks_are_named():
    model = fit_on_table()
    with pytest.raises(DataError, match=r"lacks \['weight'\] \(1 of 4\); it has \['height', 'w"):
        as_teacher(model, classes=3, feature_names=["height", "width", "mass", "age"])
    with pytest.raises(DataError, match="expected different feature_names"):
        as_teacher(model, classes=3, feature_names=["height", "height", "weight", "age"])
    teacher = as_teacher(model, classes=3, feature_names=[*FEATURES, "id"])
    with pytest.raises(ShapeError, match="each of the 5 feature_names of the transfer set, got 4"):
        ask(teacher)


def test_features_without_names_are_taken_in_order_with_a_warning():
    model = fit_on_table()
    teacher = as_teacher(model, classes=3)
    with pytest.warns(UserWarning, match=r"fitted on named features \['height', .* by position"):
        logits = ask(teacher)
    named = as_teacher(teacher, classes=3, feature_names=FEATURES)  # as attar.label does
    assert torch.equal(ask(named), logits)
    with pytest.raises(ShapeError, match=r"the 4 features \['height', .*, got 3 without names"):
        teacher.logits(make_batch(torch.from_numpy(INPUTS[:, :3])))


def test_a_model_that_was_fitted_on_an_array_takes_features_in_order():
    model = LogisticRegression().fit(INPUTS, CLASSES)
    named = as_teacher(model, classes=3, feature_names=FEATURES[::-1])
    assert torch.equal(ask(named), ask(as_teacher(model, classes=3)))


def test_label_and_compare_pass_the_names_of_features(tmp_path):
    class NamedSet(attar.TransferSet):
        feature_names = tuple(FEATURES[::-1])

    model, data = fit_on_table(), NamedSet(INPUTS[:, ::-1], CLASSES)
    store = attar.label(model, data, tmp_path / "targets")
    found = store.batch(torch.arange(60)).logits.softmax(dim=-1)
    expected = ask(as_teacher(model, classes=3, feature_names=FEATURES)).softmax(dim=1)
    torch.testing.assert_close(found, expected.float(), atol=2e-3, rtol=2e-3)
    errors = int((expected.argmax(dim=1).numpy() != CLASSES).sum())
    assert attar.compare({"m": model}, data, latency=False).model("m").mean("errors") == errors


# Fingerprints


@pytest.mark.parametrize("index", range(len(make_models())))
def test_equal_models_have_one_fingerprint_and_others_another(index):
    fitted, again, other = (make_models()[index].fit(INPUTS, CLASSES) for _ in range(3))
    other.fit(INPUTS[:50], CLASSES[:50])
    loaded = pickle.load(io.BytesIO(pickle.dumps(fitted)))
    before = as_teacher(fitted, classes=3).fingerprint()
    fitted.predict(INPUTS)
    same = {as_teacher(each, classes=3).fingerprint() for each in (fitted, again, loaded)}
    assert same == {before}
    assert as_teacher(other, classes=3).fingerprint() not in same


def test_how_many_processors_predict_does_not_count():
    one, two = (RandomForestClassifier(2, random_state=0, n_jobs=jobs) for jobs in (1, 2))
    fingerprints = {
        as_teacher(each.fit(INPUTS, CLASSES), classes=3).fingerprint() for each in (one, two)
    }
    assert len(fingerprints) == 1


def test_a_function_inside_a_model_counts_by_its_code():
    def fit(function):
        model = make_pipeline(FunctionTransformer(function), LogisticRegression())
        return as_teacher(model.fit(INPUTS, CLASSES), classes=3).fingerprint()

    assert fit(lambda x: 2 * x) == fit(lambda x: 2 * x)
    assert fit(lambda x: 2 * x) != fit(lambda x: x)


def test_a_version_stands_for_a_models_state():
    model = LogisticRegression().fit(INPUTS, CLASSES)
    one, other = (as_teacher(model, classes=3, version=text).fingerprint() for text in "ab")
    assert one != other


def test_a_version_does_not_hide_the_order_of_the_classes():
    model = LogisticRegression().fit(INPUTS, NAMES[CLASSES])
    orders = (["cat", "dog", "bee"], ["bee", "cat", "dog"])
    made = [as_teacher(model, class_names=names, version="1").fingerprint() for names in orders]
    assert made[0] != made[1]


def test_votes_for_pairs_of_classes_are_no_scores_of_classes():
    svm = SVC(decision_function_shape="ovo")
    with pytest.raises(DataError, match=r"one per pair of classes; fit it with decision_funct"):
        as_teacher(svm.fit(INPUTS, CLASSES), classes=3)


def test_numbered_features_that_both_sides_have_are_matched_by_name():
    pandas = pytest.importorskip("pandas")
    names = ["3", "1", "2", "0"]
    model = LogisticRegression().fit(pandas.DataFrame(INPUTS, columns=names), CLASSES)
    order = sorted(names)
    other = INPUTS[:, [names.index(each) for each in order]].astype("float32")
    data = attar.TransferSet(pandas.DataFrame(other, columns=order), CLASSES)
    found = as_teacher(model, classes=3, feature_names=data.feature_names)
    assert (found.logits(data.batch(torch.arange(len(data)))).argmax(1).numpy()
            == model.predict(pandas.DataFrame(INPUTS, columns=names))).all()  # fmt: skip
