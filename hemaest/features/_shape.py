"""The shape of nucleus and cell: outlines, Fourier ellipses, indentations, and all shape features.

Loops run along pixel edges with the mask on the right; their points are the middles of the edges,
in doubled integer coordinates (pixel (y, x) is (2y, 2x)), as in the convex hull. :func:`shape` is
what ``MorphologyFeatures`` calls: all features of one cell, in one call without the GIL.

numba keys a cache by one file alone: after a change in a kernel of another module that is called
from here, delete ``__pycache__`` (an installed package gets all its files at once).
"""

from functools import cache

import numpy as np

from hemaest import cellmap
from hemaest._numba import kernel
from hemaest.features import _lobes, _region
from hemaest.features._lobes import SIZE as N_LOBES, measure_lobes
from hemaest.features._region import SIZE as N_REGION, TABLES, bounds, cut, either, measure_region

HARMONICS = 8

LOOP_DEFINITIONS = {
    "euler_number": "parts - holes (8-connected)",
    "parts": "number of parts (8-connected)",
    "hole_fraction": "area of the holes / (A + area of the holes)",
}
FOURIER_DEFINITIONS = {
    "fourier_1_minor": "b1 / a1, where the outline's n-th Fourier ellipse has half axes an >= bn",
    **{
        f"fourier_{n}_{axis}": f"{letter}{n} / a1 of the outline's elliptic Fourier series"
        for n in range(2, HARMONICS + 1)
        for axis, letter in (("major", "a"), ("minor", "b"))
    },
    "bending_energy": "sum over n of n^4 (an^2 + bn^2) / sum of (an^2 + bn^2), n = 1..8",
    "radius_std": "standard deviation / mean of the distance from centroid to outline",
    "radius_min": "least / mean distance from centroid to outline",
    "radius_max": "largest / mean distance from centroid to outline",
}
INDENTATION_DEFINITIONS = {
    "indentation_depth": "largest depth of the outline under its hull / equivalent_diameter",
    "indentation_mean": "mean depth of the outline under its hull / equivalent_diameter",
    "indentation_count": "runs of the outline deeper than 5% of the equivalent_diameter",
}
RELATION_DEFINITIONS = {
    "nc_ratio": "nucleus_area / cell_area",
    "nc_diameter_ratio": "nucleus_feret_max / cell_feret_max",
    "nucleus_offset": "distance of the centroids of nucleus and cell / cell radius sqrt(A / pi)",
    "cytoplasm_area": "number of pixels of the cell that are not nucleus",
    "cytoplasm_width_min": "least distance from nucleus outline to cell outline / cell radius",
    "cytoplasm_width_mean": "mean distance from nucleus outline to cell outline / cell radius",
    "cytoplasm_width_max": "largest distance from nucleus outline to cell outline / cell radius",
    "nucleus_contact": "share of the nucleus outline that is within 1 pixel of the cell outline",
    "cell_cut": "cell pixels on the border of the image / cell_perimeter_crofton",
}
N_LOOPS = len(LOOP_DEFINITIONS)
N_FOURIER = len(FOURIER_DEFINITIONS)
N_INDENTATION = len(INDENTATION_DEFINITIONS)
_OUTLINE = N_REGION + N_LOOPS + N_FOURIER
_NUCLEUS = _OUTLINE + N_INDENTATION + N_LOBES

# steps right, down, left, up; the pixels ahead on the left and on the right of a corner
_DY = np.array([0, 1, 0, -1])
_DX = np.array([1, 0, -1, 0])
_LEFT = np.array([[-1, 0], [0, 0], [0, -1], [-1, -1]])
_RIGHT = np.array([[0, 0], [0, -1], [-1, -1], [-1, 0]])
WALK = (_DY, _DX, _LEFT, _RIGHT)


@cache
def shape_definitions() -> dict[str, str]:
    """Return the name and one-line definition of every shape feature, in order."""
    outline = {**_region.DEFINITIONS, **LOOP_DEFINITIONS, **FOURIER_DEFINITIONS}
    nucleus = {**outline, **INDENTATION_DEFINITIONS, **_lobes.DEFINITIONS}
    return {
        **{f"nucleus_{name}": f"nucleus: {text}" for name, text in nucleus.items()},
        **{f"cell_{name}": f"nucleus and cytoplasm: {text}" for name, text in outline.items()},
        **RELATION_DEFINITIONS,
    }


def shape(image, k, box, out):
    """Write the shape features of cell ``k`` of an image, in the order of their definitions."""
    _shape(image, cellmap.codes(k), box, TABLES, WALK, out)


