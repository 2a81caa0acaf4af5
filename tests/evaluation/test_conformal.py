"""Sets cover each class as often as they promise, for new patients too."""

import warnings

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.frozen import FrozenEstimator

from hemaest.evaluation import ConformalClassifier
from hemaest.groups import group_quantile


class Reads(ClassifierMixin, BaseEstimator):
    """A classifier whose probabilities are written in the pixels."""

    def fit(self, X, y, groups=None):
        self.classes_ = np.unique(y)
        self.n_seen_ = len(X)
        return self

    def predict_proba(self, X):
        logit = np.array([image[0, : len(self.classes_), 0] for image in X]) / 16.0
        odds = np.exp(logit - logit.max(1, keepdims=True))
        return odds / odds.sum(1, keepdims=True)

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(1)]


def draw(rng, per_class, n_groups=None, spread=0.0, classes=3):
    y = np.repeat(np.array(["a", "b", "c"])[:classes], per_class)
    groups = np.arange(len(y)) if n_groups is None else rng.integers(0, n_groups, len(y))
    shift = rng.normal(0, spread, (groups.max() + 1, classes))
    true = np.unique(y, return_inverse=True)[1]
    hard = np.array([1.0, 2.0, 0.5])[:classes]
    logit = 2.0 * np.eye(classes)[true] * hard + rng.normal(0, 1, (len(y), classes)) + shift[groups]
    X = np.zeros((len(y), 2, 4, 3), np.uint8)
    X[:, 0, :classes, 0] = np.clip(128 + 16 * logit, 0, 255)
    return X, y, groups


def cover(model, X, y):
    sets = model.predict_set(X)
    own = np.searchsorted(model.classes_, y)
    hit = sets[np.arange(len(y)), own]
    return hit.mean(), [hit[own == k].mean() for k in range(len(model.classes_))]


def test_coverage_of_all_and_of_each_class_over_20_seeds():
    marginal, each = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        X, y, _ = draw(rng, 150)
        model = ConformalClassifier(FrozenEstimator(Reads().fit(X, y)), random_state=0).fit(X, y)
        all_, per_class = cover(model, *draw(rng, 300)[:2])
        marginal.append(all_)
        each.append(per_class)
    assert 0.89 <= np.mean(marginal) <= 0.92
    assert np.mean(each, axis=0).min() >= 0.87


def test_sets_hold_for_new_patients_where_ungrouped_ones_do_not():
    grouped, single = [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        X, y, groups = draw(rng, 300, n_groups=20, spread=1.5)
        new_X, new_y, _ = draw(rng, 300, n_groups=60, spread=1.5)
        frozen = FrozenEstimator(Reads().fit(X, y))
        grouped.append(cover(ConformalClassifier(frozen).fit(X, y, groups), new_X, new_y)[0])
        single.append(cover(ConformalClassifier(frozen).fit(X, y), new_X, new_y)[0])
    assert np.mean(grouped) >= 0.9 > np.mean(single)


def test_hold_out_keeps_groups_whole_and_away_from_the_fit():
    X, y, groups = draw(np.random.default_rng(0), 100, n_groups=50)
    model = ConformalClassifier(Reads(), random_state=0).fit(X, y, groups)
    assert 200 <= model.estimator_.n_seen_ <= 240
    again = clone(model).fit(X, y, groups)
    np.testing.assert_array_equal(model.thresholds_, again.thresholds_)
    np.testing.assert_array_equal(model.predict(X), model.estimator_.predict(X))


def test_group_quantile_is_the_usual_one_without_groups():
    rng = np.random.default_rng(0)
    scores = rng.random(99)
    assert group_quantile(scores, np.arange(99), 0.9) == np.sort(scores)[89]
    # two images of one patient count as one
    doubled = group_quantile(np.repeat(scores, 2), np.repeat(np.arange(99), 2), 0.9)
    assert doubled == np.sort(scores)[89]


def test_too_few_groups_promise_nothing_and_say_so():
    X, y, _ = draw(np.random.default_rng(0), 20)
    with pytest.warns(UserWarning, match="at least 9 held-out groups"):
        model = ConformalClassifier(Reads(), random_state=0).fit(X, y, np.arange(60) % 8)
    assert model.predict_set(X).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frozen = FrozenEstimator(Reads().fit(X, y))
        ConformalClassifier(frozen, confidence_level=0.5).fit(X, y)


def test_copies_cannot_calibrate():
    X, y, _ = draw(np.random.default_rng(0), 20)
    with pytest.raises(ValueError, match="outermost"):
        ConformalClassifier(Reads()).fit(X, y, sample_indices=np.zeros(60, int))


def test_missing_class_in_a_set_of_labels():
    X, y, _ = draw(np.random.default_rng(0), 60, classes=2)
    model = ConformalClassifier(Reads(), random_state=0).fit(X, y)
    assert model.predict_set(X[:5]).shape == (5, 2) and set(model.predict(X)) <= {"a", "b"}
