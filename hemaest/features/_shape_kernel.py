"""All shape features of one cell, in one call without the GIL.

numba keys a cache by this file alone: after a change in a kernel that is called from here, delete
``__pycache__`` (an installed package gets all its files at once).
"""

import numpy as np
from numba import njit

from hemaest import cellmap
from hemaest.features._lobes import SIZE as N_LOBES, measure_lobes
from hemaest.features._outline import (
    N_FOURIER,
    N_INDENTATION,
    N_LOOPS,
    WALK,
    fourier,
    indentations,
    loops,
)
from hemaest.features._region import SIZE as N_REGION, TABLES, bounds, cut, either, measure_region

_OUTLINE = N_REGION + N_LOOPS + N_FOURIER
_NUCLEUS = _OUTLINE + N_INDENTATION + N_LOBES


@njit(cache=True, nogil=True, error_model="numpy")
def _outline(mask, tables, walk, out):
    cy, cx, points = measure_region(mask, tables[0], tables[1], out[:N_REGION])
    loop, parts, holes, hole_area = loops(mask, walk[0], walk[1], walk[2], walk[3])
    out[N_REGION] = parts - holes
    out[N_REGION + 1] = parts
    out[N_REGION + 2] = hole_area / (out[0] + hole_area)
    fourier(loop, cy, cx, out[N_REGION + N_LOOPS : _OUTLINE])
    return cy, cx, points, loop


@njit(cache=True, nogil=True, error_model="numpy")
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


@njit(cache=True, nogil=True, error_model="numpy")
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
        # a picture of one column has one border, not two
        if last_x == mask.shape[1] - 2 and width > 1:
            count += mask[y, last_x]
    return count


@njit(cache=True, nogil=True, error_model="numpy")
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


def shape(image, k, box, out):
    """Write the shape features of cell ``k`` of an image, in the order of their definitions."""
    _shape(image, cellmap.codes(k), box, TABLES, WALK, out)
