"""Fields of any size: at which scale a field is seen, and how a large one is seen in tiles.

:func:`find_field` is what ``CellSegmenter`` and ``SmearDetector`` call.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemaest import cellmap
from hemaest.nets.fieldnet import UNIT, FieldMaps, look_at_field, shipped_field_net
from hemaest.segmentation._field import (
    FieldResult,
    find_in_view,
    red_cell_radii,
    resized,
    working_zoom,
)
from hemaest.segmentation._working_image import SegmentationResult

# longest side of a first look, in pixels
GLANCE = 320
# where a large field is seen, as shares of its height and width
WINDOWS = ((0.5, 0.5), (0.2, 0.2), (0.8, 0.8), (0.8, 0.2), (0.2, 0.8))
# two looks that differ by less than so many octaves agree; of these the one counts that is nearer
# to the scale, in um a pixel, that the network saw most
AGREE = 0.8
USUAL = 0.2
SMALLEST_VIEW = 96  # pixels
# a field that needs more working pixels than this on a side is seen in tiles
LARGEST = 1600
TILE = 1024
# how far a tile looks over its edge, in micrometers: two leukocytes
OVERLAP = 36.0
RED_CELL_RADIUS = 3.6  # micrometers
NO_DOUBT = 0.15  # octaves by which two looks differ that need no third
DOUBTFUL = 0.7  # octaves by which red cells of one field do not differ
ENOUGH = 6  # red cells that are seen whole, to measure a field by them
# a cell is the same as one of another tile where they share this much of it
SHARED = 0.3

Box = tuple[slice, slice]


@dataclass(frozen=True)
class Scale:
    """The scale of a field, and who says so.

    Attributes
    ----------
    um_per_pixel : float
        NaN where it is not known.
    source : {"given", "red cells", "network", "none"}
        Red cells are a good measure where there are enough of them; elsewhere the network reads
        the scale from the look of all that is there.
    doubt : float
        How far the objects of the field disagree about it, in octaves; 0 where it was given.
    """

    um_per_pixel: float
    source: str
    doubt: float

    @classmethod
    def given(cls, um_per_pixel: float | None, red_cell_radius: float | None) -> "Scale | None":
        """Return the scale that a user knows, None where they know none."""
        if um_per_pixel is not None:
            return cls(float(um_per_pixel), "given", 0.0)
        if red_cell_radius is not None:
            return cls(RED_CELL_RADIUS / float(red_cell_radius), "given", 0.0)
        return None


def find_field(
    image: NDArray[np.uint8],
    scale: Scale | None = None,
    net: Any = None,
    *,
    others: bool = True,
) -> tuple[FieldResult, Scale]:
    """Find every leukocyte of an RGB field; return them and the scale at which it was seen.

    Parameters
    ----------
    image : uint8 array (height, width, 3)
    scale : Scale, optional
        Where it is known.
    net : FieldNet, optional
        By default the one that ships.
    others : bool, default=True
        Look for the places of red cells and platelets too.
    """
    net = shipped_field_net() if net is None else net
    if scale is None:
        scale = measure_scale(image, net)
    um = scale.um_per_pixel
    if not np.isfinite(um):
        um = UNIT * max(1.0, max(image.shape[:2]) / LARGEST)
    if working_zoom(um) * max(image.shape[:2]) > LARGEST:
        return find_tiled(image, net, um, TILE, others=others), scale
    return find_in_view(image, net, um, others=others), scale


def segment_field(
    image: NDArray[np.uint8], scale: Scale | None = None, net: Any = None
) -> SegmentationResult:
    """Segment every leukocyte of an RGB field, the 127 with the largest nuclei at most."""
    found = find_field(image, scale, net, others=False)[0].segmentation
    labels = cellmap.first_cells(found.labels)
    return SegmentationResult(found.nucleus, found.cell, labels, found.agreement)


def measure_scale(image: NDArray[np.uint8], net: Any) -> Scale:
    """Return the scale of a field by its red cells, or as the network reads it.

    The field is seen small, at twice that size and so on, up to enlarged. Where cells are mere
    specks, or larger than what the network sees at once, each look halves the scale that it gives;
    where they are of a size that it knows, two looks agree. The first two that both measure red
    cells and hardly differ are believed, else those that are the least doubtful.
    """
    looks: list[tuple[float, Scale]] = []
    for zoom in _zooms(max(image.shape[:2])):
        look = _look(image, zoom, net)
        if not np.isfinite(look.um_per_pixel):
            continue
        looks.append((zoom, look))
        if len(looks) > 1 and _sure(*looks[-2:]):
            looks = looks[-2:]
            break
    if not looks:
        return Scale(float("nan"), "none", float("nan"))
    pairs = [(a, b) for a, b in itertools.pairwise(looks) if _apart(a, b) < AGREE]
    likely = min(pairs, key=lambda pair: _apart(*pair) + sum(map(_doubt, pair)), default=looks)
    return min(likely, key=_off_the_usual)[1]


def _zooms(longest: int) -> list[float]:
    """Return the zooms of all looks, the smallest first.

    Examples
    --------
    >>> _zooms(640)
    [0.25, 0.5, 1.0, 2.0]
    """
    zooms = [2.0]
    while zooms[0] / 2 * longest >= SMALLEST_VIEW:
        zooms.insert(0, zooms[0] / 2)
    return zooms if zooms[0] * longest >= SMALLEST_VIEW else []


def _sure(a: tuple[float, Scale], b: tuple[float, Scale]) -> bool:
    """Return whether two looks leave no doubt, so that no other need be taken."""
    by_red_cells = a[1].source == b[1].source == "red cells"
    return by_red_cells and _apart(a, b) < NO_DOUBT


def _apart(a: tuple[float, Scale], b: tuple[float, Scale]) -> float:
    """Return by how many octaves two looks differ."""
    return abs(float(np.log2(a[1].um_per_pixel / b[1].um_per_pixel)))


def _doubt(look: tuple[float, Scale]) -> float:
    """Return the doubt about a look; red cells are the better measure."""
    return look[1].doubt + (0.5 if look[1].source == "network" else 0.0)


def _off_the_usual(look: tuple[float, Scale]) -> float:
    """Return by how many octaves a look differs from the scale that the network saw most."""
    return abs(float(np.log2(look[1].um_per_pixel / look[0] / USUAL)))


def _look(image: NDArray[np.uint8], zoom: float, net: Any) -> Scale:
    """Return the scale of the field as one look at a zoom gives it."""
    seen = _scale_of([look_at_field(net, part) for part in _views(image, zoom)])
    return replace(seen, um_per_pixel=seen.um_per_pixel * zoom)


def _scale_of(looks: list[FieldMaps]) -> Scale:
    """Return the scale at which the looks were taken."""
    radii = np.concatenate([red_cell_radii(maps) for maps in looks])
    if len(radii) >= ENOUGH:
        low, middle, high = np.percentile(radii, [25, 50, 75])
        doubt = float(np.log2(high / low))
        if doubt < DOUBTFUL:
            return Scale(RED_CELL_RADIUS / float(middle), "red cells", doubt)
    known = [maps for maps in looks if np.isfinite(maps.um_per_pixel)]
    if not known:
        return Scale(float("nan"), "none", float("nan"))
    um, doubt = (
        float(np.median([getattr(m, n) for m in known])) for n in ("um_per_pixel", "doubt")
    )
    return Scale(um, "network", doubt)


def _views(image: NDArray[np.uint8], zoom: float) -> list[NDArray[np.uint8]]:
    """Return the whole field at a zoom, or where that is large windows of it."""
    height, width = image.shape[:2]
    if zoom * max(height, width) <= 1.2 * GLANCE:
        return [resized(image, zoom)]
    side = GLANCE / zoom
    high, wide = round(min(side, height)), round(min(side, width))
    few = zoom * max(height, width) <= 4 * GLANCE
    return [
        resized(image[top : top + high, left : left + wide], zoom)
        for y, x in WINDOWS[: 1 if few else 5]
        for top, left in [(round(y * (height - high)), round(x * (width - wide)))]
    ]


def find_tiled(
    image: NDArray[np.uint8],
    net: Any,
    um_per_pixel: float,
    side: float,
    *,
    others: bool = True,
) -> FieldResult:
    """Find every leukocyte tile by tile; each belongs to the tile that holds its middle."""
    size = image.shape[:2]
    zoom = working_zoom(um_per_pixel)
    nucleus, cell = np.zeros(size, np.float32), np.zeros(size, np.float32)
    owner = np.zeros(size, np.int32)
    boxes: list[NDArray[np.float64]] = []
    parts: list[tuple[FieldResult, int]] = []
    red_cells, platelets = [], []
    margin = 1.5 / um_per_pixel
    for core, view in tiles(size, side / zoom, OVERLAP / um_per_pixel):
        part = image[view]
        field = find_in_view(part, net, um_per_pixel, others=others)
        corner = np.array([view[0].start, view[1].start])
        red_cells.append(_inside(field.red_cell_places + corner, core))
        platelets.append(_inside(field.platelet_places + corner, core))
        parts.append((field, part.shape[0] * part.shape[1]))
        cells = cellmap.cells(field.segmentation.labels)
        for box, number in zip(field.boxes, field.owners, strict=True):
            middle = np.array([[box[1] + box[3], box[0] + box[2]]]) / 2 + corner
            if not len(_inside(middle, core, margin)):
                continue
            near = _widened(box, 4, part.shape[:2])
            own = cells[near] == number
            there = (near[0].start + corner[0], near[1].start + corner[1])
            here = tuple(slice(a, a + n) for a, n in zip(there, own.shape, strict=True))
            if (owner[here][own] > 0).sum() > SHARED * own.sum():
                continue
            boxes.append(box + np.r_[corner[::-1], corner[::-1], 0])
            free = (own | (cells[near] == 0)) & (owner[here] == 0)
            owner[here][own & free] = len(boxes)
            for full, soft in (
                (nucleus, field.segmentation.nucleus),
                (cell, field.segmentation.cell),
            ):
                full[here] = np.where(free, np.maximum(full[here], soft[near]), full[here])
    order, numbers = _by_nucleus(owner, nucleus > 0.5, len(boxes))
    labels = cellmap.encode(numbers[owner], nucleus > 0.5)
    table = np.array(boxes, np.float64).reshape(-1, 5)[order]
    best = np.argsort(-table[:, 4], kind="stable")

    def mean(name: str) -> float:
        values = [(getattr(field, name), n) for field, n in parts]
        known = np.array([row for row in values if np.isfinite(row[0])]).reshape(-1, 2)
        return float(np.average(known[:, 0], weights=known[:, 1])) if len(known) else float("nan")

    sure = [f.segmentation.agreement for f, _ in parts if np.isfinite(f.segmentation.agreement)]
    return FieldResult(
        segmentation=SegmentationResult(
            nucleus, cell, labels, float(np.mean(sure)) if sure else float("nan")
        ),
        boxes=table[best],
        owners=best + 1,
        red_cell_places=np.concatenate(red_cells),
        platelet_places=np.concatenate(platelets),
        red_cell_radius=mean("red_cell_radius"),
        um_per_pixel=um_per_pixel,
        familiar=mean("familiar"),
        cover=mean("cover"),
    )


def tiles(size: tuple[int, int], side: float, overlap: float) -> Iterator[tuple[Box, Box]]:
    """Yield the cores, which part the image, and the wider windows around them.

    Examples
    --------
    >>> for core, view in tiles((100, 150), 100, 10):
    ...     print(core[1].start, core[1].stop, view[1].start, view[1].stop)
    0 75 0 85
    75 150 65 150

    Every pixel lies in one core:

    >>> seen = np.zeros((257, 1000), int)
    >>> for core, view in tiles(seen.shape, 90, 7):
    ...     seen[core] += 1
    >>> int(seen.min()), int(seen.max())
    (1, 1)
    """
    rows, columns = (
        np.linspace(0, n, max(1, int(np.ceil(n / side))) + 1).round().astype(int) for n in size
    )
    more = int(np.ceil(overlap))
    for top, bottom in zip(rows[:-1], rows[1:], strict=True):
        for left, right in zip(columns[:-1], columns[1:], strict=True):
            core = slice(int(top), int(bottom)), slice(int(left), int(right))
            yield (
                core,
                (
                    slice(max(0, core[0].start - more), min(size[0], core[0].stop + more)),
                    slice(max(0, core[1].start - more), min(size[1], core[1].stop + more)),
                ),
            )


def _inside(places: NDArray[np.floating], core: Box, margin: float = 0.0) -> NDArray[np.floating]:
    """Keep the places (row, column) that lie in a core."""
    low = np.array([core[0].start, core[1].start]) - margin
    high = np.array([core[0].stop, core[1].stop]) + margin
    return places[((places >= low) & (places < high)).all(axis=1)]


def _widened(box: NDArray[np.float64], more: int, size: tuple[int, int]) -> Box:
    x0, y0, x1, y1 = (int(v) for v in box[:4])
    return (
        slice(max(0, y0 - more), min(size[0], y1 + more)),
        slice(max(0, x0 - more), min(size[1], x1 + more)),
    )


def _by_nucleus(
    owner: NDArray[np.int32], nucleus: NDArray[np.bool_], n: int
) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    """Return the cells' order by the size of their nuclei, and the new number of each old one."""
    area = np.bincount(owner[nucleus], minlength=n + 1)[1:]
    order = np.argsort(-area, kind="stable")
    numbers = np.zeros(n + 1, np.int32)
    numbers[order + 1] = np.arange(1, n + 1)
    return order, numbers
