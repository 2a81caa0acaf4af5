"""Bring an image of any size and shape to a square, without stretching it.

Apart from ``batches``, because ``hemaest.balance`` and ``hemaest.inspection`` use it without torch.
"""

import numpy as np
from numpy.typing import NDArray

from hemaest._geometry import fit_inside


def placement(height: int, width: int, size: int) -> tuple[int, int, int, int]:
    """Return where an image lies in its letterbox: top, left, height, width.

    Examples
    --------
    >>> placement(50, 100, 64)
    (16, 0, 32, 64)
    """
    scale = size / max(height, width)
    new_height = min(size, max(1, round(height * scale)))
    new_width = min(size, max(1, round(width * scale)))
    return (size - new_height) // 2, (size - new_width) // 2, new_height, new_width


def letterbox(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Scale an image to fit a square, and fill the rest with the median color of its border.

    Parameters
    ----------
    image : uint8 array of shape (height, width, channels)
        Only RGB is kept.
    size : int
        Side of the square.

    Returns
    -------
    square : uint8 array of shape (size, size, 3)

    Examples
    --------
    >>> letterbox(np.full((2, 4, 3), 200, np.uint8), 8)[:, 0, 0]
    array([200, 200, 200, 200, 200, 200, 200, 200], dtype=uint8)
    """
    image = image[..., :3]
    return image if image.shape[:2] == (size, size) else fit_inside(image, size, size)