@kernel(fastmath=False)
def _shape(image, codes, box, tables, walk, out):
    out[:] = np.nan
    cell = out[_NUCLEUS : _NUCLEUS + _OUTLINE]
    relation = out[_NUCLEUS + _OUTLINE :]
    labels = cut(image, box, 1)
    mask = either(labels, codes[0], codes[1])
    cell_y, cell_x, _, cell_loop = _outline(mask, tables, walk, cell)
    relation[8] = _on_border(mask, box[0], box[1], *image.shape[:2]) / cell[2]
    inner = either(labels, codes[1], codes[1])
    top, left, bottom, right = bounds(inner)
    if bottom <= top:
        relation[0] = 0
        relation[3] = cell[0]
        return
    inner = inner[top - 1 : bottom + 1, left - 1 : right + 1].copy()
    y, x, hull, loop = _outline(inner, tables, walk, out[:_OUTLINE])
    diameter = out[3]
    indentations(loop, hull, diameter, out[_OUTLINE : _OUTLINE + N_INDENTATION])
    measure_lobes(inner, diameter, out[_OUTLINE + N_INDENTATION : _NUCLEUS])
    radius = cell[3] / 2
    dy = y + top - 1 - cell_y
    dx = x + left - 1 - cell_x
    relation[0] = out[0] / cell[0]
    relation[1] = out[14] / cell[14]
    relation[2] = np.sqrt(dy * dy + dx * dx) / radius
    relation[3] = cell[0] - out[0]
    _widths(loop, 2 * (top - 1), 2 * (left - 1), cell_loop, radius, relation[4:8])


@kernel(fastmath=False)
def _outline(mask, tables, walk, out):
    cy, cx, points = measure_region(mask, tables[0], tables[1], out[:N_REGION])
    loop, parts, holes, hole_area = loops(mask, walk[0], walk[1], walk[2], walk[3])
    out[N_REGION] = parts - holes
    out[N_REGION + 1] = parts
    out[N_REGION + 2] = hole_area / (out[0] + hole_area)
    fourier(loop, cy, cx, out[N_REGION + N_LOOPS : _OUTLINE])
    return cy, cx, points, loop


@kernel(fastmath=False)
def _widths(nucleus, shift_y, shift_x, cell, radius, out):
    """Write least, mean and largest width of the cytoplasm, and the share of contact."""
    # separate arrays of 32 bits: the inner loop then runs eight points at a time
    ys = cell[:, 0].astype(np.int32)
    xs = cell[:, 1].astype(np.int32)
    n = len(nucleus)
    touching = 0
    least = np.inf
    most = 0.0
    total = 0.0
    for i in range(n):
        y = np.int32(nucleus[i, 0] + shift_y)
        x = np.int32(nucleus[i, 1] + shift_x)
        best = np.int32(2147483647)
        for j in range(len(ys)):
            dy = np.int32(ys[j] - y)
            dx = np.int32(xs[j] - x)
            d = np.int32(dy * dy + dx * dx)
            best = min(best, d)
        width = np.sqrt(best) / 2
        touching += width < 1
        least = min(least, width)
        most = max(most, width)
        total += width
    out[0] = least / radius
    out[1] = total / n / radius
    out[2] = most / radius
    out[3] = touching / n


@kernel(fastmath=False)
def _on_border(mask, y0, x0, height, width):
    """Count the pixels of a framed mask, cut out at (y0, x0), on the border of the image."""
    count = 0
    last_y, last_x = height - y0, width - x0
    for y in range(1, mask.shape[0] - 1):
        if y + y0 == 1 or y == last_y:
            count += mask[y].sum()
            continue
        if x0 == 0:
            count += mask[y, 1]
        # an image of one column has one border, not two
        if last_x == mask.shape[1] - 2 and width > 1:
            count += mask[y, last_x]
    return count


@kernel(fastmath=False)
def loops(mask, dy, dx, left, right):
    """Return the points of the largest outer loop, parts, holes and the area of the holes.

    ``mask`` has a frame of zeros. Parts are 8-connected.
    """
    seen = np.zeros(mask.shape, np.bool_)
    none = np.empty((0, 2), np.int64)
    parts = 0
    holes = 0
    hole_area = 0
    best = 0
    length = 0
    best_y = 0
    best_x = 0
    for y in range(1, mask.shape[0] - 1):
        for x in range(1, mask.shape[1] - 1):
            if mask[y, x] and not mask[y - 1, x] and not seen[y, x]:
                area, n = _walk(mask, y, x, dy, dx, left, right, seen, none)
                if area > 0:
                    parts += 1
                    if area > best:
                        best, length, best_y, best_x = area, n, y, x
                else:
                    holes += 1
                    hole_area -= area
    points = np.empty((length, 2), np.int64)
    if length:
        seen[:] = False
        _walk(mask, best_y, best_x, dy, dx, left, right, seen, points)
    return points, parts, holes, hole_area


