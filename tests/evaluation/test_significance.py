"""Tests of two recipes keep their level and have power, by simulation with fixed seeds."""

import numpy as np
import pytest
from scipy import stats
from sklearn.base import BaseEstimator, ClassifierMixin

from hemaest.evaluation import compare, corrected_ttest, paired_group_test


def test_corrected_test_is_the_plain_one_where_training_is_endless():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.9, 0.02, (2, 10))
    plain = stats.ttest_rel(a, b)
    test = corrected_ttest(a, b, n_train=1e12, n_test=1)
    assert test.pvalue == pytest.approx(plain.pvalue) and test.statistic == pytest.approx(
        plain.statistic
    )
    interval = plain.confidence_interval(0.95)
    assert (test.low, test.high) == pytest.approx((interval.low, interval.high))
    assert corrected_ttest(a, b, n_train=9, n_test=1).pvalue > plain.pvalue
    swapped = corrected_ttest(b, a, n_train=9, n_test=1)
    assert swapped.difference == pytest.approx(np.mean(b - a))


def test_equal_and_constant_scores():
    same = corrected_ttest([0.5, 0.7], [0.5, 0.7], n_train=4, n_test=1)
    assert same.pvalue == 1 and same.difference == 0
    always = corrected_ttest([0.6, 0.6], [0.5, 0.5], n_train=4, n_test=1)
    assert always.pvalue == 0 and always.statistic == np.inf


@pytest.mark.parametrize(
    ("a", "b", "sizes", "match"),
    [
        ([0.9, 0.8], [0.9, 0.8, 0.7], (4, 1), "paired"),
        ([0.9], [0.8], (4, 1), "at least 2"),
        ([0.9, 0.8], [0.9, 0.7], (0, 1), "above 0"),
    ],
)
def test_unpaired_scores_are_refused(a, b, sizes, match):
    with pytest.raises(ValueError, match=match):
        corrected_ttest(a, b, n_train=sizes[0], n_test=sizes[1])


def overlapping_scores(rng, n=100, folds=10):
    """Scores of two equally good recipes whose training sets overlap, from a random-split study.

    Each recipe's error on an image is a fixed trait of the image plus noise of its training draw.
    """
    hard = rng.random((2, n)) < 0.2
    out = np.empty((2, folds))
    for f in range(folds):
        test = rng.permutation(n)[: n // 5]
        out[:, f] = 1 - (hard[:, test] ^ (rng.random((2, len(test))) < 0.05)).mean(1)
    return out


def test_false_alarms_stay_below_the_level_where_the_naive_test_fails():
    rng = np.random.default_rng(0)
    naive = corrected = 0
    for _ in range(400):
        a, b = overlapping_scores(rng)
        naive += stats.ttest_rel(a, b).pvalue < 0.05
        corrected += corrected_ttest(a, b, n_train=80, n_test=20).pvalue < 0.05
    assert corrected / 400 <= 0.06 < naive / 400


def test_the_difference_is_that_of_balanced_accuracy():
    rng = np.random.default_rng(0)
    y, groups = rng.integers(0, 4, 200), rng.integers(0, 15, 200)
    a, b = rng.random(200) < 0.9, rng.random(200) < 0.6
    test = paired_group_test(a.astype(float) - b, y, groups, groups % 3)
    recall = [np.mean([right[y == c].mean() for c in range(4)]) for right in (a, b)]
    assert test.difference == pytest.approx(recall[0] - recall[1])
    swapped = paired_group_test(b.astype(float) - a, y, groups, groups % 3)
    assert swapped.pvalue == pytest.approx(test.pvalue)
    assert (swapped.low, swapped.high) == pytest.approx((-test.high, -test.low))


def test_one_image_a_group_and_one_class_is_the_plain_paired_test():
    rng = np.random.default_rng(0)
    d = rng.integers(-1, 2, 400).astype(float)
    test = paired_group_test(d, np.zeros(400), np.arange(400))
    assert test.statistic == pytest.approx(stats.ttest_1samp(d, 0).statistic, rel=5e-3)


def test_order_and_names_of_images_groups_and_folds_do_not_matter():
    rng = np.random.default_rng(0)
    y, groups = rng.integers(0, 3, 120), rng.integers(0, 12, 120)
    d, order = rng.integers(-1, 2, 120), rng.permutation(120)
    one = paired_group_test(d, y, groups, groups % 4)
    names = np.array(list("abcdefghijkl"))[groups]
    other = paired_group_test(d[order], y[order], names[order], (9 - groups % 4)[order])
    assert one == pytest.approx(other)


def test_equal_predictions_single_groups_and_few_groups():
    y = np.arange(30) % 2
    same = paired_group_test(np.zeros(30), y, np.arange(30) % 6, np.arange(30) % 3)
    assert (same.pvalue, same.difference, same.low, same.high) == (1, 0, 0, 0)
    alone = paired_group_test(np.ones(30), y, np.zeros(30), np.zeros(30))
    assert alone.difference == 1 and np.isnan(alone.pvalue) and np.isnan(alone.low)
    # always better, but on two or three patients only: that is no proof
    for n in (2, 3):
        assert paired_group_test(np.ones(30), y, np.arange(30) // 2 % n).pvalue > 0.05
    assert paired_group_test(np.ones(30), y, np.arange(30) // 2 % 15).pvalue < 1e-4
    with pytest.raises(ValueError, match="one entry for each image"):
        paired_group_test(np.ones(30), y, np.arange(29))


def study(rng, accuracies, n_patients=20, n_images=400, effect=0.3, training=0.0):
    """Draw out-of-fold predictions of two classifiers: hard patients, three folds, training."""
    patients = np.arange(n_images) % n_patients
    fold, y = patients % 3, rng.integers(0, 5, n_images)
    hard, image = rng.normal(size=n_patients), rng.normal(size=n_images)
    right = []
    for accuracy in accuracies:
        own = np.sqrt(0.5) * (hard + rng.normal(size=n_patients))[patients]
        noise = np.sqrt(0.5) * (image + rng.normal(size=n_images))
        trained = training * rng.normal(size=(3, 5))[fold, y]
        spread = np.sqrt(1 + effect**2 + training**2)
        right.append(stats.norm.ppf(accuracy) * spread + effect * own + trained + noise > 0)
    return right[0].astype(float) - right[1], y, patients, fold


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"effect": 0.8},
        {"training": 0.15},
        {"n_patients": 6, "n_images": 120},
        {"n_patients": 400, "effect": 0.0},
    ],
)
def test_equal_classifiers_are_rarely_called_different(kind):
    rng = np.random.default_rng(0)
    called = [
        paired_group_test(*study(rng, (0.85, 0.85), **kind)).pvalue < 0.05 for _ in range(300)
    ]
    # 0.06 and two standard errors of 300 studies
    assert np.mean(called) <= 0.06 + 2 * np.sqrt(0.06 * 0.94 / 300)


