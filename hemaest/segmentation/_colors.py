"""Small colour models: deterministic k-means, Gaussians, three-class Otsu."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

# added to each variance, which keeps a Gaussian of few or like colours proper
FLOOR = 1.0


def kmeans(points: Array, k: int, rounds: int = 12) -> NDArray[np.float32]:
    """Return k centres; started from quantiles of the first column, so no seed is needed.

    Examples
    --------
    >>> import numpy as np
    >>> kmeans(np.array([[0.0], [1.0], [10.0], [11.0]], np.float32), 2).ravel()
    array([ 0.5, 10.5], dtype=float32)
    """
    from hemaest.segmentation._compiled import refine

    points = np.ascontiguousarray(points, np.float32)
    order = np.argsort(points[:, 0], kind="stable")
    start = ((np.arange(k) + 0.5) / k * len(points)).astype(int)
    centres = points[order[start]]
    refine(points, centres, rounds, 0.1)
    return centres


def nearest(points: Array, centres: Array) -> NDArray[np.int32]:
    """Return the index of the nearest centre of each point."""
    from hemaest.segmentation._compiled import assign

    member = np.zeros(len(points), np.int32)
    assign(np.ascontiguousarray(points, np.float32), centres, member)
    return member


def log_gaussian(points: Array, mean: Array, covariance: Array) -> NDArray[np.float32]:
    """Return the log density of a full Gaussian up to a constant."""
    return _log_sum(points, [(0.0, mean, covariance)])


def log_mixture(points: Array, sample: Array, k: int) -> NDArray[np.float32]:
    """Return the log density of points under k Gaussians fitted to clusters of a sample."""
    member = nearest(sample, kmeans(sample, k))
    clusters = [c for c in (sample[member == j] for j in range(k)) if len(c) >= 8]
    parts = [(np.log(len(c) / len(sample)), c.mean(axis=0), np.cov(c.T)) for c in clusters]
    return _log_sum(points, parts or [(0.0, sample.mean(axis=0), 100 * np.eye(points.shape[1]))])


def _log_sum(points: Array, parts: list[tuple[float, Array, Array]]) -> NDArray[np.float32]:
    """Return the log of a sum of Gaussians of given log weight, mean and covariance."""
    from hemaest.segmentation._compiled import log_densities

    weights, means, covariances = (np.array(part, float) for part in zip(*parts, strict=True))
    factors = np.linalg.cholesky(covariances + FLOOR * np.eye(points.shape[1]))
    heights = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
    out = np.empty(len(points), np.float32)
    points = np.ascontiguousarray(points, np.float32)
    log_densities(points, means, np.linalg.inv(factors), weights - heights, out)
    return out


def otsu3(values: NDArray[np.uint8]) -> float:
    """Return the lower of the two thresholds of three-class Otsu, -1 where there is no contrast."""
    from skimage.filters import threshold_multiotsu

    histogram = np.bincount(values.ravel(), minlength=256).astype(float)
    if np.count_nonzero(histogram) < 4:
        return -1.0
    return float(threshold_multiotsu(hist=(histogram, np.arange(256)), classes=3)[0])
