"""The leukocytes of a field that is seen at once, by the network that ships for fields.

:mod:`hemaest.segmentation._fields` says at which scale a field, or each tile of a large one, is
seen, and calls :func:`find_in_view`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, find_objects
from scipy.special import expit
from skimage.feature import peak_local_max

from hemaest import cellmap
from hemaest.nets.fieldnet import CLASSES, UNIT, FieldMaps, look_at_field
from hemaest.segmentation._instances import islands, split_by_depth
from hemaest.segmentation._working_image import Mask, SegmentationResult, no_cell

# shares of the network's unit: what is no finer or coarser is seen as it is, since smooth edges are
# not what the network knows; coarser ones, whose cells are mere specks, are enlarged to the last
# (chosen on rendered fields of 0.5 to 1.2 um a pixel)
AS_IT_IS = (0.8, 2.1)
ENLARGED_TO = 1.7
LARGEST_ZOOM = 2.5
# areas in square micrometers: a leukocyte and a nucleus are at least about this large
CELL_AREA = 22.0
NUCLEUS_AREA = 9.0
TOO_SMALL = 10.0  # no score is high enough to be kept
SHARPER = np.log(0.5) / np.log(0.8)
# middles of two cells, of two red cells, of two platelets are at least so many micrometers apart
APART = {"leukocyte": 3.0, "red_cell": 2.5, "platelet": 1.2}
SMALLEST_RADIUS = 2.5  # pixels
ROUND = 0.8
MOST_ARE_SEEN = 0.15
# depth above which red cells that touch are apart, and what share of the radius of one that leaves:
# more than 0.6, since what the network says is smooth (0.654 in the median of 60 rendered fields)
CORE, CORE_RADIUS = 0.4, 0.654
RED_CELL, PLATELET = CLASSES.index("red_cell"), CLASSES.index("platelet")
NUCLEUS = CLASSES.index("nucleus")


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
        Row and column of each; none where they were not requested.
    red_cell_radius : float
        Of a typical red cell; NaN where none was seen.
    um_per_pixel : float
        The scale at which the field was seen.
    familiar : float
        Log-odds that this is a film that can be read.
    cover : float
        Share of the field that is not background.
    """

    segmentation: SegmentationResult
    boxes: NDArray[np.float64]
    owners: NDArray[np.intp]
    red_cell_places: NDArray[np.float64]
    platelet_places: NDArray[np.float64]
    red_cell_radius: float
    um_per_pixel: float
    familiar: float
    cover: float


def find_in_view(
    image: NDArray[np.uint8], net: Any, um_per_pixel: float, *, others: bool = True
) -> FieldResult:
    """Find the leukocytes of an RGB field whose scale is known; ``others`` with their neighbors."""
    zoom = working_zoom(um_per_pixel)
    maps = look_at_field(net, resized(image, zoom))
    return read_maps(maps, image.shape[:2], um_per_pixel, others=others)


def working_zoom(um_per_pixel: float) -> float:
    """Return how many times larger a field is made before the network sees it.

    Examples
    --------
    >>> [round(working_zoom(um), 2) for um in (0.1, 0.3, 0.6, 1.2)]
    [0.33, 1.0, 1.0, 2.35]
    """
    zoom = um_per_pixel / UNIT
    if zoom > AS_IT_IS[1]:
        return min(zoom / ENLARGED_TO, LARGEST_ZOOM)
    return 1.0 if zoom >= AS_IT_IS[0] else zoom


def resized(image: NDArray[np.uint8], zoom: float) -> NDArray[np.uint8]:
    """Return an image of another size."""
    import cv2

    if zoom == 1.0:
        return image
    size = tuple(max(16, round(n * zoom)) for n in image.shape[1::-1])
    way = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(np.ascontiguousarray(image), size, interpolation=way))


def read_maps(
    maps: FieldMaps, size: tuple[int, int], um_per_pixel: float, *, others: bool = True
) -> FieldResult:
    """Turn the network's maps of a field into cells of the field of the given size.

    Without ``others`` no place of a red cell or platelet is looked for.
    """
    import cv2

    shares, depth = maps.shares, cv2.GaussianBlur(maps.depth, (0, 0), 1.0)
    back = size[0] / depth.shape[0], size[1] / depth.shape[1]
    um = um_per_pixel * float(np.sqrt(back[0] * back[1]))
    white = shares[..., NUCLEUS] + shares[..., NUCLEUS - 1]
    apart, least = APART["leukocyte"] / um, TOO_SMALL / um**2
    pieces = split_by_depth(white > 0.5, depth, apart, least)
    labels, scores = _leukocytes(pieces, white * maps.film, shares[..., NUCLEUS], um)
    places = {
        name: _peaks(depth, others & (maps.kind == k), APART[name] / um) * back
        for name, k in (("red_cell", RED_CELL), ("platelet", PLATELET))
    }
    found, boxes, owners = no_cell(size), np.empty((0, 5)), np.empty(0, np.intp)
    if labels.any():
        found = _enlarge(labels, white, shares[..., NUCLEUS], size)
        boxes, owners = boxes_of(found.labels, scores)
    radii = red_cell_radii(maps)
    radius = float(np.median(radii)) if len(radii) else float("nan")
    return FieldResult(
        segmentation=found,
        boxes=boxes,
        owners=owners,
        red_cell_places=places["red_cell"],
        platelet_places=places["platelet"],
        red_cell_radius=radius * float(np.sqrt(back[0] * back[1])),
        um_per_pixel=um_per_pixel,
        familiar=maps.familiar,
        cover=float((maps.kind > 0).mean()),
    )


