"""Fields of any size: seen at once, or measured in samples and segmented in overlapping tiles.

:func:`find_field` decides which way a field takes; ``CellSegmenter`` and ``SmearDetector`` call it.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemaest import cellmap
from hemaest._color import LOG, plasma_color
from hemaest.segmentation._field import FieldResult, RedCells, find_in_view, votes_and_red_cells
from hemaest.segmentation._working_image import (
    Mask,
    SegmentationResult,
    WorkingImage,
    weighted_median,
    working_image,
)

# working size: red cells of this radius in pixels; within these sides
RED_RADIUS = 15.0
FIRST_SIDE = 384
SIDES = (160, 1536)
# side of a tile, and how far it looks over its edge, in working pixels (a red cell has 15)
TILE = 1024
OVERLAP = 120
# estimates closer than this factor agree
SAME = 1.3
# a cell is the same as one of another tile where they share this much of it
SHARED = 0.3
# what is left of the score of a body that is small and pale beside the others
DOUBT = 0.4

Box = tuple[slice, slice]


def find_field(
    image: NDArray[np.uint8], net: Any = None, *, network_only: bool = False
) -> FieldResult:
    """Find every leukocyte of an RGB field.

    The voters find them and a network, where given, moves their outlines; ``network_only``
    lets the network find them too, for one that was trained on masks of fields. What is too large
    to be seen at once is seen in tiles.
    """
    longest = max(image.shape[:2])
    if longest <= 2 * FIRST_SIDE:
        return find_in_view(image, *_measured_image(image), net, network_only)
    scale, radius = _measured_scale(image)
    if scale * longest > SIDES[1]:
        return find_tiled(image, net, network_only, scale, radius)
    work = working_image(image, round(max(scale * longest, SIDES[0])))
    return find_in_view(
        image, work, *votes_and_red_cells(work), net, network_only, radius * work.scale
    )


def segment_field(
    image: NDArray[np.uint8], net: Any = None, *, network_only: bool = False
) -> SegmentationResult:
    """Segment every leukocyte of an RGB field, the 127 with the largest nuclei at most."""
    found = find_field(image, net, network_only=network_only).segmentation
    labels = cellmap.first_cells(found.labels)
    return SegmentationResult(found.nucleus, found.cell, labels, found.agreement)


def working_side(image: NDArray[np.uint8]) -> int:
    """Return the longest side, in pixels, at which ``find_field`` looks at a field."""
    longest = max(image.shape[:2])
    if longest <= 2 * FIRST_SIDE:
        return max(_measured_image(image)[0].rgb.shape[:2])
    return round(max(_measured_scale(image)[0] * longest, SIDES[0]))


def _measured_scale(image: NDArray[np.uint8]) -> tuple[float, float]:
    """Return the working pixels per pixel of a large field, and the radius of its red cells."""
    radius = radius_of_large(image)
    if np.isfinite(radius):
        return min(1.0, RED_RADIUS / radius), radius
    return SIDES[1] / max(image.shape[:2]), radius


def _measured_image(image: NDArray[np.uint8]) -> tuple[WorkingImage, list[Mask], RedCells]:
    """Bring the field to a size at which red cells have a known radius."""
    work = working_image(image, FIRST_SIDE)
    masks, red_cells = votes_and_red_cells(work)
    longest = max(work.rgb.shape[:2])
    wanted = np.clip(
        longest * RED_RADIUS / red_cells.radius if red_cells.count else longest, *SIDES
    )
    wanted = min(wanted, max(work.size))
    if 0.7 < wanted / longest < 1.4:
        return work, masks, red_cells
    work = working_image(image, round(wanted))
    masks, red_cells = votes_and_red_cells(work)
    return work, masks, red_cells


def radius_of_large(image: NDArray[np.uint8]) -> float:
    """Return the radius of a typical red cell of a large field in pixels, NaN where none is seen.

    Windows of growing size are looked at until two sizes agree: in too small ones the grain of
    cells is measured, in too large ones clumps, for red cells are specks there.
    """
    longest = max(image.shape[:2])
    seen: list[float] = []
    times = 1
    while True:
        seen.append(times * _radius_in_windows(image, FIRST_SIDE * times))
        if len(seen) > 1 and 1 / SAME < seen[-1] / seen[-2] < SAME:
            return seen[-2]
        if FIRST_SIDE * times >= longest:
            break
        times *= 2
    # where no two agree red cells are too small for all but the smallest windows
    return next((radius for radius in seen if np.isfinite(radius)), float("nan"))


def _radius_in_windows(image: NDArray[np.uint8], side: int) -> float:
    """Return the median over five windows of a size, in pixels of a window of FIRST_SIDE."""
    height, width = image.shape[:2]
    high, wide = min(side, height), min(side, width)
    radii = []
    for y, x in ((0.5, 0.5), (0.2, 0.2), (0.8, 0.8), (0.8, 0.2), (0.2, 0.8)):
        top, left = round(y * (height - high)), round(x * (width - wide))
        work = working_image(image[top : top + high, left : left + wide], FIRST_SIDE)
        _, red_cells = votes_and_red_cells(work)
        if red_cells.count >= 5:
            radii.append(red_cells.radius / (work.scale * side / FIRST_SIDE))
    return float(np.median(radii)) if len(radii) >= 2 else float("nan")


def find_tiled(
    image: NDArray[np.uint8],
    net: Any,
    network_only: bool,
    scale: float,
    radius: float,
    side: float = TILE,
) -> FieldResult:
    """Find every leukocyte tile by tile; each belongs to the tile that holds its middle."""
    size = image.shape[:2]
    nucleus, cell = np.zeros(size, np.float32), np.zeros(size, np.float32)
    owner = np.zeros(size, np.int32)
    boxes: list[NDArray[np.float64]] = []
    red_cells, platelets, agreements, looks = [], [], [], []
    white = LOG[plasma_color(image[::8, ::8].reshape(-1, 3)).astype(np.uint8)]
    margin = 0.5 * radius if np.isfinite(radius) else 0.0
    for core, view in tiles(size, side / scale, OVERLAP / scale):
        part = image[view]
        work = working_image(part, round(scale * max(part.shape[:2])))
        field = find_in_view(
            part, work, *votes_and_red_cells(work), net, network_only, radius * scale
        )
        corner = np.array([view[0].start, view[1].start])
        red_cells.append(_inside(field.red_cell_places + corner, core))
        platelets.append(_inside(field.platelet_places + corner, core))
        agreements.append(field.segmentation.agreement)
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
            inner = own & (field.segmentation.nucleus[near] > 0.5)
            looks.append((inner.sum(), (white - LOG[part[near][inner]]).mean()))
            free = (own | (cells[near] == 0)) & (owner[here] == 0)
            owner[here][own & free] = len(boxes)
            for full, soft in (
                (nucleus, field.segmentation.nucleus),
                (cell, field.segmentation.cell),
            ):
                full[here] = np.where(free, np.maximum(full[here], soft[near]), full[here])
    order, numbers = _by_nucleus(owner, nucleus > 0.5, len(boxes))
    labels = cellmap.encode(numbers[owner], nucleus > 0.5)
    table = np.array(boxes, np.float64).reshape(-1, 5)
    table[:, 4] *= np.where(small_and_pale(np.array(looks).reshape(-1, 2)), DOUBT, 1)
    table = table[order]
    best = np.argsort(-table[:, 4], kind="stable")
    seen = [a for a in agreements if np.isfinite(a)]
    found = SegmentationResult(
        nucleus, cell, labels, float(np.mean(seen)) if seen else float("nan")
    )
    return FieldResult(
        found, table[best], best + 1, np.concatenate(red_cells), np.concatenate(platelets), radius
    )


def small_and_pale(looks: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Tell large platelets by the area and density (n, 2) of nuclei: less than others have both.

    A tile without a leukocyte takes its largest platelets for nuclei; the field knows better.

    Examples
    --------
    >>> import numpy as np
    >>> small_and_pale(np.array([[900, 1.2], [880, 0.7], [300, 1.2], [250, 0.6]]))
    array([False, False, False,  True])
    """
    if not len(looks):
        return np.zeros(0, bool)
    area, density = looks.T
    usual_area, usual_density = (weighted_median(value, area) for value in (area, density))
    return (area < 0.5 * usual_area) & (density < 0.75 * usual_density)


def tiles(size: tuple[int, int], side: float, overlap: float) -> Iterator[tuple[Box, Box]]:
    """Yield the cores, which partition the image, and the wider windows around them.

    Examples
    --------
    >>> for core, view in tiles((100, 150), 100, 10):
    ...     print(core[1].start, core[1].stop, view[1].start, view[1].stop)
    0 75 0 85
    75 150 65 150
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
