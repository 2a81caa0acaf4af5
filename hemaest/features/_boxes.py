"""Where the cells of a map are, in one pass."""

import numpy as np
from numba import njit

from hemaest import cellmap

VALUES = np.arange(256, dtype=np.uint8)
CELL_OF = cellmap.cells(VALUES).astype(np.int64)
IS_NUCLEUS = cellmap.nuclei(VALUES).astype(np.int64)


@njit(cache=True, nogil=True, error_model="numpy")
def _cell_boxes(cell_map, cell_of, is_nucleus):
    """Return one row for each cell: k, y0, x0, y1, x1 (half-open), cytoplasm and nucleus area."""
    height, width = cell_map.shape
    found = np.zeros((129, 7), np.int64)
    found[:, 1] = height
    found[:, 2] = width
    for y in range(height):
        x = 0
        while x < width:
            value = cell_map[y, x]
            start = x
            while x < width and cell_map[y, x] == value:
                x += 1
            if value:
                k = cell_of[value]
                found[k, 1] = min(found[k, 1], y)
                found[k, 2] = min(found[k, 2], start)
                found[k, 3] = y + 1
                found[k, 4] = max(found[k, 4], x)
                found[k, 5 + is_nucleus[value]] += x - start
    n = 0
    for k in range(1, 129):
        if found[k, 3]:
            found[n] = found[k]
            found[n, 0] = k
            n += 1
    return found[:n].copy()


def cell_boxes(cell_map):
    """Return one row for each cell: k, y0, x0, y1, x1 (half-open), cytoplasm and nucleus area."""
    return _cell_boxes(cell_map, CELL_OF, IS_NUCLEUS)
