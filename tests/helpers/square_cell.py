"""A cell of known size at a known place."""

import numpy as np


def square_cell(height, width, top, left, side):
    """Draw a square cell with a square nucleus, and their map."""
    image = np.full((height, width, 4), 200, np.uint8)
    image[..., 3] = 0
    image[top : top + side, left : left + side] = (120, 80, 150, 1)
    inner = slice(top + side // 4, top + side // 2), slice(left + side // 4, left + side // 2)
    image[inner] = (60, 20, 90, 2)
    return image
