"""The label-free method for a field: every leukocyte, measured by the red cells around it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemaest import cellmap
from hemaest.segmentation._cytoplasm import whole_cell
from hemaest.segmentation._found import Found, agreement_of, nothing
from hemaest.segmentation._instances import single_cells
from hemaest.segmentation._nucleus import share_of, violet_map, voters
from hemaest.segmentation._reds import Reds, find_reds
from hemaest.segmentation._scene import Scene, make_scene
from hemaest.segmentation._standard import stained_like_nuclei

Mask = NDArray[np.bool_]

# working size: red cells of this radius in pixels; within these sides
RED_RADIUS = 15.0
FIRST_SIDE = 384
SIDES = (160, 1536)
# how far around a nucleus the network looks, in pixels of the working size
REACH = 32
# a nucleus is at least this much denser in red or green than the red cells of its field, in
# units of the field's darkest stain
DENSER = 0.12
# nuclei take less than this share of all that is stained in a field with red cells
SUSPECT = 0.55


@dataclass(frozen=True, slots=True)
class Field:
    """What a field holds, in pixels of the field.

    Attributes
    ----------
    found : Found
        Soft maps and the cell map, which may hold more than 127 cells (uint16).
    boxes : float array (k, 5)
        x0, y0, x1, y1 and score of each leukocyte, best first.
    owners : int array (k,)
        The number in the map of each of them.
    red_places, platelet_places : float array (n, 2)
        Row and column of each.
    red_radius : float
        Of a typical red cell.
    """

    found: Found
    boxes: NDArray[np.float64]
    owners: NDArray[np.intp]
    red_places: NDArray[np.float64]
    platelet_places: NDArray[np.float64]
    red_radius: float


def find_field(image: NDArray[np.uint8], net: Any = None, *, alone: bool = False) -> Field:
    """Find every leukocyte of an RGB field.

    The voters find them and a network, where given, has a say in their outlines; ``alone``
    lets the network find them too, as one that masks of fields taught should. What is too large
    to be seen at once is seen in tiles.
    """
    from hemaest.segmentation._tiles import find_tiled

    longest = max(image.shape[:2])
    if longest <= 2 * FIRST_SIDE:
        return find_in_scene(image, *_measured_scene(image), net, alone)
    scale, radius = _measured_scale(image)
    if scale * longest > SIDES[1]:
        return find_tiled(image, net, alone, scale, radius)
    scene = make_scene(image, round(max(scale * longest, SIDES[0])))
    return find_in_scene(image, scene, *first_look(scene), net, alone, radius * scene.scale)


def _measured_scale(image: NDArray[np.uint8]) -> tuple[float, float]:
    """Return the working pixels per pixel of a large field, and the radius of its red cells."""
    from hemaest.segmentation._tiles import radius_of_large

    radius = radius_of_large(image)
    if np.isfinite(radius):
        return min(1.0, RED_RADIUS / radius), radius
    return SIDES[1] / max(image.shape[:2]), radius


def working_side(image: NDArray[np.uint8]) -> int:
    """Return the longest side, in pixels, at which ``find_field`` looks at a field."""
    longest = max(image.shape[:2])
    if longest <= 2 * FIRST_SIDE:
        return max(_measured_scene(image)[0].rgb.shape[:2])
    return round(max(_measured_scale(image)[0] * longest, SIDES[0]))


def find_in_scene(
    image: NDArray[np.uint8],
    scene: Scene,
    masks: list[Mask],
    reds: Reds,
    net: Any,
    alone: bool,
    radius: float = float("nan"),
) -> Field:
    """Find the leukocytes of a field at its working size; ``radius`` of a red cell, if known."""
    density = scene.density
    votes = share_of(masks)
    radius = radius if np.isfinite(radius) else reds.radius
    shares: Any = None
    if net is not None and alone:
        from hemaest.segmentation._network import look

        _, shares = look(net, image, max(scene.rgb.shape[:2]))
        votes = shares[..., 2]
        dark = _tidy(votes > 0.5)
    else:
        dark = _tidy(_violet_part(votes > 0.5, scene, reds))
    dark = _unlike_reds(_like_nuclei(dark, scene), density, reds)
    if net is not None and not alone:
        from hemaest.segmentation._network import look_around

        shares = look_around(net, image, dark, REACH)
        votes = np.where(_widened(dark), 0.5 * (votes + shares[..., 2]), 0)
        dark = _like_nuclei(_tidy(votes > 0.5), scene)
    if not np.isfinite(radius):
        radius = _radius_of_nuclei(dark)
    nuclei, platelets = _large_enough(dark, radius)
    labels = np.zeros(nuclei.shape, np.uint16)
    if nuclei.any():
        cell_soft = grow_cells(scene, nuclei)
        if shares is not None:
            learned = shares[..., 1] + shares[..., 2]
            cell_soft = learned if alone else 0.5 * (cell_soft + learned)
            cell_soft[nuclei] = 1
        labels = single_cells(cell_soft > 0.5, nuclei, radius)
    found, boxes, owners = nothing(scene.size), np.empty((0, 5)), np.empty(0, np.intp)
    if labels.any():
        found = _enlarge(scene, labels, cell_soft, votes, nuclei, masks)
        boxes, owners = boxes_of(found.labels, _scores(labels, nuclei, density, reds, radius))
    back = 1 / scene.scale
    places = reds.places.astype(np.float64) * back
    return Field(found, boxes, owners, places, platelets * back, radius * back)


def segment_field(image: NDArray[np.uint8], net: Any = None, *, alone: bool = False) -> Found:
    """Segment every leukocyte of an RGB field, the 127 with the largest nuclei at most."""
    found = find_field(image, net, alone=alone).found
    labels = cellmap.first_cells(found.labels)
    return Found(found.nucleus, found.cell, labels, found.agreement)


def _measured_scene(image: NDArray[np.uint8]) -> tuple[Scene, list[Mask], Reds]:
    """Bring the field to a size at which red cells have a known radius."""
    scene = make_scene(image, FIRST_SIDE)
    masks, reds = first_look(scene)
    longest = max(scene.rgb.shape[:2])
    wanted = np.clip(longest * RED_RADIUS / reds.radius if reds.count else longest, *SIDES)
    wanted = min(wanted, max(scene.size))
    if 0.7 < wanted / longest < 1.4:
        return scene, masks, reds
    scene = make_scene(image, round(wanted))
    masks, reds = first_look(scene)
    return scene, masks, reds


def first_look(scene: Scene) -> tuple[list[Mask], Reds]:
    """Return the voters' masks, and the red cells outside of what can be nuclei."""
    masks = voters(scene)
    nuclei = _like_nuclei(share_of(masks) > 0.5, scene)
    return masks, find_reds(scene.density, nuclei)


