"""The measures of synthetic images against their formulas, and what chance makes of them."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from hemaest.balance.fidelity import (
    copy_limit,
    frechet_distance,
    kernel_distance,
    nearness,
    support,
)


@pytest.fixture(scope="module")
def points():
    return np.random.default_rng(0).normal(size=(240, 5))


def test_frechet_distance_against_the_formula(points):
    one, other = points[:120], points[120:] * [1, 2, 1, 0.5, 1] + [0, 0, 1, 0, 0]
    a, b = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    mean = ((one.mean(0) - other.mean(0)) ** 2).sum()
    expected = mean + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-6)


def test_kernel_distance_is_the_unbiased_mmd_and_its_interval_holds_it(points):
    one, other = points[:120], points[120:] + 0.4

    def kernel(a, b):
        return (a @ b.T / 5 + 1) ** 3

    n = len(one)
    within = sum(
        (kernel(a, a).sum() - np.trace(kernel(a, a))) / (n * (n - 1)) for a in (one, other)
    )
    exact = within - 2 * kernel(one, other).mean()
    kid, low, high = kernel_distance(one, other, 0, n_subsets=400)
    assert low < exact < high and low < kid < high
    assert kid == pytest.approx(exact, abs=(high - low) / 8)
    same = kernel_distance(points[:120], points[120:], 0)
    assert same[1] < 0 < same[2]
    assert kernel_distance(one, other, 0) == kernel_distance(one, other, 0)


def test_support_knows_realism_from_variety(points):
    real, few = points[:120], np.repeat(points[120:122], 60, axis=0) * 0.1
    few = few + np.random.default_rng(1).normal(size=few.shape) * 0.01
    narrow = support(real, few)
    assert narrow["precision"] == 1 and narrow["recall"] < 0.2 and narrow["coverage"] < 0.3
    wide = support(real, points[120:] * 6)
    assert wide["precision"] < 0.3 and wide["recall"] > narrow["recall"]
    assert np.isnan(support(real[:1], few)["precision"])


def cloud(rng, n, scale=1.0):
    return rng.normal(size=(n, 5)) * scale


def shares(n_real, n_training, scales, n_runs=150):
    """Return the share of copies that an honest generator shows by class, and the stated chance."""
    found = []
    for seed in range(n_runs):
        rng = np.random.default_rng(seed)
        near = [
            nearness(cloud(rng, m, s), cloud(rng, 100, s), cloud(rng, n, s))
            for m, n, s in zip(n_real, n_training, scales, strict=True)
        ]
        limit, chance = copy_limit(near)
        found.append([n.copies(limit).mean() for n in near])
    return np.mean(found, axis=0), chance


@pytest.mark.parametrize(
    ("n_real", "n_training", "scales"),
    [
        ([5], [60], [1]),
        ([30], [60], [1]),
        ([100], [60], [1]),
        # classes of unlike size and spread are pooled
        ([55, 55, 55], [15, 60, 200], [1, 1, 3]),
    ],
)
def test_an_honest_generator_shows_what_chance_says(n_real, n_training, scales):
    found, chance = shares(n_real, n_training, scales)
    assert chance == pytest.approx(max(0.01, 1 / (sum(n_real) + 1)))
    np.testing.assert_allclose(found, chance, rtol=0.35)


def test_real_images_that_are_training_images_hide_no_copies():
    rng = np.random.default_rng(0)
    training, real = cloud(rng, 80), cloud(rng, 100)
    real[:3] = training[:3]
    near = nearness(real, np.concatenate([training + 1e-6, cloud(rng, 40)]), training)
    limit, _ = copy_limit([near])
    flags = near.copies(limit)
    assert near.n_seen == 3 and limit > 0
    assert flags[:80].all() and flags[80:].mean() < 0.1


def test_near_copies_are_found_with_few_real_images():
    rng = np.random.default_rng(0)
    training = cloud(rng, 30)
    near = nearness(cloud(rng, 6), training + 0.01 * cloud(rng, 30), training)
    assert near.copies(copy_limit([near])[0]).all()


def test_what_cannot_be_known_is_left_out():
    rng = np.random.default_rng(0)
    training, real = cloud(rng, 10), cloud(rng, 10)
    known = nearness(real, cloud(rng, 5), training)
    for unknown in (
        nearness(real, real, training[:0]),
        nearness(real[:1], real, training),
        nearness(training, real, training),
    ):
        assert len(unknown.synthetic) == 0
        assert copy_limit([known, unknown]) == copy_limit([known])
    assert np.isnan(copy_limit([unknown])).all()
