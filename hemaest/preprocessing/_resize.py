"""Bring images to one size without changing the shape of a cell."""

from numbers import Integral
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hemaest.base import ImageTransformer, Interval, StrOptions

Image = NDArray[np.uint8]


def border_color(image: Image) -> Image:
    """Return the median colour of the outermost pixels, which is mostly plasma.

    Parameters
    ----------
    image : uint8 array of shape (height, width, channels)
        The first three channels count.

    Returns
    -------
    color : uint8 array of shape (3,)

    Examples
    --------
    >>> import numpy as np
    >>> border_color(np.full((4, 4, 3), 7, np.uint8)).tolist()
    [7, 7, 7]
    """
    colors = image[..., :3]
    edge = np.concatenate([colors[0], colors[-1], colors[1:-1, 0], colors[1:-1, -1]])
    return np.median(edge, axis=0).round().astype(np.uint8)


def scale_to(image: Image, height: int, width: int) -> Image:
    """Return the image at another size; the cell map moves by nearest neighbour.

    Colours are averaged over areas when shrinking and interpolated linearly when growing.

    Examples
    --------
    >>> import numpy as np
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
    """Scale to fit inside the size, and pad with the border's median colour (letterbox)."""
    scale = min(height / image.shape[0], width / image.shape[1])
    inner = scale_to(image, *_scaled(image, scale, height, width, min))
    return pad_to(inner, height, width, border_color(image))


def pad_to(image: Image, height: int, width: int, color: Image) -> Image:
    """Put the image in the middle of a canvas of one colour, whose cell map is empty.

    Examples
    --------
    >>> import numpy as np
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


class Resize(ImageTransformer):
    """Bring all images to one size and keep their aspect, so that cells keep their shape.

    Parameters
    ----------
    size : int or (int, int), default=128
        Side of the square, or (height, width).
    mode : {"pad", "crop"}, default="pad"
        ``"pad"`` fits the whole image inside and fills the rest with the median colour of the
        image's border. ``"crop"`` covers the size and cuts off the rest.
    n_jobs : int, optional
        Threads.

    Examples
    --------
    >>> import numpy as np
    >>> images = [np.zeros((20, 40, 3), np.uint8), np.zeros((30, 30, 3), np.uint8)]
    >>> Resize(16).fit_transform(np.zeros((2, 20, 40, 3), np.uint8)).shape
    (2, 16, 16, 3)
    >>> [image.shape for image in Resize((8, 12)).fit_transform(images)]
    [(8, 12, 3), (8, 12, 3)]
    """

    _stateless = True
    _parameter_constraints = {
        "size": [Interval(Integral, 1, None, closed="left"), tuple, list],
        "mode": [StrOptions({"pad", "crop"})],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        size: int | tuple[int, int] = 128,
        *,
        mode: Literal["pad", "crop"] = "pad",
        n_jobs: int | None = None,
    ):
        self.size = size
        self.mode = mode
        self.n_jobs = n_jobs

    def _validate_params(self) -> None:
        super()._validate_params()
        self._height_width()

    def _transform_image(self, image: Image) -> Image:
        height, width = self._height_width()
        return (fit_inside if self.mode == "pad" else cover)(image, height, width)

    def _height_width(self) -> tuple[int, int]:
        pair = self.size if isinstance(self.size, (tuple, list)) else (self.size, self.size)
        if len(pair) != 2 or not all(isinstance(v, Integral) and v >= 1 for v in pair):
            raise ValueError(
                f"size={self.size!r}; it must be a positive int or a pair (height, width) of them."
            )
        return int(pair[0]), int(pair[1])
