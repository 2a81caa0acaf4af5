"""The cell alone: cut the image down to its cell, or paint over what is not the cell."""

from numbers import Integral, Real
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hemaest import cellmap
from hemaest._frame import border_color
from hemaest._geometry import pad_to
from hemaest._parallel import map_images
from hemaest.base import ImageTransformer, Interval, StrOptions

Box = tuple[int, int, int, int]
# of the training cells have room in a common square; a wrong outline must not widen all
COMMON = 0.95


class CropToCell(ImageTransformer):
    """Cut each image to the square around its cell, with a margin.

    Of several cells the one nearest to the middle is taken. A square that reaches over the edge
    of its image is moved inside.

    Parameters
    ----------
    margin : float, default=0.1
        Added on each side, as a share of the cell's larger side.
    side : {"cell", "common"}, default="cell"
        ``"cell"``: each cell fills a square of its own, whatever its size; for images of several
        magnifications. ``"common"``: one square for all, so that a large cell stays larger than
        a small one; for images of one magnification. An image without a cell stays whole, or is
        cut to its middle where the square is common.
    n_jobs : int, optional
        Threads; None means all that are available.

    Attributes
    ----------
    side_ : int or None
        Only with ``side="common"``: the common side in pixels, room for 95 of 100 training cells
        and their margins; None where no training image holds a cell.

    Notes
    -----
    Where an image is smaller than its square, a square of its own is made smaller, and a common
    one is filled with the median color of the image's border.

    Examples
    --------
    >>> import numpy as np
    >>> images = np.zeros((2, 50, 60, 4), np.uint8)
    >>> images[0, 20:30, 30:40, 3] = images[1, 10:40, 15:45, 3] = 1
    >>> [image.shape for image in CropToCell(margin=0.2).fit_transform(images)]
    [(14, 14, 4), (42, 42, 4)]
    >>> CropToCell(margin=0.2, side="common").fit_transform(images).shape
    (2, 41, 41, 4)
    """

    _channels = "map"
    side_: int | None
    _parameter_constraints = {
        "margin": [Interval(Real, 0, None, closed="left")],
        "side": [StrOptions({"cell", "common"})],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        margin: float = 0.1,
        *,
        side: Literal["cell", "common"] = "cell",
        n_jobs: int | None = None,
    ):
        self.margin = margin
        self.side = side
        self.n_jobs = n_jobs

    @property
    def _stateless(self) -> bool:  # type: ignore[override]
        return self.side == "cell"

    def _fit(self, X: NDArray[Any], y: Any) -> None:
        if hasattr(self, "side_"):  # of a fit with another parameter
            del self.side_
        if self.side == "common":
            sides = np.array(map_images(self._own_side, X, n_jobs=self.n_jobs))
            found = sides[sides > 0]
            self.side_ = int(np.ceil(np.quantile(found, COMMON))) if len(found) else None

    def _own_side(self, image: NDArray[np.uint8]) -> int:
        """Return the side of the cell's own square, or 0 without a cell."""
        cell = central_cell(image[..., 3])
        return self._with_margin(bounding_box(cell)) if cell.any() else 0

    def _with_margin(self, box: Box) -> int:
        top, left, bottom, right = box
        return round(max(bottom - top, right - left) * (1 + 2 * self.margin))

    def _transform_image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        cell = central_cell(image[..., 3])
        if self.side == "cell":
            if not cell.any():
                return image.copy()
            box = bounding_box(cell)
            return _cut(image, box, self._with_margin(box))
        if self.side_ is None:
            return image.copy()
        box = bounding_box(cell) if cell.any() else (0, 0, *image.shape[:2])
        square = _cut(image, box, self.side_)
        return pad_to(square, self.side_, self.side_, border_color(image))


class MaskBackground(ImageTransformer):
    """Paint everything outside the cells in one color, so that no step can look there.

    An image without a cell is left as it is: painting all of it would say more than is known.

    Parameters
    ----------
    keep : {"cell", "nucleus", "cytoplasm"}, default="cell"
        What stays visible.
    fill : {"white", "border"}, default="white"
        The color: white, or the median color of the image's border.
    n_jobs : int, optional
        Threads; None means all that are available.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.full((1, 1, 3, 4), 9, np.uint8)
    >>> image[..., 3] = [[0, 1, 2]]
    >>> MaskBackground().fit_transform(image)[0, 0, :, 0].tolist()
    [255, 9, 9]
    """

    _stateless = True
    _channels = "map"
    _parameter_constraints = {
        "keep": [StrOptions({"cell", "nucleus", "cytoplasm"})],
        "fill": [StrOptions({"white", "border"})],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        *,
        keep: Literal["cell", "nucleus", "cytoplasm"] = "cell",
        fill: Literal["white", "border"] = "white",
        n_jobs: int | None = None,
    ):
        self.keep = keep
        self.fill = fill
        self.n_jobs = n_jobs

    def _transform_image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        labels = image[..., 3]
        result = image.copy()
        if not labels.any():
            return result
        parts = {
            "cell": labels > 0,
            "nucleus": cellmap.nuclei(labels),
            "cytoplasm": cellmap.cytoplasm(labels),
        }
        color = border_color(image) if self.fill == "border" else np.full(3, 255, np.uint8)
        result[~parts[self.keep], :3] = color
        return result


def central_cell(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the mask of the cell whose pixels come nearest to the middle of the map.

    Examples
    --------
    >>> import numpy as np
    >>> labels = np.array([[1, 0, 3, 4, 3]], np.uint8)
    >>> central_cell(labels).astype(int).tolist()
    [[0, 0, 1, 1, 1]]
    """
    cells = cellmap.cells(labels)
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


def _cut(image: NDArray[np.uint8], box: Box, side: int) -> NDArray[np.uint8]:
    """Return the square around a box, or what of it the image holds."""
    top, left, bottom, right = box
    top, bottom = _span(top, bottom, side, image.shape[0])
    left, right = _span(left, right, side, image.shape[1])
    return image[top:bottom, left:right].copy()
