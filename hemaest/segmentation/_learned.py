"""Segment with the network: the whole picture first, then a closer look at the cell."""

import numpy as np
from numpy.typing import NDArray

from hemaest.nets._unet import SmallUNet
from hemaest.segmentation._cytoplasm import filled
from hemaest.segmentation._found import Found, nothing, one_cell
from hemaest.segmentation._instances import part_at_necks
from hemaest.segmentation._network import class_shares, square_around
from hemaest.segmentation._scene import make_scene

Mask = NDArray[np.bool_]

# the closer look shows this many widths of the cell
WINDOW = 1.7
SMALLEST = 12


def learned_central(net: SmallUNet, image: NDArray[np.uint8]) -> Found:
    """Segment the central cell of an RGB crop."""
    if make_scene(image, 64).blank:
        return nothing(image.shape[:2])
    shares = class_shares(net, image)
    cell = central_cell(shares)
    if cell is None:
        return nothing(image.shape[:2])
    window = square_around(cell, WINDOW)
    if window[0].stop - window[0].start < 0.8 * max(image.shape[:2]):
        near = class_shares(net, image[window])
        near_cell = central_cell(near)
        if near_cell is not None:
            shares = np.zeros_like(shares)
            shares[..., 0] = 1
            shares[window] = near
            cell = np.zeros(image.shape[:2], bool)
            cell[window] = near_cell
    return _cut_out(shares, cell)


def _cut_out(shares: NDArray[np.float32], cell: Mask) -> Found:
    """Keep the soft maps of one cell."""
    import cv2

    near = cv2.dilate(cell.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    nucleus = np.where(cell, shares[..., 2], 0)
    whole = np.where(cell, np.maximum(shares[..., 1:].sum(axis=-1), 0.501), 0)
    rim = np.where(near & ~cell, np.minimum(shares[..., 1:].sum(axis=-1), 0.499), 0)
    return one_cell(nucleus, np.maximum(whole, nucleus) + rim, sureness(shares, cell))


def central_cell(shares: NDArray[np.float32]) -> Mask | None:
    """Return the mask of the most central large cell, None where there is none."""
    import cv2

    mask = shares[..., 0] < 0.5
    nucleus = shares[..., 2] > 0.5
    height, width = mask.shape
    n, labels, stats, centres = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=4
    )
    if n < 2 or not nucleus.any():
        return None
    weight = np.bincount(labels[nucleus], minlength=n) + 0.2 * stats[:, cv2.CC_STAT_AREA]
    off = np.hypot(*(centres - [(width - 1) / 2, (height - 1) / 2]).T) / min(height, width)
    score = weight * np.exp(-((off / 0.35) ** 2))
    score[0] = 0
    chosen = labels == int(score.argmax())
    if chosen.sum() < SMALLEST:
        return None
    chosen = _central_part(chosen, nucleus)
    return filled(chosen)


def _central_part(mask: Mask, nucleus: Mask) -> Mask:
    """Part touching cells and keep the one nearest to the middle."""
    radius = 0.5 * np.sqrt(mask.sum() / np.pi)
    small = max(1, int(radius // 12))
    pieces = part_at_necks(mask[::small, ::small], radius / small)
    if pieces.max() < 2:
        return mask
    import cv2

    height, width = mask.shape
    pieces = cv2.resize(pieces.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    count = np.bincount(pieces[nucleus & mask], minlength=int(pieces.max()) + 1)
    count[0] = 0
    large = count >= 0.25 * count.max()
    if large.sum() < 2:
        return mask
    ys, xs = np.mgrid[:height, :width]
    off = [
        np.hypot(
            ys[pieces == k].mean() - (height - 1) / 2, xs[pieces == k].mean() - (width - 1) / 2
        )
        if large[k]
        else np.inf
        for k in range(len(count))
    ]
    return mask & (pieces == int(np.argmin(off)))


def sureness(shares: NDArray[np.float32], cell: Mask) -> float:
    """Return the mean of the winning share inside the cell."""
    return float(shares[cell].max(axis=-1).mean()) if cell.any() else float("nan")
