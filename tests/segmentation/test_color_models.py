"""The color models agree with SciPy's, and move a network's borders to where colors change."""

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from hemaest.segmentation import _color_models


@pytest.fixture
def points():
    rng = np.random.default_rng(0)
    centers = np.array([[20.0, 10, -10], [60, 30, -30], [90, 0, 5]])
    return (centers[np.arange(600) % 3] + rng.normal(0, 4, (600, 3))).astype(np.float32)


def plain(points, mean, covariance):
    # up to the constant that all Gaussians of three columns share
    density = multivariate_normal(mean, covariance + _color_models.FLOOR * np.eye(3))
    return density.logpdf(points) + 1.5 * np.log(2 * np.pi)


def test_a_gaussian_is_scipys(points):
    mean, covariance = points.mean(axis=0), np.cov(points.T)
    got = _color_models.log_gaussian(points, mean, covariance)
    np.testing.assert_allclose(got, plain(points, mean, covariance), rtol=1e-5, atol=1e-5)


def test_a_mixture_is_the_sum_of_its_clusters(points):
    clusters = [points[j::3] for j in range(3)]
    logs = [np.log(1 / 3) + plain(points, c.mean(axis=0), np.cov(c.T)) for c in clusters]
    got = _color_models.log_mixture(points, points, 3)
    np.testing.assert_allclose(got, logsumexp(logs, axis=0), rtol=1e-4, atol=1e-3)


def test_centers_are_the_means_of_their_points(points):
    centers = _color_models.kmeans(points, 3, rounds=50)
    distance = np.linalg.norm(points[:, None] - centers, axis=2)
    member = _color_models.nearest(points, centers)
    assert (member == distance.argmin(axis=1)).all()
    means = np.stack([points[member == j].mean(axis=0) for j in range(3)])
    np.testing.assert_allclose(centers, means, atol=0.1)


def test_a_view_that_is_not_contiguous_gives_the_same(points):
    every_second = np.repeat(points, 2, axis=0)[::2]
    assert (_color_models.kmeans(every_second, 4) == _color_models.kmeans(points, 4)).all()


Y, X = np.mgrid[:96, :96]


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def disk(radius, shift=0.0):
    return np.hypot(Y - 48, X - 48 - shift) < radius


@pytest.fixture
def drawn():
    """A cell, and shares that are sure where they should not be: the borders are off by pixels."""
    image = np.full((96, 96, 3), (245, 228, 208), float)
    image[disk(34)], image[disk(20)] = (190, 188, 216), (95, 55, 140)
    image += np.random.default_rng(0).normal(0, 3, image.shape)
    nucleus = 1 / (1 + np.exp((np.hypot(Y - 48, X - 48) - 17.5) / 1.5))
    cell = 1 / (1 + np.exp((np.hypot(Y - 48, X - 48) - 31.5) / 1.5))
    shares = np.stack([1 - cell, cell * (1 - nucleus), cell * nucleus], axis=-1)
    density = np.log(np.array((246, 229, 209)) / (image.clip(0, 255) + 1))
    density /= np.percentile(density.mean(axis=2), 98)
    return density.astype(np.float32), shares.astype(np.float32)


def test_borders_move_to_where_the_color_changes(drawn):
    density, shares = drawn
    after = _color_models.adapted(density, shares, shares[..., 0] < 0.5)
    for part, radius in ((slice(2, 3), 20), (slice(1, 3), 34)):
        before_dice = dice(shares[..., part].sum(-1) > 0.5, disk(radius))
        assert dice(after[..., part].sum(-1) > 0.5, disk(radius)) > before_dice + 0.01


def test_shares_stay_shares(drawn):
    density, shares = drawn
    after = _color_models.adapted(density, shares, shares[..., 0] < 0.5)
    np.testing.assert_allclose(after.sum(axis=-1), 1, atol=1e-5)
    assert after.min() >= 0 and after.dtype == np.float32
    far = np.hypot(Y - 48, X - 48) > 50
    np.testing.assert_array_equal(after[far], shares[far])


def test_a_cell_without_cytoplasm_is_left_alone(drawn):
    density, shares = drawn
    bare = np.stack([shares[..., 0], 0 * shares[..., 1], 1 - shares[..., 0]], axis=-1)
    np.testing.assert_array_equal(_color_models.adapted(density, bare, bare[..., 0] < 0.5), bare)
