"""The color models agree with scipy's and with what k-means is."""

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
