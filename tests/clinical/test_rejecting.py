"""Few answers are wrong on new patients; wider types stand in for unsure ones."""

import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from hemaest.clinical import RejectingClassifier, RiskCoverageDisplay
from hemaest.features import ColorFeatures
from hemaest.recipes import ImagePipeline

TYPES = np.array(["lymphocyte", "monocyte", "myelocyte", "promyelocyte"])
MIDDLES = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0], [1.5, 5.0]])


class Knows(ClassifierMixin, BaseEstimator):
    """A classifier that knows the middles of the types, not of the patients; too sure by half."""

    def fit(self, X, y=None):
        self.classes_ = TYPES
        return self

    def predict_proba(self, X):
        logit = 1.5 * (X @ MIDDLES.T - 0.5 * (MIDDLES**2).sum(1))
        odds = np.exp(logit - logit.max(1, keepdims=True))
        return odds / odds.sum(1, keepdims=True)


def draw(rng, n_patients, n_cells=60, differ=0.5):
    X, y = [], []
    for _ in range(n_patients):
        codes = rng.choice(4, n_cells, p=rng.dirichlet([3, 2, 1, 1]))
        X.append(MIDDLES[codes] + differ * rng.normal(0, 1, 2) + rng.normal(0, 1, (n_cells, 2)))
        y.append(TYPES[codes])
    return np.concatenate(X), np.concatenate(y), np.repeat(np.arange(n_patients), n_cells)


def is_right(model, answers, y):
    return np.array(
        [a == t or t in model.wider_.get(a, ()) for a, t in zip(answers, y, strict=True)]
    )


@pytest.fixture(scope="module")
def model():
    return RejectingClassifier(FrozenEstimator(Knows().fit(None))).fit(
        *draw(np.random.default_rng(0), 40)
    )


def test_the_risk_on_new_patients_stays_below_the_stated():
    """30 training sets; at 5% the chance of 5 or more above is 2%."""
    above = answered = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # few patients may allow no answer
            model = RejectingClassifier(FrozenEstimator(Knows().fit(None)))
            model.fit(*draw(rng, 30))
        X, y, _ = draw(rng, 200)
        answers = model.predict(X)
        given = answers != "unidentified"
        above += (~is_right(model, answers, y)[given]).mean() > 0.05 if given.any() else 0
        answered += given.mean() / 30
    assert above <= 4
    assert answered > 0.4


def test_answers_are_classes_wider_types_or_unidentified(model):
    X, y, _ = draw(np.random.default_rng(9), 50)
    answers = model.predict(X)
    assert set(answers) == {*TYPES, "immature granulocyte", "unidentified"}
    wide = answers == "immature granulocyte"
    assert np.isin(y[wide], model.wider_["immature granulocyte"]).mean() > 0.9
    probability = model.predict_proba(X)
    sure = probability.max(1) >= model.threshold_
    np.testing.assert_array_equal(answers[sure], TYPES[probability[sure].argmax(1)])
    assert not np.isin(answers[~sure], TYPES).any()
    np.testing.assert_array_equal(model.predict(X[5:9]), answers[5:9])


def test_it_calibrates(model):
    assert model.temperature_ > 1.2  # the classifier is too sure
    assert (np.diff(model.curve_["answered"]) >= 0).all()
    plain = RejectingClassifier(FrozenEstimator(Knows().fit(None)), taxonomy=None)
    plain.fit(*draw(np.random.default_rng(0), 40))
    assert plain.wider_ == {} and "immature granulocyte" not in plain.predict(MIDDLES)


def test_few_patients_promise_nothing():
    X, y, groups = draw(np.random.default_rng(0), 3)
    with pytest.warns(UserWarning, match="every cell is unidentified"):
        model = RejectingClassifier(FrozenEstimator(Knows().fit(None))).fit(X, y, groups)
    assert set(model.predict(X)) == {"unidentified"}
    assert np.isinf(model.threshold_)


def test_it_is_fitted_across_patients_and_travels():
    X, y, groups = draw(np.random.default_rng(3), 30, differ=0.1)
    model = RejectingClassifier(LogisticRegression()).fit(X, y, groups)
    answers = model.predict(X)
    np.testing.assert_array_equal(answers, pickle.loads(pickle.dumps(model)).predict(X))
    np.testing.assert_array_equal(answers, clone(model).fit(X, y, groups).predict(X))
    numbers = RejectingClassifier(LogisticRegression(), risk=0.2)
    codes = np.searchsorted(TYPES, y) * 10
    given = numbers.fit(X, codes, groups).predict(X)
    assert given.dtype == object and set(given) <= {0, 10, 20, 30, "unidentified"}


def test_it_takes_images_and_refuses_what_cannot_calibrate():
    rng = np.random.default_rng(0)
    y = np.repeat(["a", "b"], 60)
    X = rng.integers(0, 100, (120, 8, 8, 3)).astype(np.uint8)
    X[y == "b"] += 100
    recipe = ImagePipeline([("see", ColorFeatures()), ("call", LogisticRegression(max_iter=999))])
    model = RejectingClassifier(recipe, cv=2).fit(X, y, np.arange(120) % 40)
    assert (model.predict(X) == y).mean() > 0.9
    with pytest.raises(ValueError, match="behind a sampler"):
        model.fit(X, y, sample_indices=np.zeros(120, int))
    with pytest.raises(ValueError, match="all cells are of one group"):
        model.fit(X, y, np.zeros(120))
    with pytest.raises(ValueError, match="one type only"):
        model.fit(X, np.full(120, "a"))


def test_a_type_that_the_classifier_does_not_know_counts_as_wrong():
    X, y, groups = draw(np.random.default_rng(0), 40)
    strange = np.where(np.arange(len(y)) % 2 == 0, "plasma cell", y)
    frozen = FrozenEstimator(Knows().fit(None))
    with pytest.warns(UserWarning, match="every cell is unidentified"):
        RejectingClassifier(frozen).fit(X, strange, groups)


def test_the_curve_and_its_area(model):
    display = RiskCoverageDisplay.from_predictions([1, 0, 1, 1], [0.9, 0.5, 0.5, 0.1])
    np.testing.assert_allclose(display.risk, [0, 0.25, 1 / 3, 0.25])
    assert display.aurc_ == pytest.approx(np.mean([0, 0.25, 1 / 3, 0.25]))
    X, y, _ = draw(np.random.default_rng(9), 20)
    shown = RiskCoverageDisplay.from_estimator(model, X, y)
    assert shown.chosen[1] < 0.05 < shown.risk[-1]
    assert len(shown.ax_.lines) == 3
    with pytest.raises(ValueError, match="confidence"):
        RiskCoverageDisplay.from_predictions([1], [0.1, 0.2])
