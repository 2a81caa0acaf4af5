"""Where the cells of a map are, in one pass."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, error_model="numpy")
def cell_boxes(cell_map):
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
                k = (value + 1) // 2
                found[k, 1] = min(found[k, 1], y)
                found[k, 2] = min(found[k, 2], start)
                found[k, 3] = y + 1
                found[k, 4] = max(found[k, 4], x)
                found[k, 6 - value % 2] += x - start
    n = 0
    for k in range(1, 129):
        if found[k, 3]:
            found[n] = found[k]
            found[n, 0] = k
            n += 1
    return found[:n].copy()
