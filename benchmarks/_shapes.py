"""Measurements of nucleus and cell taken from a map alone, the same for drawn and real cells."""

import cv2
import numpy as np

NECK = 0.7  # lobes are parts joined by a neck narrower than this share of the smaller one
SMALL = 0.3  # and at least this wide against the widest


def count_lobes(nucleus: np.ndarray) -> int:
    """Count the lobes by flooding the distance transform from its peaks."""
    depth = cv2.distanceTransform(np.pad(nucleus.astype(np.uint8), 1), cv2.DIST_L2, 5)
    width, flat = depth.shape[1], depth.ravel()
    order = np.argsort(-flat, kind="stable")
    order = order[flat[order] > 0]
    if len(order) == 0:
        return 0
    least = SMALL * flat[order[0]]
    parent: dict[int, int] = {}
    peak: dict[int, float] = {}

    def root(p: int) -> int:
        while parent[p] != p:
            parent[p] = parent[parent[p]]
            p = parent[p]
        return p

    lobes = 0
    around = (-1, 1, -width, width, -width - 1, -width + 1, width - 1, width + 1)
    for p in order.tolist():
        parent[p], peak[p] = p, flat[p]
        for step in around:
            if p + step in parent:
                a, b = root(p), root(p + step)
                if a != b:
                    if peak[a] < peak[b]:
                        a, b = b, a
                    lobes += peak[b] > least and peak[b] * NECK > flat[p]
                    parent[b] = a
    return lobes + sum(peak[r] > least for r in {root(p) for p in parent})


def shape_of(cell_map: np.ndarray, micrometres_per_pixel: float) -> dict[str, float]:
    """Return diameter (um), areas (um2), nc_ratio, lobes and solidity of cell 1 of a map."""
    nucleus, cell = cell_map == 2, (cell_map == 1) | (cell_map == 2)
    unit = micrometres_per_pixel**2
    cell_area, nucleus_area = cell.sum() * unit, nucleus.sum() * unit
    return {
        "diameter": 2 * float(np.sqrt(cell_area / np.pi)),
        "cell_area": float(cell_area),
        "nucleus_area": float(nucleus_area),
        "nc_ratio": float(nucleus_area / max(cell_area, 1e-9)),
        "n_lobes": count_lobes(nucleus),
        "cell_solidity": _solidity(cell),
        "nucleus_solidity": _solidity(nucleus),
        "cell_elongation": _elongation(cell),
    }


def _solidity(mask: np.ndarray) -> float:
    points = cv2.findNonZero(mask.astype(np.uint8))
    if points is None:
        return 0.0
    hull = cv2.fillConvexPoly(np.zeros(mask.shape, np.uint8), cv2.convexHull(points), 1)
    return float(mask.sum() / hull.sum())


def _elongation(mask: np.ndarray) -> float:
    ys, xs = np.nonzero(mask)
    if len(ys) < 3:
        return 1.0
    low, high = np.linalg.eigvalsh(np.cov(np.vstack([xs, ys])))
    return float(np.sqrt(high / max(low, 1e-9)))


def central_cell(labels: np.ndarray) -> np.ndarray:
    """Keep the large cell nearest the middle of a predicted map, with its holes filled."""
    count, parts, stats, centers = cv2.connectedComponentsWithStats((labels > 0).astype(np.uint8))
    if count < 2:
        return labels
    middle = (np.array(labels.shape[::-1]) - 1) / 2
    away = np.hypot(*(centers[1:] - middle).T) / (0.15 * labels.shape[0])
    chosen = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA] / (1 + away**2)))
    kept = np.where(parts == chosen, labels, 0).astype(np.uint8)
    _, holes, *_ = cv2.connectedComponentsWithStats((kept == 0).astype(np.uint8))
    outside = np.unique(np.r_[holes[0], holes[-1], holes[:, 0], holes[:, -1]])
    kept[(kept == 0) & ~np.isin(holes, outside)] = 1
    return kept