@kernel(fastmath=False)
def _walk(mask, y, x, dy, dx, left, right, seen, points):
    """Follow the loop that starts on the top edge of pixel (y, x); return area and length."""
    cy, cx, d = y, x, 0
    area = 0
    n = 0
    while True:
        if d == 0:
            if seen[cy, cx] and n:
                break
            seen[cy, cx] = True
        if len(points):
            points[n, 0] = 2 * cy + dy[d] - 1
            points[n, 1] = 2 * cx + dx[d] - 1
        n += 1
        area += cx * dy[d]
        cy += dy[d]
        cx += dx[d]
        if mask[cy + left[d, 0], cx + left[d, 1]]:
            d = (d + 3) % 4
        elif not mask[cy + right[d, 0], cx + right[d, 1]]:
            d = (d + 1) % 4
        if cy == y and cx == x and d == 0:
            break
    return area, n


@kernel(fastmath=False)
def fourier(points, cy, cx, out):
    """Write the Fourier ellipses and the radii of a closed outline (Kuhl and Giardina 1982)."""
    n = len(points)
    total = 0.0
    steps = np.empty(n)
    for i in range(n):
        j = (i + 1) % n
        ay = points[j, 0] - points[i, 0]
        ax = points[j, 1] - points[i, 1]
        steps[i] = np.sqrt(ay * ay + ax * ax)
        total += steps[i]
    sums = np.zeros((8, 4))
    gone = 0.0
    c_old = np.ones(8)
    s_old = np.zeros(8)
    mean = 0.0
    square = 0.0
    least = np.inf
    most = 0.0
    for i in range(n):
        j = (i + 1) % n
        vy = (points[j, 0] - points[i, 0]) / steps[i]
        vx = (points[j, 1] - points[i, 1]) / steps[i]
        gone += steps[i]
        angle = 2 * np.pi * gone / total
        c1 = np.cos(angle)
        s1 = np.sin(angle)
        c = 1.0
        s = 0.0
        for k in range(8):
            c, s = c * c1 - s * s1, s * c1 + c * s1
            sums[k, 0] += vx * (c - c_old[k])
            sums[k, 1] += vx * (s - s_old[k])
            sums[k, 2] += vy * (c - c_old[k])
            sums[k, 3] += vy * (s - s_old[k])
            c_old[k] = c
            s_old[k] = s
        ry = points[i, 0] - 2 * cy
        rx = points[i, 1] - 2 * cx
        r = np.sqrt(ry * ry + rx * rx)
        w = steps[i] + steps[i - 1]
        mean += w * r
        square += w * r * r
        least = min(least, r)
        most = max(most, r)
    first = 1.0
    bent = 0.0
    energy = 0.0
    for k in range(8):
        # the half axes of an ellipse x = a cos + b sin, y = c cos + d sin, up to one factor
        a, b, c, d = sums[k] / (k + 1) ** 2
        plus = np.sqrt((a + d) ** 2 + (b - c) ** 2)
        minus = np.sqrt((a - d) ** 2 + (b + c) ** 2)
        major = plus + minus
        minor = abs(plus - minus)
        if k == 0:
            first = max(major, 1e-9)
            out[0] = minor / first
        else:
            out[2 * k - 1] = major / first
            out[2 * k] = minor / first
        power = major**2 + minor**2
        energy += power
        bent += (k + 1) ** 4 * power
    mean /= 2 * total
    square /= 2 * total
    out[15] = bent / max(energy, 1e-9)
    out[16] = np.sqrt(max(square - mean * mean, 0.0)) / mean
    out[17] = least / mean
    out[18] = most / mean


@kernel(fastmath=False)
def indentations(points, hull, diameter, out):
    """Write how deep the outline runs under its hull."""
    n = len(points)
    m = len(hull)
    sides = np.empty((m, 3))
    for j in range(m):
        ay = hull[(j + 1) % m, 0] - hull[j, 0]
        ax = hull[(j + 1) % m, 1] - hull[j, 1]
        side = np.sqrt(ay * ay + ax * ax)
        sides[j, 0] = ay / side
        sides[j, 1] = ax / side
        sides[j, 2] = (ay * hull[j, 1] - ax * hull[j, 0]) / side
    deepest = 0.0
    total = 0.0
    runs = 0
    limit = 0.1 * diameter  # 5%, in doubled coordinates
    deep_before = False
    deep_first = False
    for i in range(n):
        depth = np.inf
        for j in range(m):
            depth = min(
                depth, abs(sides[j, 0] * points[i, 1] - sides[j, 1] * points[i, 0] - sides[j, 2])
            )
        deepest = max(deepest, depth)
        total += depth
        deep = depth > limit
        runs += deep and not deep_before
        deep_before = deep
        if i == 0:
            deep_first = deep
    if deep_first and deep_before and runs > 1:
        runs -= 1
    out[0] = deepest / 2 / diameter
    out[1] = total / n / 2 / diameter
    out[2] = runs
