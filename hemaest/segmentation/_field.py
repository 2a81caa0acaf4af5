"""The label-free method for a field: every nucleus, its lobes joined, neighbours parted."""

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from hemaest.segmentation._cytoplasm import whole_cell
from hemaest.segmentation._found import Found, agreement_of, nothing
from hemaest.segmentation._nucleus import voters
from hemaest.segmentation._scene import Scene, make_scene

Mask = NDArray[np.bool_]

SIDE = 384
MAX_CELLS = 127


def segment_field(image: NDArray[np.uint8]) -> Found:
    """Segment every leukocyte of an RGB field."""
    import cv2

    scene = make_scene(image, SIDE)
    masks = voters(scene)
    votes = np.mean(masks, axis=0, dtype=np.float32)
    majority = votes > 0.5
    nuclei = group_nuclei(majority)
    if not nuclei.any():
        return nothing(scene.size)
    nucleus_soft = np.where(nuclei > 0, np.maximum(votes, 0.51), np.minimum(votes, 0.49))
    near = cv2.dilate((nuclei > 0).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    nucleus_soft = scene.up(np.where(near, nucleus_soft, 0)).clip(0, 1)
    cell_small, owner_small = grow_cells(scene, nuclei)
    cell_soft = scene.up(cell_small).clip(0, 1)
    height, width = scene.size
    owner = cv2.resize(owner_small, (width, height), interpolation=cv2.INTER_NEAREST)
    labels = np.where((np.maximum(cell_soft, nucleus_soft) > 0.5) & (owner > 0), 2 * owner - 1, 0)
    labels = np.where((nucleus_soft > 0.5) & (labels > 0), labels + 1, labels).astype(np.uint8)
    agreement = agreement_of([m & near for m in masks], nuclei > 0)
    return Found(nucleus_soft, cell_soft, labels, agreement)


def group_nuclei(mask: Mask) -> NDArray[np.uint8]:
    """Label nuclei: specks dropped, clumps parted, the lobes of one nucleus joined.

    Examples
    --------
    Two lobes with a small gap are one nucleus; a far one is another.

    >>> import numpy as np
    >>> mask = np.zeros((40, 90), bool)
    >>> mask[10:24, 5:15] = mask[10:24, 17:27] = mask[10:30, 60:80] = True
    >>> group_nuclei(mask).max()
    np.uint8(2)
    """
    import cv2

    solid = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    n, parts, stats, _ = cv2.connectedComponentsWithStats(solid, connectivity=4)
    if n < 2:
        return np.zeros(mask.shape, np.uint8)
    typical = typical_area(stats[1:, cv2.CC_STAT_AREA])
    parts = part_clumps(parts, typical)
    regions = _regions(parts, 0.06 * typical)
    groups = _join_lobes(regions, typical)
    groups = [g for g in groups if sum(r.area for r in g) >= 0.2 * typical]
    groups.sort(key=lambda g: -sum(r.area for r in g))
    labels = np.zeros(mask.shape, np.uint8)
    for k, group in enumerate(groups[:MAX_CELLS], start=1):
        for region in group:
            labels[region.slice][region.image] = k
    return labels


def typical_area(areas: NDArray[np.integer]) -> float:
    """Return the area of a typical large component: half of all the area is in larger ones."""
    ordered = np.sort(areas)[::-1]
    return float(ordered[np.searchsorted(np.cumsum(ordered), 0.5 * ordered.sum())])


def part_clumps(parts: NDArray[np.int32], typical: float) -> NDArray[np.int32]:
    """Part components that hold several nuclei, at the necks of their distance map."""
    import cv2
    from skimage.measure import regionprops
    from skimage.segmentation import watershed

    top = int(parts.max())
    parts = parts.copy()
    for region in regionprops(parts):
        if region.area < 1.4 * typical or region.solidity > 0.93:
            continue
        inside = np.pad(region.image, 1).astype(np.uint8)
        depth = cv2.distanceTransform(inside, cv2.DIST_L2, 5)
        core = (depth > 0.7 * depth.max()).astype(np.uint8)
        n, seeds = cv2.connectedComponents(core)
        if n < 3:
            continue
        pieces = watershed(-depth, seeds, mask=inside.astype(bool))[1:-1, 1:-1]
        if np.bincount(pieces[pieces > 0])[1:].min() < 0.4 * typical:
            continue
        target = parts[region.slice]
        for k in range(2, n):
            top += 1
            target[region.image & (pieces == k)] = top
    return parts


def _regions(parts: NDArray[np.int32], smallest: float) -> list:
    from skimage.measure import regionprops

    return [r for r in regionprops(parts) if r.area >= max(smallest, 9)]


def _join_lobes(regions: list, typical: float) -> list[list]:
    """Join neighbours that are too small to be nuclei of their own."""
    from scipy.spatial import cKDTree

    parent = list(range(len(regions)))

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    trees = [cKDTree(r.coords[:: max(1, len(r.coords) // 300)]) for r in regions]
    close = []
    for i, j in combinations(range(len(regions)), 2):
        a, b = regions[i], regions[j]
        reach = 0.6 * np.sqrt(typical / np.pi)
        if np.hypot(*np.subtract(a.centroid, b.centroid)) > 4 * np.sqrt(typical / np.pi):
            continue
        gap = trees[i].query(trees[j].data, distance_upper_bound=reach + 2)[0].min()
        if gap <= reach:
            close.append((gap, i, j))
    total = {i: r.area for i, r in enumerate(regions)}
    for _, i, j in sorted(close):
        a, b = root(i), root(j)
        if a != b and min(total[a], total[b]) < 0.6 * typical and total[a] + total[b] < 2 * typical:
            parent[b] = a
            total[a] += total[b]
    groups: dict[int, list] = {}
    for i, region in enumerate(regions):
        groups.setdefault(root(i), []).append(region)
    return list(groups.values())


def grow_cells(
    scene: Scene, nuclei: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Find the cytoplasm of every nucleus in a window around it; the surer cell owns a pixel."""
    from skimage.measure import regionprops

    soft = np.zeros(nuclei.shape, np.float32)
    owner = np.zeros(nuclei.shape, np.uint8)
    for region in regionprops(nuclei.astype(np.int32)):
        top, left, bottom, right = region.bbox
        reach = int(np.ceil(1.2 * max(bottom - top, right - left))) + 4
        box = np.s_[max(0, top - reach) : bottom + reach, max(0, left - reach) : right + reach]
        own = nuclei[box] == region.label
        others = (nuclei[box] > 0) & ~own
        window = Scene(scene.rgb[box], scene.lab[box], scene.valid[box] & ~others, own.shape)
        cell = whole_cell(window, own)
        better = cell > soft[box]
        soft[box][better] = cell[better]
        owner[box][better & ~others] = region.label
    owner[nuclei > 0] = nuclei[nuclei > 0]
    return soft, owner
