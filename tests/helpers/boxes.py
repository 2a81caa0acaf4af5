"""Boxes against true ones, computed apart from the package."""

import numpy as np


def iou(a, b):
    """Return intersection over union of two sets of boxes: x0, y0, x1, y1 first."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:4], b[None, :, 2:4])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(boxes[:, 2:4] - boxes[:, :2], axis=1) for boxes in (a, b)]
    return shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1e-9)


def n_matched(boxes, truth, least=0.5):
    """Return how many boxes find a true one of their own, the best score first."""
    overlap = iou(boxes, np.asarray(truth, float))
    matched = 0
    for i in np.argsort(-boxes[:, 4], kind="stable"):
        best = overlap[i].argmax()
        if overlap[i, best] >= least:
            overlap[:, best] = 0
            matched += 1
    return matched
