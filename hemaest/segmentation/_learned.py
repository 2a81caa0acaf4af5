"""Segment with the network: the whole picture at a glance, then a closer look at the cell."""

import numpy as np
from numpy.typing import NDArray

from hemaest.nets.unet import SmallUNet
from hemaest.segmentation._adapt import adapted
from hemaest.segmentation._cytoplasm import filled, touching
from hemaest.segmentation._found import Found, nothing, one_cell
from hemaest.segmentation._instances import part_at_necks
from hemaest.segmentation._network import look
from hemaest.segmentation._scene import make_scene, square_around

Mask = NDArray[np.bool_]

# the closer look shows this many widths of the cell
WINDOW = 1.7
FIRST_SIDE = 80
SMALLEST = 12
# a mask that fills this much of its hull has no neck to be parted at
CONVEX = 0.94


def learned_central(net: SmallUNet, image: NDArray[np.uint8]) -> Found:
    """Segment the central cell of an RGB crop."""
    size = image.shape[:2]
    if make_scene(image, 64).blank:
        return nothing(size)
    whole = np.s_[: size[0], : size[1]]
    _, shares = look(net, image, FIRST_SIDE)
    cell = central_cell(shares)
    window = whole if cell is None else square_around(enlarged(cell, size) > 0.5, WINDOW)
    for view in (window, whole):
        density, shares = look(net, image[view])
        cell = central_cell(shares)
        if cell is not None:
            better = adapted(density, shares, cell)
            return _found(better, moved(cell, shares, better), size, view)
        if view == whole:
            break
    return nothing(size)


def _found(
    shares: NDArray[np.float32], cell: Mask, size: tuple[int, int], window: tuple[slice, slice]
) -> Found:
    """Keep the soft maps of one cell and put them where the window was."""
    import cv2

    near = cv2.dilate(cell.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    whole = shares[..., 1] + shares[..., 2]
    whole = np.where(cell, np.maximum(whole, 0.501), np.where(near, np.minimum(whole, 0.499), 0))
    nucleus = np.where(cell, shares[..., 2], 0)
    maps = np.zeros((2, *size), np.float32)
    for full, small in zip(maps, (nucleus, np.maximum(whole, nucleus)), strict=True):
        part = full[window]
        part[:] = enlarged(small, part.shape)
    return one_cell(maps[0], maps[1], sureness(shares, cell))


def enlarged(soft: NDArray, size: tuple[int, ...]) -> NDArray[np.float32]:
    """Bring a map to a size."""
    import cv2

    return cv2.resize(soft.astype(np.float32), (size[1], size[0]), interpolation=cv2.INTER_LINEAR)


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


def moved(cell: Mask, before: NDArray[np.float32], after: NDArray[np.float32]) -> Mask:
    """Return the cell after its shares changed: never what was another cell's before."""
    others = (before[..., 0] < 0.5) & ~cell
    mask = (after[..., 0] < 0.5) & ~others
    kept = touching(mask, cell)
    return filled(kept) if 2 * kept.sum() > cell.sum() else cell


def _central_part(mask: Mask, nucleus: Mask) -> Mask:
    """Part touching cells and keep the one nearest to the middle."""
    if _solidity(mask) > CONVEX:
        return mask
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
    off = np.full(len(count), np.inf)
    for k in np.flatnonzero(large):
        ys, xs = np.nonzero(pieces == k)
        if len(ys):
            off[k] = np.hypot(ys.mean() - (height - 1) / 2, xs.mean() - (width - 1) / 2)
    return mask & (pieces == int(off.argmin()))


def _solidity(mask: Mask) -> float:
    """Return the share of its hull that a mask fills."""
    import cv2

    points = cv2.findNonZero(mask.astype(np.uint8))
    corners = cv2.convexHull(points).reshape(-1, 2)
    # pixels are squares, the hull of their centres is half a pixel short all around
    return float(mask.sum() / max(cv2.contourArea(corners) + 0.5 * cv2.arcLength(corners, True), 1))


def sureness(shares: NDArray[np.float32], cell: Mask) -> float:
    """Return the mean of the winning share inside the cell."""
    return float(shares[cell].max(axis=-1).mean()) if cell.any() else float("nan")
