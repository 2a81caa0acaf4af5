"""The leukocytes of a field that is seen at once, measured by the red cells around them.

:mod:`hemaest.segmentation._fields` brings a field, or each tile of a large one, to a size at which
red cells have a known radius, and calls :func:`find_in_view`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, find_objects
from scipy.special import expit
from skimage.feature import peak_local_max
from skimage.measure import label, regionprops

from hemaest import cellmap
from hemaest.segmentation._instances import single_cells
from hemaest.segmentation._voters import violet_map, vote_share, voters, whole_cell
from hemaest.segmentation._working_image import (
    Mask,
    SegmentationResult,
    WorkingImage,
    agreement_of,
    no_cell,
    stained_like_nuclei,
    weighted_median,
)

# how far around a nucleus the network looks, in pixels of the working size
REACH = 32
# a nucleus is at least this much denser in red or green than the red cells of its field, in
# units of the field's darkest stain
DENSER = 0.12
# nuclei take less than this share of all that is stained in a field with red cells
SUSPECT = 0.55


@dataclass(frozen=True, slots=True)
class FieldResult:
    """What a field holds, in pixels of the field.

    Attributes
    ----------
    segmentation : SegmentationResult
        Soft maps and the cell map, which may hold more than 127 cells.
    boxes : float array (k, 5)
        x0, y0, x1, y1 and score of each leukocyte, best first.
    owners : int array (k,)
        The number in the map of each of them.
    red_cell_places, platelet_places : float array (n, 2)
        Row and column of each.
    red_cell_radius : float
        Of a typical red cell.
    """

    segmentation: SegmentationResult
    boxes: NDArray[np.float64]
    owners: NDArray[np.intp]
    red_cell_places: NDArray[np.float64]
    platelet_places: NDArray[np.float64]
    red_cell_radius: float


@dataclass(frozen=True, slots=True)
class RedCells:
    """The red cells of a field.

    Attributes
    ----------
    radius : float
        Of a typical single red cell in pixels; NaN where none was seen.
    mask : bool array (h, w)
        Where red cells lie.
    places : int array (n, 2)
        Row and column of each: single ones, and the peaks of the distance map of clumps.
    """

    radius: float
    mask: Mask
    places: NDArray[np.intp]

    @property
    def count(self) -> int:
        """How many."""
        return len(self.places)


def find_in_view(
    image: NDArray[np.uint8],
    work: WorkingImage,
    masks: list[Mask],
    red_cells: RedCells,
    net: Any,
    network_only: bool,
    radius: float = float("nan"),
) -> FieldResult:
    """Find the leukocytes of a field at its working size; ``radius`` of a red cell, if known."""
    density = work.density
    votes = vote_share(masks)
    radius = radius if np.isfinite(radius) else red_cells.radius
    shares: Any = None
    if net is not None and network_only:
        from hemaest.segmentation._network import predict_at

        _, shares = predict_at(net, image, max(work.rgb.shape[:2]))
        votes = shares[..., 2]
        dark = _tidy(votes > 0.5)
    else:
        dark = _tidy(_violet_part(votes > 0.5, work, red_cells))
    dark = _unlike_reds(_like_nuclei(dark, work), density, red_cells)
    if net is not None and not network_only:
        from hemaest.segmentation._network import predict_near

        shares = predict_near(net, image, dark, REACH)
        votes = np.where(_widened(dark), 0.5 * (votes + shares[..., 2]), 0)
        dark = _like_nuclei(_tidy(votes > 0.5), work)
    if not np.isfinite(radius):
        radius = _radius_of_nuclei(dark)
    nuclei, platelets = _large_enough(dark, radius)
    labels = np.zeros(nuclei.shape, np.uint16)
    if nuclei.any():
        cell_soft = grow_cells(work, nuclei)
        if shares is not None:
            learned = shares[..., 1] + shares[..., 2]
            cell_soft = learned if network_only else 0.5 * (cell_soft + learned)
            cell_soft[nuclei] = 1
        labels = single_cells(cell_soft > 0.5, nuclei, radius)
    found, boxes, owners = no_cell(work.size), np.empty((0, 5)), np.empty(0, np.intp)
    if labels.any():
        found = _enlarge(work, labels, cell_soft, votes, nuclei, masks)
        boxes, owners = boxes_of(found.labels, _scores(labels, nuclei, density, red_cells, radius))
    back = 1 / work.scale
    places = red_cells.places.astype(np.float64) * back
    return FieldResult(found, boxes, owners, places, platelets * back, radius * back)


def votes_and_red_cells(work: WorkingImage) -> tuple[list[Mask], RedCells]:
    """Return the voters' masks, and the red cells outside of what can be nuclei."""
    masks = voters(work)
    nuclei = _like_nuclei(vote_share(masks) > 0.5, work)
    return masks, find_red_cells(work.density, nuclei)


