"""Fit the network's answer to the colours of the one picture at hand."""

import numpy as np
from numpy.typing import NDArray

from hemaest.segmentation._colors import log_gaussian, log_mixture

Mask = NDArray[np.bool_]

# standardized density in units of the least spread that the colour of a tissue has
UNIT = 50.0
SURE = 0.8
# the weight of colour in telling nucleus from cytoplasm, and cell from surround; and the most
# that the colour of one pixel can say, as log odds
SAY_NUCLEUS, SAY_CELL, MOST = 0.5, 0.4, 3.0
FEWEST = 20
REACH = 15


def adapted(
    density: NDArray[np.float32], shares: NDArray[np.float32], cell: Mask
) -> NDArray[np.float32]:
    """Return the shares after the picture's own colours have had their say.

    Where the network is sure it shows what nucleus, cytoplasm and surround look like in this
    picture: a Gaussian of density each, three for the surround. They then move the borders, which
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
    inner = _odds(SAY_NUCLEUS * _bounded(nucleus - cytoplasm) + log_p[:, 2] - log_p[:, 1])
    whole = p[:, 1] + p[:, 2]
    surround = points[p[:, 0] > SURE]
    if len(surround) > 3 * FEWEST:
        sample = surround[:: max(1, len(surround) // 800)]
        outside = log_mixture(points, sample, 3)
        stained = np.where(inner > 0.5, nucleus, cytoplasm)
        seen = SAY_CELL * _bounded(stained - outside)
        whole = _odds(seen + np.log(whole + 1e-4) - log_p[:, 0])
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


def _odds(x: NDArray[np.floating]) -> NDArray[np.floating]:
    return 1 / (1 + np.exp(-x))
