import numpy as np
import pytest

from hemaest.balance._fidelity import copy_limit, nearness


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


def test_near_copies_are_told_with_few_real_images():
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