def _violet_part(mask: Mask, work: WorkingImage, red_cells: RedCells) -> Mask:
    """Split off the red cells where the voters took them too: nuclei are the more violet part."""
    import cv2

    stained = mask | red_cells.mask
    if mask.sum() < SUSPECT * stained.sum() or mask.sum() < 50:
        return mask
    soft = (violet_map(work.rgb, work.valid) * 255).astype(np.uint8)
    threshold, _ = cv2.threshold(soft[mask].reshape(-1, 1), 0, 255, cv2.THRESH_OTSU)
    return mask & (soft > threshold)


def _widened(mask: Mask) -> Mask:
    import cv2

    return cv2.dilate(mask.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0


def _tidy(mask: Mask) -> Mask:
    import cv2

    return cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0


def _like_nuclei(mask: Mask, work: WorkingImage) -> Mask:
    """Drop components that have the color of red cells."""
    means, labels = _component_means(mask, work.raw_density)
    keep = stained_like_nuclei(means)
    keep[0] = False
    return keep[labels]


def _component_means(
    mask: Mask, values: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Return the mean of three planes over each component (0 for the rest), and the labels."""
    import cv2

    n, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    inside = np.flatnonzero(labels)
    owner, planes = labels.ravel()[inside], values.reshape(-1, 3)[inside].T
    size = np.maximum(np.bincount(owner, minlength=n), 1)
    return np.stack([np.bincount(owner, plane, n) / size for plane in planes], axis=1), labels


def _unlike_reds(mask: Mask, density: NDArray[np.float32], red_cells: RedCells) -> Mask:
    """Drop components that absorb red and green light no more than the red cells do."""
    base = red_density(density, red_cells.mask & ~mask)
    if red_cells.count < 3 or base is None:
        return mask
    means, labels = _component_means(mask, density)
    keep = (means - base)[:, :2].max(axis=1) > DENSER
    keep[0] = False
    return keep[labels]


def red_density(density: NDArray[np.float32], where: Mask) -> NDArray[np.float64] | None:
    """Return the median standardized density of the red cells, None where there are too few."""
    return np.median(density[where], axis=0).astype(float) if where.sum() >= 50 else None


def _radius_of_nuclei(mask: Mask) -> float:
    """Guess a red cell's radius where none is seen: that of a typical nucleus."""
    import cv2

    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    areas = stats[1:, cv2.CC_STAT_AREA]
    if not len(areas):
        return float("nan")
    typical = weighted_median(areas, areas)
    return 0.8 * float(np.sqrt(typical / np.pi))


def _large_enough(mask: Mask, radius: float) -> tuple[Mask, NDArray[np.float64]]:
    """Keep what can be a nucleus or a lobe of one; tell where lone small bodies, platelets, are."""
    import cv2

    if not mask.any():
        return mask, np.empty((0, 2))
    red = np.pi * radius**2
    n, labels, stats, centres = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=4
    )
    area = stats[:, cv2.CC_STAT_AREA]
    lobe = area >= 0.1 * red
    near = cv2.dilate(
        (lobe & (area > 0.3 * red))[labels].astype(np.uint8) * (labels > 0).astype(np.uint8),
        cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(radius) + 1,) * 2),
    ).astype(bool)
    beside = np.zeros(n, bool)
    beside[labels[near]] = True
    beside[0] = lobe[0] = False
    large = area > 0.3 * red
    small = (~large & ~beside & (area >= 0.02 * red))[1:]
    return (lobe & (large | beside))[labels] & (labels > 0), centres[1:][small][:, ::-1]


def grow_cells(work: WorkingImage, nuclei: Mask) -> NDArray[np.float32]:
    """Find the cytoplasm around every component of the nuclei, in a window around it."""
    parts = label(nuclei, connectivity=1)
    soft = np.zeros(nuclei.shape, np.float32)
    for region in regionprops(parts):
        top, left, bottom, right = region.bbox
        reach = int(np.ceil(1.2 * max(bottom - top, right - left))) + 4
        box = np.s_[max(0, top - reach) : bottom + reach, max(0, left - reach) : right + reach]
        own = parts[box] == region.label
        others = nuclei[box] & ~own
        window = WorkingImage(work.rgb[box], work.lab[box], work.valid[box] & ~others, own.shape)
        soft[box] = np.maximum(soft[box], whole_cell(window, own))
    soft[nuclei] = 1
    return soft