def test_a_clear_difference_is_called_with_three_folds():
    rng = np.random.default_rng(0)
    tests, plain = [], []
    for _ in range(200):
        d, y, patients, fold = study(rng, (0.975, 0.76))
        tests.append(paired_group_test(d, y, patients, fold))
        each = [d[fold == k].mean() for k in range(3)]
        plain.append(corrected_ttest(each, np.zeros(3), n_train=2, n_test=1).pvalue < 0.05)
    assert np.mean([t.pvalue < 0.05 for t in tests]) >= 0.95 > np.mean(plain)
    assert np.mean([t.low <= 0.215 <= t.high for t in tests]) >= 0.94


def test_patients_count_and_not_their_images():
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(200):
        d, y, _, _ = study(rng, (0.8, 0.8), n_patients=8, effect=1.0)
        wrong += paired_group_test(d, y, np.arange(len(y))).pvalue < 0.05
    assert wrong / 200 > 0.15  # image by image the same data mislead


class Written(ClassifierMixin, BaseEstimator):
    """Predicts what is written in one channel of the first pixel."""

    def __init__(self, channel=0):
        self.channel = channel

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return self.classes_[X[:, 0, 0, self.channel]]


def test_every_pair_has_its_sentence():
    rng = np.random.default_rng(0)
    y, patients = np.arange(300) % 2, np.arange(300) % 15
    X = np.zeros((300, 4, 4, 3), np.uint8)
    for channel, accuracy in enumerate((0.97, 0.7, 0.7)):
        X[:, 0, 0, channel] = np.where(rng.random(300) < accuracy, y, 1 - y)
    recipes = {name: Written(channel) for channel, name in enumerate("abc")}
    result = compare(recipes, X, y, patients, cv=5, control=False)
    table = result.tests.set_index(["recipe", "against"])
    worse = [(against, row) for (recipe, against), row in table.iterrows() if recipe == "a"]
    assert {against for against, _ in worse} == {"b", "c"}
    for _, row in worse:
        assert row["verdict"] == "a is better"
        assert "corrected for 3 pairs" in row["explanation"]
    (other,) = (row for (recipe, _), row in table.iterrows() if recipe != "a")
    assert other["verdict"] == "no clear difference"
    assert "the interval includes 0" in other["explanation"]
    # Holm: the smallest p-value counts three times, and no later one comes out smaller
    order = np.argsort(table["p_value"].to_numpy(), kind="stable")
    p = table["p_value"].to_numpy()[order]
    stepped = np.maximum.accumulate(np.minimum(p * [3, 2, 1], 1))
    np.testing.assert_allclose(table["p_holm"].to_numpy()[order], stepped)
