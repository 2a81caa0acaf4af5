"""Bring images to one size without changing the shape of a cell."""

from numbers import Integral
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hemaest._geometry import cover, fit_inside
from hemaest.base import ImageTransformer, Interval, StrOptions

Image = NDArray[np.uint8]


class Resize(ImageTransformer):
    """Bring all images to one size and keep their aspect, so that cells keep their shape.

    Parameters
    ----------
    size : int or (int, int), default=128
        Side of the square, or (height, width).
    mode : {"pad", "crop"}, default="pad"
        ``"pad"`` fits the whole image inside and fills the rest with the median color of the
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