def _violet_part(mask: Mask, scene: Scene, reds: Reds) -> Mask:
    """Split off the red cells where the voters took them too: nuclei are the more violet part."""
    import cv2

    stained = mask | reds.mask
    if mask.sum() < SUSPECT * stained.sum() or mask.sum() < 50:
        return mask
    soft = (violet_map(scene.rgb, scene.valid) * 255).astype(np.uint8)
    threshold, _ = cv2.threshold(soft[mask].reshape(-1, 1), 0, 255, cv2.THRESH_OTSU)
    return mask & (soft > threshold)


def _widened(mask: Mask) -> Mask:
    import cv2

    return cv2.dilate(mask.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0


def _tidy(mask: Mask) -> Mask:
    import cv2

    return cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0


def _like_nuclei(mask: Mask, scene: Scene) -> Mask:
    """Drop components that have the colour of red cells."""
    means, labels = _component_means(mask, scene.raw_density)
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


def _unlike_reds(mask: Mask, density: NDArray[np.float32], reds: Reds) -> Mask:
    """Drop components that absorb red and green light no more than the red cells do."""
    base = red_density(density, reds.mask & ~mask)
    if reds.count < 3 or base is None:
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
    areas = np.sort(stats[1:, cv2.CC_STAT_AREA])[::-1]
    if not len(areas):
        return float("nan")
    typical = areas[np.searchsorted(np.cumsum(areas), 0.5 * areas.sum())]
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


def grow_cells(scene: Scene, nuclei: Mask) -> NDArray[np.float32]:
    """Find the cytoplasm around every component of the nuclei, in a window around it."""
    from skimage.measure import label, regionprops

    parts = label(nuclei, connectivity=1)
    soft = np.zeros(nuclei.shape, np.float32)
    for region in regionprops(parts):
        top, left, bottom, right = region.bbox
        reach = int(np.ceil(1.2 * max(bottom - top, right - left))) + 4
        box = np.s_[max(0, top - reach) : bottom + reach, max(0, left - reach) : right + reach]
        own = parts[box] == region.label
        others = nuclei[box] & ~own
        window = Scene(scene.rgb[box], scene.lab[box], scene.valid[box] & ~others, own.shape)
        soft[box] = np.maximum(soft[box], whole_cell(window, own))
    soft[nuclei] = 1
    return soft


def _enlarge(
    scene: Scene,
    labels: NDArray[np.uint16],
    cell_soft: NDArray[np.float32],
    votes: NDArray[np.float32],
    nuclei: Mask,
    masks: list[Mask],
) -> Found:
    """Bring labels and soft maps to the size of the field."""
    import cv2

    kept = labels > 0
    rim = cv2.dilate(kept.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    cell = scene.up(np.where(kept, np.maximum(cell_soft, 0.51), np.minimum(cell_soft, 0.49) * rim))
    inner = nuclei & kept
    near = cv2.dilate(inner.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    small = np.where(inner, np.maximum(votes, 0.51), np.minimum(votes, 0.49) * near)
    nucleus = scene.up(small).clip(0, 1)
    cell = np.maximum(cell, nucleus).clip(0, 1)
    owner = _nearest_label(labels)
    height, width = scene.size
    owner = cv2.resize(owner, (width, height), interpolation=cv2.INTER_NEAREST)
    result = cellmap.encode(np.where(cell > 0.5, owner, 0), nucleus > 0.5)
    return Found(nucleus, cell, result, agreement_of([m & near for m in masks], inner))


def _nearest_label(labels: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Carry each label over its own border, so that enlarging leaves no unowned rim."""
    from scipy.ndimage import distance_transform_edt

    where = distance_transform_edt(labels == 0, return_distances=False, return_indices=True)
    return labels[tuple(where)]


def _scores(
    labels: NDArray[np.uint16],
    nuclei: Mask,
    density: NDArray[np.float32],
    reds: Reds,
    radius: float,
) -> NDArray[np.float64]:
    """Score each cell by the size of its nucleus and how far it stands out from red cells."""
    red = np.pi * radius**2
    base = red_density(density, reds.mask & (labels == 0))
    base = np.full(3, 0.2) if base is None else base
    scores = []
    for k in range(1, int(labels.max()) + 1):
        inside = (labels == k) & nuclei
        size = inside.sum() / red
        more = (density[inside].mean(axis=0) - base)[:2].max()
        odds = 4 * np.log(max(size, 1e-3) / 0.4) + 10 * (more - DENSER)
        scores.append(1 / (1 + np.exp(-odds)))
    return np.asarray(scores)


def boxes_of(
    labels: NDArray[np.unsignedinteger[Any]], scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return x0, y0, x1, y1 (half-open) and score of each cell, best first, and its number."""
    from scipy.ndimage import find_objects

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
