"""Cut the image down to its cell."""

from numbers import Integral, Real

import numpy as np
from numpy.typing import NDArray

from hemaest.base import ImageTransformer, Interval

Box = tuple[int, int, int, int]


def central_cell(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the mask of the cell whose pixels come nearest to the middle of the map.

    Examples
    --------
    >>> import numpy as np
    >>> labels = np.array([[1, 0, 3, 4, 3]], np.uint8)
    >>> central_cell(labels).astype(int).tolist()
    [[0, 0, 1, 1, 1]]
    """
    cells = (labels.astype(np.int16) + 1) // 2
    if not cells.any():
        return np.zeros(labels.shape, bool)
    rows, columns = np.nonzero(cells)
    middle = (np.array(labels.shape) - 1) / 2
    distance = (rows - middle[0]) ** 2 + (columns - middle[1]) ** 2
    nearest = int(np.argmin(distance))
    return cells == cells[rows[nearest], columns[nearest]]


def bounding_box(mask: NDArray[np.bool_]) -> Box:
    """Return (top, left, bottom, right) of a mask that is not empty, half open.

    Examples
    --------
    >>> import numpy as np
    >>> bounding_box(np.array([[0, 0, 0], [0, 1, 1]], bool))
    (1, 1, 2, 3)
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def _span(low: int, high: int, length: int, limit: int) -> tuple[int, int]:
    """Widen [low, high) to a length around its middle, moved to lie inside [0, limit)."""
    length = min(length, limit)
    start = round((low + high - length) / 2)
    start = min(max(start, 0), limit - length)
    return start, start + length


class CropToCell(ImageTransformer):
    """Cut each image to the bounding square of its cell, with a margin.

    Of several cells the one nearest to the middle is taken. An image without a cell stays whole.
    The square is moved, or where that does not do made smaller, to lie inside the image.

    Parameters
    ----------
    margin : float, default=0.1
        Added on each side, as a share of the cell's larger side.
    n_jobs : int, optional
        Threads.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.zeros((1, 50, 60, 4), np.uint8)
    >>> image[0, 20:30, 30:40, 3] = 1
    >>> CropToCell(margin=0.2).fit_transform(image).shape
    (1, 14, 14, 4)
    """

    _stateless = True
    _channels = "map"
    _parameter_constraints = {
        "margin": [Interval(Real, 0, None, closed="left")],
        "n_jobs": [Integral, None],
    }

    def __init__(self, margin: float = 0.1, *, n_jobs: int | None = None):
        self.margin = margin
        self.n_jobs = n_jobs

    def _transform_image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        cell = central_cell(image[..., 3])
        if not cell.any():
            return image.copy()
        top, left, bottom, right = bounding_box(cell)
        side = round(max(bottom - top, right - left) * (1 + 2 * self.margin))
        top, bottom = _span(top, bottom, side, image.shape[0])
        left, right = _span(left, right, side, image.shape[1])
        return image[top:bottom, left:right].copy()
