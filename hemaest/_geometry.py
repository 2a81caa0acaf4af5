"""Images at another size: scaled, padded, cut; colors and cell map moved together.

``Resize``, the letterbox of the networks and the figures call these functions.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemaest._frame import border_color

Image = NDArray[np.uint8]


def scale_to(image: Image, height: int, width: int) -> Image:
    """Return the image at another size; the cell map moves by nearest neighbor.

    Colors are averaged over areas when shrinking and interpolated linearly when growing.

    Examples
    --------
    >>> scale_to(np.zeros((8, 8, 4), np.uint8), 4, 2).shape
    (4, 2, 4)
    """
    import cv2

    if image.shape[:2] == (height, width):
        return image.copy()
    shrinking = height * width < image.shape[0] * image.shape[1]
    how = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
    colors = cv2.resize(np.ascontiguousarray(image[..., :3]), (width, height), interpolation=how)
    if image.shape[2] == 3:
        return colors
    labels = np.ascontiguousarray(image[..., 3])
    labels = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return np.dstack([colors, labels])


def fit_inside(image: Image, height: int, width: int) -> Image:
    """Scale to fit inside the size, and pad with the border's median color (letterbox)."""
    scale = min(height / image.shape[0], width / image.shape[1])
    inner = scale_to(image, *_scaled(image, scale, height, width, min))
    return pad_to(inner, height, width, border_color(image))


def pad_to(image: Image, height: int, width: int, color: Image) -> Image:
    """Put the image in the middle of a canvas of one color, whose cell map is empty.

    Examples
    --------
    >>> pad_to(np.ones((1, 1, 3), np.uint8), 1, 3, np.uint8([9, 9, 9]))[..., 0].tolist()
    [[9, 1, 9]]
    """
    canvas = np.zeros((height, width, image.shape[2]), np.uint8)
    canvas[..., :3] = color
    top, left = (height - image.shape[0]) // 2, (width - image.shape[1]) // 2
    canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    return canvas


def cover(image: Image, height: int, width: int) -> Image:
    """Scale to cover the size, and cut off what stands out on both sides."""
    scale = max(height / image.shape[0], width / image.shape[1])
    outer = scale_to(image, *_scaled(image, scale, height, width, max))
    top, left = (outer.shape[0] - height) // 2, (outer.shape[1] - width) // 2
    return outer[top : top + height, left : left + width].copy()


def _scaled(image: Image, scale: float, height: int, width: int, limit: Any) -> tuple[int, int]:
    rows = limit(height, max(1, round(image.shape[0] * scale)))
    columns = limit(width, max(1, round(image.shape[1] * scale)))
    return rows, columns
