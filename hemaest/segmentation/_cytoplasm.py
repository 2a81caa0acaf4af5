"""The cell around a nucleus: colour models and a distance prior, then an edge-aware smoothing."""

import numpy as np
from numpy.typing import NDArray

from hemaest.segmentation._colors import log_gaussian, log_mixture
from hemaest.segmentation._scene import Scene

Mask = NDArray[np.bool_]

# no cytoplasm is looked for beyond this many radii of the nucleus' hull
REACH = 2.2


def cell_posterior(scene: Scene, nucleus: Mask, steps: int = 2) -> NDArray[np.float32]:
    """Return the probability that a pixel belongs to the cell of this nucleus.

    The prior falls with the distance from the nucleus' hull, in units of its radius. The
    background is four Gaussians of colour far from the nucleus; the cytoplasm is one, which
    starts as "any colour of this image", so that red cells that touch the nucleus are explained
    by the background before the cytoplasm can take them.
    """
    import cv2

    ys, xs = np.nonzero(nucleus)
    hull = np.zeros(nucleus.shape, np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(np.stack([xs, ys], axis=1).astype(np.int32)), 1)
    radius = np.sqrt(hull.sum() / np.pi)
    distance = cv2.distanceTransform(1 - hull, cv2.DIST_L2, 5)
    result = nucleus.astype(np.float32)
    outside = scene.valid & ~nucleus
    if outside.sum() < 50:
        return result
    far = outside & (distance > 1.2 * radius)
    if far.sum() < 50:
        far = outside & (distance >= np.quantile(distance[outside], 0.7))
    free = outside & (distance < REACH * radius)
    points, away = scene.lab[free], distance[free]
    prior = _sigmoid((0.45 * radius - away) / (0.18 * radius)).clip(1e-4, 1 - 1e-4)
    sample = scene.lab[far]
    background = log_mixture(points, sample[:: max(1, len(sample) // 1000)], 4)
    odds = np.log(prior / (1 - prior)) - background
    everything = scene.lab[scene.valid][::3]
    wide = 4 * np.cov(everything.T) + 25 * np.eye(3)
    share = _sigmoid(odds + log_gaussian(points, everything.mean(axis=0), wide))
    for _ in range(steps):
        weight = share.sum()
        if weight < 10:
            break
        mean = share @ points / weight
        spread = points - mean
        covariance = (spread * share[:, None]).T @ spread / weight
        share = _sigmoid(odds + log_gaussian(points, mean, covariance))
    result[free] = share
    return result


def _sigmoid(x: NDArray[np.floating]) -> NDArray[np.floating]:
    return 1 / (1 + np.exp(-np.clip(x, -50, 50)))


def guided_filter(
    soft: NDArray[np.float32], guide: NDArray[np.float32], radius: int = 3, eps: float = 20.0
) -> NDArray[np.floating]:
    """Smooth a soft map along the edges of a guide (He and others, 2013)."""
    import cv2

    def mean(a: NDArray[np.floating]) -> NDArray[np.floating]:
        return cv2.blur(a, (2 * radius + 1, 2 * radius + 1))

    g, s = mean(guide), mean(soft)
    slope = (mean(guide * soft) - g * s) / (mean(guide * guide) - g * g + eps)
    return mean(slope) * guide + mean(s - slope * g)


def whole_cell(scene: Scene, nucleus: Mask) -> NDArray[np.float32]:
    """Return a soft map of the whole cell: one piece, without holes, with the nucleus inside."""
    import cv2

    soft = guided_filter(cell_posterior(scene, nucleus), scene.lab[..., 0]).clip(0, 1)
    soft[nucleus] = 1
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    opened = cv2.morphologyEx((soft > 0.5).astype(np.uint8), cv2.MORPH_OPEN, disk) | nucleus
    joined = touching(opened.astype(bool), nucleus)
    closed = cv2.morphologyEx(joined.astype(np.uint8), cv2.MORPH_CLOSE, disk).astype(bool)
    cell = filled(closed) & scene.valid
    # the soft map decides where the border runs between pixels, the mask what belongs
    inside, outside = np.maximum(soft, 0.51), np.minimum(soft, 0.49)
    near = cv2.dilate(cell.astype(np.uint8), disk).astype(bool)
    return np.where(cell, inside, np.where(near, outside, 0)).astype(np.float32)


def touching(mask: Mask, seed: Mask) -> Mask:
    """Keep the components of a mask that hold a pixel of the seed."""
    import cv2

    n, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    keep = np.zeros(n, bool)
    keep[labels[seed & mask]] = True
    keep[0] = False
    return keep[labels]


def filled(mask: Mask) -> Mask:
    """Fill the holes of a mask."""
    import cv2

    padded = np.pad(mask.astype(np.uint8), 1)
    cv2.floodFill(padded, None, (0, 0), 2)
    return padded[1:-1, 1:-1] != 2
