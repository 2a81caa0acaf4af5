"""Scores agree with plain computations, and intervals cover, by simulation with fixed seeds."""

import numpy as np
import pytest

from hemaest.evaluation import scores
from hemaest.evaluation.scores import GroupedBootstrap


def test_bootstrap_confusions_are_those_of_the_drawn_groups():
    rng = np.random.default_rng(0)
    codes, true, predicted = rng.integers(0, 6, 90), rng.integers(0, 3, 90), rng.integers(0, 3, 90)
    draws = GroupedBootstrap(codes, 20, random_state=0)
    tables = draws.confusions(true, predicted, 3)
    for weight, table in zip(draws.weights, tables, strict=True):
        rows = np.concatenate(
            [np.tile(np.flatnonzero(codes == g), int(w)) for g, w in enumerate(weight)]
        )
        expected = scores.confusions(true[rows.astype(int)], predicted[rows.astype(int)], 3)
        np.testing.assert_allclose(table, expected)


@pytest.mark.parametrize("n_groups", [8, 30])
def test_grouped_interval_covers_and_the_ungrouped_one_does_not(n_groups):
    rng = np.random.default_rng(1)
    hits = {"grouped": 0, "single": 0}
    repeats = 150
    for _ in range(repeats):
        codes = np.repeat(np.arange(n_groups), 15)
        chance = np.clip(0.8 + rng.normal(0, 0.12, n_groups), 0, 1)
        right = rng.random(len(codes)) < chance[codes]
        true, predicted = np.zeros(len(codes), int), (~right).astype(int)
        for name, groups in (("grouped", codes), ("single", np.arange(len(codes)))):
            draws = GroupedBootstrap(groups, 400, random_state=0)
            low, high = draws.interval(scores.accuracy(draws.confusions(true, predicted, 2)))
            hits[name] += low <= 0.796 <= high
    assert hits["grouped"] / repeats >= 0.9
    assert hits["single"] < hits["grouped"]


def test_one_group_gives_no_interval():
    draws = GroupedBootstrap(np.zeros(5, int), 50, random_state=0)
    assert np.isnan(draws.interval(np.ones(50))).all()


def test_calibration_error_of_the_calibrated_and_of_the_overconfident():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.5, 1, 20000)
    true = (rng.random(20000) > p).astype(int)
    honest = np.column_stack([p, 1 - p])
    assert scores.calibration_error(true, honest) < 0.015
    boast = np.where(honest > 0.5, 0.99, 0.01)
    assert scores.calibration_error(true, boast) == pytest.approx(0.24, abs=0.02)


def test_auc_needs_every_class():
    assert np.isnan(scores.auc(np.zeros(4, int), np.full((4, 2), 0.5)))
    assert scores.auc(np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]])) == 1


def test_no_error_at_all_still_has_an_interval():
    draws = GroupedBootstrap(np.arange(30), 100, random_state=0)
    low, high = draws.interval(np.ones(100), share=1.0, n=30)
    assert low == pytest.approx(0.886, abs=0.002) and high == 1
    assert draws.interval(np.ones(100)) == (1.0, 1.0)


def test_equally_sure_images_share_a_bin():
    sure = np.repeat([0.4, 0.6, 1.0], [50, 30, 20])
    mean, _, weight = scores.calibration_bins(np.ones(100, bool), sure)
    np.testing.assert_allclose(mean, [0.4, 0.6, 1.0])
    np.testing.assert_allclose(weight, [0.5, 0.3, 0.2])