def _leukocytes(
    pieces: NDArray[np.int32], white: NDArray[np.float32], nucleus: NDArray[np.float32], um: float
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return the pieces that can be leukocytes, numbered by the size of their nuclei, and scores.

    A score is the mean probability that a pixel of the cell is one, times how likely a leukocyte
    and its nucleus are so small, to a power that brings the value that served rendered fields best
    to a half.
    """
    inside, n = pieces > 0, int(pieces.max()) + 1
    flat = pieces[inside]
    count = np.bincount(flat, minlength=n)
    area = count * um**2
    sure = np.bincount(flat, white[inside], n) / np.maximum(count, 1)
    inner = np.bincount(flat, nucleus[inside] > 0.5, n) * um**2
    scores = sure * expit(6 * np.log(np.maximum(area, 1e-3) / CELL_AREA) + 2)
    scores *= expit(4 * np.log(np.maximum(inner, 1e-3) / NUCLEUS_AREA) + 2)
    scores = scores**SHARPER
    good = (scores > 0.02) & (inner > 0)
    good[0] = False
    order = np.flatnonzero(good)
    order = order[np.argsort(-inner[order], kind="stable")]
    ranks = np.zeros(n, np.int32)
    ranks[order] = np.arange(1, len(order) + 1)
    return ranks[pieces], scores[order]


def _peaks(depth: NDArray[np.float32], mask: Mask, apart: float) -> NDArray[np.float64]:
    """Return row and column of the middle of each object of one class."""
    if not mask.any():
        return np.empty((0, 2))
    peaks = peak_local_max(
        np.where(mask, depth, 0),
        min_distance=max(1, round(apart)),
        threshold_abs=0.4,
        exclude_border=False,
    )
    return peaks.astype(np.float64)


def red_cell_radii(maps: FieldMaps) -> NDArray[np.float64]:
    """Return the radii, in pixels of the maps, of all red cells that are seen whole.

    Above a depth red cells do not touch; what is left of each is smaller by just that share.
    """
    import cv2

    kind = maps.kind == RED_CELL
    core = kind & (maps.depth > CORE)
    _, _, boxes, _ = cv2.connectedComponentsWithStats(core.astype(np.uint8), connectivity=4)
    left, top, wide, high, area = boxes[1:].T
    whole = (left > 0) & (top > 0) & (left + wide < core.shape[1]) & (top + high < core.shape[0])
    # two that touch are neither round nor of the size of one
    long, short = np.maximum(wide, high), np.minimum(wide, high)
    single = (area > ROUND * np.pi / 4 * wide * high) & (long < 1.5 * short)
    radii = np.sqrt(area[whole & single] / np.pi) / CORE_RADIUS
    radii = radii[radii > SMALLEST_RADIUS]
    # dots that are taken for red cells inside of large ones make up little of what is red
    few = np.pi * (radii**2).sum() < MOST_ARE_SEEN * kind.sum()
    return radii[:0] if few else radii


def _enlarge(
    labels: NDArray[np.int32],
    white: NDArray[np.float32],
    nucleus: NDArray[np.float32],
    size: tuple[int, int],
) -> SegmentationResult:
    """Bring labels and soft maps to the size of the field."""
    import cv2

    kept = labels > 0
    rim = cv2.dilate(kept.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    cell = np.where(kept, np.maximum(white, 0.501), np.where(rim, np.minimum(white, 0.499), 0))
    inner = np.where(kept, nucleus, 0)
    cell, inner = cell.astype(np.float32), inner.astype(np.float32)
    owner = labels.astype(np.uint16)
    if size != labels.shape:
        to = size[::-1]
        cell = cv2.resize(cell, to, interpolation=cv2.INTER_LINEAR)
        inner = cv2.resize(inner, to, interpolation=cv2.INTER_LINEAR)
        owner = cv2.resize(_grown(owner), to, interpolation=cv2.INTER_NEAREST)
    cell = np.maximum(cell, inner)
    owner = np.where(cell > 0.5, owner, 0)
    sure = np.abs(2 * white[rim] - 1).mean()
    return SegmentationResult(inner, cell, cellmap.encode(owner, inner > 0.5), float(sure))


def _grown(labels: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Return labels that reach two pixels further, each new pixel with the label nearest to it."""
    grown = labels.copy()
    for window, own in islands(labels > 0, 2):
        distance, (row, column) = distance_transform_edt(~own, return_indices=True)
        near = distance <= 2
        grown[window][near] = labels[window][row[near], column[near]]
    return grown


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
