"""From a mask of cells to single cells: split at necks, each with its nucleus.

The network's crop method and the field method call this where cells touch.
"""

import numpy as np
from numpy.typing import NDArray
from skimage.feature import peak_local_max
from skimage.measure import label
from skimage.segmentation import watershed

Mask = NDArray[np.bool_]

# pieces whose neck is wider than this share of the narrower piece are one cell
NECK = 0.75


def single_cells(cell: Mask, nucleus: Mask, radius: float) -> NDArray[np.uint16]:
    """Label single leukocytes, largest nucleus first.

    Parameters
    ----------
    cell, nucleus : bool array (h, w)
        All leukocytes, and their nuclei.
    radius : float
        Of a red cell, in pixels: nothing smaller than a part of it is a leukocyte.

    Examples
    --------
    >>> import numpy as np
    >>> y, x = np.mgrid[:60, :90]
    >>> left, right = np.hypot(y - 30, x - 28), np.hypot(y - 30, x - 62)
    >>> cells = single_cells((left < 19) | (right < 19), (left < 12) | (right < 12), radius=12)
    >>> int(cells.max()), bool(cells[30, 28] != cells[30, 62])
    (2, True)
    """
    pieces = split_at_necks(cell | nucleus, radius)
    pieces = attach_to_nucleus(pieces, nucleus, 0.15 * np.pi * radius**2)
    count = np.bincount(pieces[nucleus], minlength=pieces.max() + 1)
    size = np.bincount(pieces.ravel(), minlength=len(count))
    red = np.pi * radius**2
    good = (count >= 0.3 * red) & (size >= 0.5 * red)
    good[0] = False
    order = np.flatnonzero(good)
    order = order[np.argsort(-count[order], kind="stable")]
    ranks = np.zeros(len(count), np.uint16)
    ranks[order] = np.arange(1, len(order) + 1)
    labels = ranks[pieces]
    # what a cut left behind without a nucleus belongs to nobody
    parts = label(labels, connectivity=1)
    seen = np.zeros(parts.max() + 1, bool)
    seen[parts[nucleus]] = True
    return np.where(seen[parts], labels, 0).astype(np.uint16)


def split_at_necks(mask: Mask, radius: float) -> NDArray[np.int32]:
    """Label the parts of a mask; two parts stay one where their neck is wide."""
    import cv2

    rim = int(np.ceil(radius)) + 2
    # a cell that the image cuts goes on beyond its edge
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


def attach_to_nucleus(pieces: NDArray[np.int32], nucleus: Mask, least: float) -> NDArray[np.int32]:
    """Join a piece without a nucleus to the neighbor with the longest border."""
    count = np.bincount(pieces[nucleus], minlength=pieces.max() + 1)
    poor = count < least
    border = _borders(pieces, np.ones(pieces.shape, np.float32))
    target = np.arange(len(count))
    longest: dict[int, float] = {}
    for (a, b), (_, length) in border.items():
        for one, other in ((a, b), (b, a)):
            if poor[one] and not poor[other] and length > longest.get(one, 0):
                longest[one] = length
                target[one] = other
    return target[pieces].astype(np.int32)


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