def _enlarge(
    work: WorkingImage,
    labels: NDArray[np.uint16],
    cell_soft: NDArray[np.float32],
    votes: NDArray[np.float32],
    nuclei: Mask,
    masks: list[Mask],
) -> SegmentationResult:
    """Bring labels and soft maps to the size of the field."""
    import cv2

    kept = labels > 0
    rim = cv2.dilate(kept.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    cell = work.up(np.where(kept, np.maximum(cell_soft, 0.51), np.minimum(cell_soft, 0.49) * rim))
    inner = nuclei & kept
    near = cv2.dilate(inner.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    small = np.where(inner, np.maximum(votes, 0.51), np.minimum(votes, 0.49) * near)
    nucleus = work.up(small).clip(0, 1)
    cell = np.maximum(cell, nucleus).clip(0, 1)
    owner = _nearest_label(labels)
    height, width = work.size
    owner = cv2.resize(owner, (width, height), interpolation=cv2.INTER_NEAREST)
    result = cellmap.encode(np.where(cell > 0.5, owner, 0), nucleus > 0.5)
    return SegmentationResult(nucleus, cell, result, agreement_of([m & near for m in masks], inner))


def _nearest_label(labels: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Carry each label over its own border, so that enlarging leaves no unowned rim."""
    where = distance_transform_edt(labels == 0, return_distances=False, return_indices=True)
    return labels[tuple(where)]


def _scores(
    labels: NDArray[np.uint16],
    nuclei: Mask,
    density: NDArray[np.float32],
    red_cells: RedCells,
    radius: float,
) -> NDArray[np.float64]:
    """Score each cell by the size of its nucleus and how far it stands out from red cells."""
    red = np.pi * radius**2
    base = red_density(density, red_cells.mask & (labels == 0))
    base = np.full(3, 0.2) if base is None else base
    scores = []
    for k in range(1, int(labels.max()) + 1):
        inside = (labels == k) & nuclei
        size = inside.sum() / red
        more = (density[inside].mean(axis=0) - base)[:2].max()
        odds = 4 * np.log(max(size, 1e-3) / 0.4) + 10 * (more - DENSER)
        scores.append(expit(odds))
    return np.asarray(scores)


def boxes_of(
    labels: NDArray[np.unsignedinteger[Any]], scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return x0, y0, x1, y1 (half-open) and score of each cell, best first, and its number."""
    rows, numbers = [], []
    cells = cellmap.cells(labels).astype(np.int32)
    for k, box in enumerate(find_objects(cells, max_label=len(scores))):
        if box is not None:
            y, x = box
            rows.append([x.start, y.start, x.stop, y.stop, scores[k]])
            numbers.append(k + 1)
    table = np.array(rows, np.float64).reshape(-1, 5)
    order = np.argsort(-table[:, 4], kind="stable")
    return table[order], np.array(numbers, np.intp)[order]


def stained(density: NDArray[np.float32]) -> Mask:
    """Return everything that is not plasma, holes (the pale middle of red cells) filled."""
    import cv2

    # numpy is slow over an axis of three
    mean = np.clip((density[..., 0] + density[..., 1] + density[..., 2]) / 3, 0, 1)
    smooth = cv2.GaussianBlur(mean, (0, 0), 1.0)
    # nuclei are far darker than red cells: clip them so that the threshold falls at the plasma
    clipped = np.minimum(smooth, max(2.5 * float(np.median(smooth)), 0.25))
    scaled = (255 * clipped / max(float(clipped.max()), 1e-6)).astype(np.uint8)
    threshold, _ = cv2.threshold(scaled, 0, 255, cv2.THRESH_OTSU)
    return filled_small(scaled > threshold)


def filled_small(mask: Mask, largest: float = 0.02) -> Mask:
    """Fill holes of at most ``largest`` of the image; plasma between cells stays open."""
    import cv2

    n, labels, stats, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8), connectivity=4)
    hole = stats[:, cv2.CC_STAT_AREA] < largest * mask.size
    x, y, w, h = stats[:, :4].T
    hole &= (x > 0) & (y > 0) & (x + w < mask.shape[1]) & (y + h < mask.shape[0])
    return mask | hole[labels]


def find_red_cells(density: NDArray[np.float32], nuclei: Mask) -> RedCells:
    """Measure the red cells of a field of standardized density; nuclei are left out."""
    import cv2

    mask = stained(density)
    without = mask & ~cv2.dilate(nuclei.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    depth = cv2.distanceTransform(np.pad(without, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    peaks = _peaks(depth)
    if not len(peaks):
        return RedCells(float("nan"), without, peaks)
    radii = depth[peaks[:, 0], peaks[:, 1]]
    radius = float(weighted_median(radii, radii**2))
    return RedCells(radius, without, peaks[radii > 0.55 * radius])


def _peaks(depth: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return one peak of the distance map per round part."""
    top = float(depth.max(initial=0))
    if top < 2:
        return np.empty((0, 2), np.intp)
    high = np.percentile(depth[depth > 0], 98)
    apart = max(2, round(0.6 * high))
    return peak_local_max(
        depth, min_distance=apart, threshold_abs=0.35 * high, exclude_border=False
    )
