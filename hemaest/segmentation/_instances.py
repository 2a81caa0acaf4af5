"""From a mask of cells to single cells, where cells touch.

The method for crops splits a mask at its necks, that for fields by the depth that its network
predicts.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from skimage.feature import peak_local_max
from skimage.segmentation import watershed

Mask = NDArray[np.bool_]

# pieces whose neck is wider than this share of the narrower piece are one cell
NECK = 0.75
# the depth in the middle of an object, and of a dip between two of them as a share of the lower
LEAST_DEPTH = 0.35
DIP = 0.6


def split_by_depth(
    mask: Mask, depth: NDArray[np.float32], apart: float, least: float = 0
) -> NDArray[np.int32]:
    """Label single objects of a mask by their depth: 0 at the edge of each, 1 in its middle.

    Parameters
    ----------
    mask : bool array (h, w)
    depth : float32 array (h, w)
        As a network predicts it; it dips between objects that touch.
    apart : float
        Middles of two objects are at least so many pixels apart.
    least : float, default=0
        Parts of the mask of fewer pixels, with all that lies near, may stay unlabeled.

    Returns
    -------
    labels : int32 array (h, w)

    Examples
    --------
    >>> import numpy as np
    >>> y, x = np.mgrid[:60, :90]
    >>> depth = np.maximum(1 - np.hypot(y - 30, x - 28) / 19, 1 - np.hypot(y - 30, x - 62) / 19)
    >>> cells = split_by_depth(depth > 0, depth.clip(0).astype(np.float32), apart=8)
    >>> int(cells.max()), bool(cells[30, 28] != cells[30, 62])
    (2, True)
    """
    labels, n = np.zeros(mask.shape, np.int32), 0
    reach = max(1, round(apart))
    # parts that are further apart than middles must be are split each for itself
    for window, own in islands(mask, reach):
        if own.sum() >= least:
            pieces = _split_island(own, depth[window], reach)
            labels[window][own] = pieces[own] + n
            n += int(pieces.max())
    return labels


def islands(mask: Mask, reach: int) -> Iterator[tuple[tuple[slice, slice], Mask]]:
    """Yield windows with parts of a mask, which are further apart than twice ``reach``.

    Examples
    --------
    >>> import numpy as np
    >>> mask = np.zeros((9, 9), bool)
    >>> mask[2, 2] = mask[7, 7] = True
    >>> [own.shape for _, own in islands(mask, 1)], [own.shape for _, own in islands(mask, 3)]
    ([(3, 3), (3, 3)], [(9, 9)])
    """
    import cv2

    near = cv2.dilate(mask.astype(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    _, parts, boxes, _ = cv2.connectedComponentsWithStats(near, connectivity=8)
    for number, (x, y, wide, high, _) in enumerate(boxes[1:], 1):
        window = slice(y, y + high), slice(x, x + wide)
        yield window, mask[window] & (parts[window] == number)


def _split_island(mask: Mask, depth: NDArray[np.float32], apart: int) -> NDArray[np.int32]:
    import cv2

    inside = np.where(mask, depth, 0)
    peaks = peak_local_max(
        inside, min_distance=apart, threshold_abs=LEAST_DEPTH, exclude_border=False
    )
    _, whole = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    seeds = np.zeros(mask.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    # a part without a clear middle is one object
    shallow = np.setdiff1d(np.unique(whole[mask]), whole[tuple(peaks.T)])
    rest = np.isin(whole, shallow) & mask
    seeds[rest] = whole[rest] + len(peaks)
    pieces = watershed(-depth, seeds, mask=mask).astype(np.int32)
    top = np.zeros(int(seeds.max()) + 1)
    top[seeds[tuple(peaks.T)]] = depth[tuple(peaks.T)]
    return _merge(pieces, lambda a, b, neck: neck > DIP * min(top[a], top[b]), depth)


def split_at_necks(mask: Mask, radius: float) -> NDArray[np.int32]:
    """Label the parts of a mask; two parts stay one where their neck is wide."""
    import cv2

    rim = int(np.ceil(radius)) + 2
    # a cell that the image cuts continues beyond its edge
    padded = np.pad(mask, rim, mode="edge").astype(np.uint8)
    depth = cv2.distanceTransform(np.pad(padded, 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    n, whole = cv2.connectedComponents(padded, connectivity=4)
    if n == 2 and _one_deep_part(depth, radius):
        return whole[rim:-rim, rim:-rim]
    peaks = peak_local_max(
        depth,
        min_distance=max(1, round(0.4 * radius)),
        threshold_abs=0.3 * radius,
        labels=whole,
        exclude_border=False,
    )
    if not len(peaks):
        return np.zeros(mask.shape, np.int32)
    seeds = np.zeros(depth.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    pieces = watershed(-depth, seeds, mask=padded.astype(bool))
    top = np.r_[0, depth[tuple(peaks.T)]]
    pieces = _merge(pieces, lambda a, b, neck: neck > NECK * min(top[a], top[b]), depth)
    return pieces[rim:-rim, rim:-rim]


def _one_deep_part(depth: NDArray[np.float32], radius: float) -> bool:
    """Return whether all peaks of one component lie in one part deeper than any neck to cut."""
    import cv2

    reach = 2 * max(1, round(0.4 * radius)) + 1
    top = cv2.dilate(depth, np.ones((reach, reach), np.uint8))
    peaks = (depth == top) & (depth >= 0.3 * radius)
    _, deep = cv2.connectedComponents((depth > NECK * depth.max()).astype(np.uint8), connectivity=4)
    at = deep[peaks]
    return bool(len(at)) and at[0] > 0 and bool((at == at[0]).all())


def _borders(
    pieces: NDArray[np.int32], depth: NDArray[np.float32]
) -> dict[tuple[int, int], tuple[float, int]]:
    """Return the deepest point and the length of the border of each touching pair."""
    found: dict[tuple[int, int], tuple[float, int]] = {}
    for one, other, d1, d2 in (
        (pieces[1:], pieces[:-1], depth[1:], depth[:-1]),
        (pieces[:, 1:], pieces[:, :-1], depth[:, 1:], depth[:, :-1]),
    ):
        touch = (one != other) & (one > 0) & (other > 0)
        low, high = np.minimum(one[touch], other[touch]), np.maximum(one[touch], other[touch])
        deep = np.minimum(d1[touch], d2[touch])
        for a, b, d in zip(low.tolist(), high.tolist(), deep.tolist(), strict=True):
            best, length = found.get((a, b), (0.0, 0))
            found[a, b] = max(best, d), length + 1
    return found


def _merge(pieces: NDArray[np.int32], same: object, depth: NDArray[np.float32]) -> NDArray:
    """Join touching pieces, widest neck first, where ``same`` says so."""
    parent = list(range(int(pieces.max()) + 1))

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    borders = _borders(pieces, depth)
    for (a, b), (neck, _) in sorted(borders.items(), key=lambda item: -item[1][0]):
        if same(a, b, neck):  # type: ignore[operator]
            parent[root(a)] = root(b)
    return np.array([root(i) for i in range(len(parent))], np.int32)[pieces]
