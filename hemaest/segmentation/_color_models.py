"""Color models of one image: clusters, Gaussians, thresholds, and the image's own tissue colors.

The voters (:mod:`hemaest.segmentation._voters`) separate nucleus, cytoplasm and surround by them;
the network's answer is adapted to the image at hand by :func:`adapted`.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from hemaest._numba import kernel

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]

# added to each variance, which keeps a Gaussian of few or like colors proper
FLOOR = 1.0


def kmeans(points: Array, k: int, rounds: int = 12) -> NDArray[np.float32]:
    """Return k centers; started from quantiles of the first column, so no seed is needed.

    Examples
    --------
    >>> import numpy as np
    >>> kmeans(np.array([[0.0], [1.0], [10.0], [11.0]], np.float32), 2).ravel()
    array([ 0.5, 10.5], dtype=float32)
    """
    points = np.ascontiguousarray(points, np.float32)
    order = np.argsort(points[:, 0], kind="stable")
    start = ((np.arange(k) + 0.5) / k * len(points)).astype(int)
    centers = points[order[start]]
    refine(points, centers, rounds, 0.1)
    return centers


def nearest(points: Array, centers: Array) -> NDArray[np.int32]:
    """Return the index of the nearest center of each point."""
    member = np.zeros(len(points), np.int32)
    assign(np.ascontiguousarray(points, np.float32), centers, member)
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


# the loops over pixels: numpy needs several passes for each of them


@kernel
def assign(points, centers, member):
    """Write the index of the nearest center of each point."""
    for i in range(len(points)):
        least = np.inf
        for j in range(len(centers)):
            away = 0.0
            for c in range(points.shape[1]):
                step = points[i, c] - centers[j, c]
                away += step * step
            if away < least:
                least = away
                member[i] = j


@kernel
def refine(points, centers, rounds, still):
    """Move centers to the means of their points, until none moves further than ``still``."""
    member = np.zeros(len(points), np.int32)
    for _ in range(rounds):
        assign(points, centers, member)
        total = np.zeros(centers.shape)
        count = np.zeros(len(centers))
        for i in range(len(points)):
            count[member[i]] += 1
            for c in range(points.shape[1]):
                total[member[i], c] += points[i, c]
        moved = 0.0
        for j in range(len(centers)):
            if count[j] > 0:
                for c in range(points.shape[1]):
                    mean = total[j, c] / count[j]
                    moved = max(moved, abs(mean - centers[j, c]))
                    centers[j, c] = mean
        if moved < still:
            break


@kernel
def log_densities(points, means, whitening, offsets, out):
    """Write the log of a sum of Gaussians: -|W (x - mean)|^2 / 2 + offset is the log of each."""
    n_columns = points.shape[1]
    logs = np.empty(len(means))
    for i in range(len(points)):
        top = -np.inf
        for j in range(len(means)):
            square = 0.0
            for row in range(n_columns):
                z = 0.0
                for c in range(row + 1):  # the inverse of a Cholesky factor is a lower triangle
                    z += whitening[j, row, c] * (points[i, c] - means[j, c])
                square += z * z
            logs[j] = offsets[j] - 0.5 * square
            top = max(top, logs[j])
        total = 0.0
        for j in range(len(means)):
            total += np.exp(logs[j] - top)
        out[i] = top + np.log(total)


# standardized density in units of the least spread that the color of a tissue has
UNIT = 50.0
SURE = 0.8
# the weight of color in separating nucleus from cytoplasm, and cell from surround; and the most
# that the color of one pixel can say, as log odds
SAY_NUCLEUS, SAY_CELL, MOST = 0.5, 0.4, 3.0
FEWEST = 20
REACH = 15


def adapted(
    density: NDArray[np.float32], shares: NDArray[np.float32], cell: Mask
) -> NDArray[np.float32]:
    """Return the shares after the image's own colors were taken into account.

    Where the network is sure it shows what nucleus, cytoplasm and surround look like in this
    image: a Gaussian of density each, three for the surround. They then move the borders, which
    the network draws by what it saw of other stains.
    """
    import cv2

    near = cv2.dilate(cell.astype(np.uint8), np.ones((REACH, REACH), np.uint8)).ravel() > 0
    points = UNIT * density.reshape(-1, 3)[near]
    p = shares.reshape(-1, 3)[near]
    sure = p * (p > SURE)
    if (sure[:, 1:].sum(axis=0) < FEWEST).any():
        return shares
    log_p = np.log(p + 1e-4)
    (mean1, own1), (mean2, own2) = (_moments(points, sure[:, k]) for k in (1, 2))
    # half of each spread is what both have in common: granules and clumps must not be outliers
    common = 0.25 * (own1 + own2)
    cytoplasm = log_gaussian(points, mean1, common + 0.5 * own1)
    nucleus = log_gaussian(points, mean2, common + 0.5 * own2)
    inner = expit(SAY_NUCLEUS * _bounded(nucleus - cytoplasm) + log_p[:, 2] - log_p[:, 1])
    whole = p[:, 1] + p[:, 2]
    surround = points[p[:, 0] > SURE]
    if len(surround) > 3 * FEWEST:
        sample = surround[:: max(1, len(surround) // 800)]
        outside = log_mixture(points, sample, 3)
        stained = np.where(inner > 0.5, nucleus, cytoplasm)
        seen = SAY_CELL * _bounded(stained - outside)
        whole = expit(seen + np.log(whole + 1e-4) - log_p[:, 0])
    result = shares.reshape(-1, 3).copy()
    result[near] = np.stack([1 - whole, whole * (1 - inner), whole * inner], axis=1)
    return result.reshape(shares.shape)


def _moments(
    points: NDArray[np.float32], weight: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the weighted mean and covariance."""
    total = weight.sum()
    mean = weight @ points / total
    off = points - mean
    return mean, (off * weight[:, None]).T @ off / total


def _bounded(odds: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.clip(odds, -MOST, MOST)
