"""Small colour models: deterministic k-means, Gaussians, three-class Otsu."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def kmeans(points: Array, k: int, rounds: int = 12) -> NDArray[np.float32]:
    """Return k centres; started from quantiles of the first column, so no seed is needed.

    Examples
    --------
    >>> import numpy as np
    >>> kmeans(np.array([[0.0], [1.0], [10.0], [11.0]], np.float32), 2).ravel()
    array([ 0.5, 10.5], dtype=float32)
    """
    order = np.argsort(points[:, 0], kind="stable")
    start = ((np.arange(k) + 0.5) / k * len(points)).astype(int)
    centres = points[order[start]].astype(np.float32)
    for _ in range(rounds):
        member = nearest(points, centres)
        count = np.bincount(member, minlength=k)
        sums = np.stack([np.bincount(member, column, k) for column in points.T], axis=1)
        moved = np.where(count[:, None] > 0, sums / np.maximum(count, 1)[:, None], centres)
        still = np.abs(moved - centres).max() < 0.1
        centres = moved.astype(np.float32)
        if still:
            break
    return centres


def nearest(points: Array, centres: Array) -> NDArray[np.intp]:
    """Return the index of the nearest centre of each point."""
    return (-2 * points @ centres.T + (centres * centres).sum(axis=1)).argmin(axis=1)


def log_gaussian(points: Array, mean: Array, covariance: Array, floor: float = 1.0) -> Array:
    """Return the log density of a full Gaussian up to a constant; ``floor`` keeps it proper."""
    factor = np.linalg.cholesky(covariance + floor * np.eye(len(mean)))
    z = (points - mean) @ np.linalg.inv(factor).T.astype(points.dtype)
    return -0.5 * np.einsum("ij,ij->i", z, z) - np.log(np.diag(factor)).sum()


def log_mixture(points: Array, sample: Array, k: int) -> Array:
    """Return the log density of points under k Gaussians fitted to clusters of a sample."""
    member = nearest(sample, kmeans(sample, k))
    parts = []
    for j in range(k):
        cluster = sample[member == j]
        if len(cluster) >= 8:
            share = np.log(len(cluster) / len(sample))
            parts.append(share + log_gaussian(points, cluster.mean(axis=0), np.cov(cluster.T)))
    if not parts:
        return log_gaussian(points, sample.mean(axis=0), 100 * np.eye(points.shape[1]))
    return np.logaddexp.reduce(parts, axis=0)


def otsu3(values: NDArray[np.uint8]) -> float:
    """Return the lower of the two thresholds of three-class Otsu, -1 where there is no contrast."""
    from skimage.filters import threshold_multiotsu

    histogram = np.bincount(values.ravel(), minlength=256).astype(float)
    if np.count_nonzero(histogram) < 4:
        return -1.0
    return float(threshold_multiotsu(hist=(histogram, np.arange(256)), classes=3)[0])
