"""Parts of a binary picture: 8-connected components and their areas."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, error_model="numpy")
def parts(mask):
    """Return the label of each pixel (0 outside) and the area of each part (areas[0] = 0).

    ``mask`` has a frame of zeros.
    """
    height, width = mask.shape
    labels = np.zeros((height, width), np.int32)
    areas = np.zeros(height * width // 2 + 2, np.int64)
    stack = np.empty((height * width, 2), np.int32)
    n = 0
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            if not mask[y, x] or labels[y, x]:
                continue
            n += 1
            labels[y, x] = n
            stack[0, 0] = y
            stack[0, 1] = x
            size = 1
            while size:
                size -= 1
                cy = stack[size, 0]
                cx = stack[size, 1]
                areas[n] += 1
                for ny in range(cy - 1, cy + 2):
                    for nx in range(cx - 1, cx + 2):
                        if mask[ny, nx] and not labels[ny, nx]:
                            labels[ny, nx] = n
                            stack[size, 0] = ny
                            stack[size, 1] = nx
                            size += 1
    return labels, areas[: n + 1].copy()
