"""What a segmentation method starts from and what it returns.

An image at working size (:class:`WorkingImage`), its optical density against the plasma, free of
light and stain strength (:func:`standardize`), and the result for one image
(:class:`SegmentationResult`). Both methods, voters and network, and both kinds of images, crops and
fields, are built on them.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemaest import cellmap
from hemaest._color import LOG, density_over_plasma, plasma_color
from hemaest._frame import black_bands

Mask = NDArray[np.bool_]
# an image with less spread of lightness (in L*) than this holds no stained nucleus
MIN_CONTRAST = 6.0


@dataclass(frozen=True)
class WorkingImage:
    """An image at working size: smoothed colors, and the pixels that count.

    Attributes
    ----------
    rgb : uint8 array (h, w, 3)
        The smoothed image at working size.
    lab : float32 array (h, w, 3)
        The same in CIELAB.
    valid : bool array (h, w)
        False on a black frame that was added around the image.
    size : tuple of int
        Height and width of the original.
    """

    rgb: NDArray[np.uint8]
    lab: NDArray[np.float32]
    valid: NDArray[np.bool_]
    size: tuple[int, int]

    @property
    def blank(self) -> bool:
        """Whether there is too little contrast for any stained cell."""
        if self.valid.sum() < 16:
            return True
        low, high = np.percentile(self.lab[..., 0][self.valid], [1, 99])
        return bool(high - low < MIN_CONTRAST)

    @cached_property
    def density(self) -> NDArray[np.float32]:
        """Optical density in units of the darkest stain."""
        return standardize(self.rgb)

    @cached_property
    def raw_density(self) -> NDArray[np.float32]:
        """Optical density in its own units."""
        return density_over_plasma(self.rgb)

    @property
    def scale(self) -> float:
        """Working pixels per original pixel."""
        return max(self.rgb.shape[:2]) / max(self.size)

    def up(self, soft: NDArray[np.floating]) -> NDArray[np.float32]:
        """Bring a soft map of working size to the size of the original."""
        import cv2

        smooth = cv2.GaussianBlur(np.asarray(soft, np.float32), (3, 3), 0)
        height, width = self.size
        if smooth.shape == self.size:
            return smooth
        return cv2.resize(smooth, (width, height), interpolation=cv2.INTER_LINEAR)


def working_image(image: NDArray[np.uint8], side: int) -> WorkingImage:
    """Shrink an RGB image to at most ``side`` pixels and derive what the method needs.

    Examples
    --------
    >>> import numpy as np
    >>> work = working_image(np.full((300, 200, 3), 240, np.uint8), side=120)
    >>> work.rgb.shape, bool(work.valid.all()), work.up(np.ones((120, 80))).shape
    ((120, 80, 3), True, (300, 200))
    """
    import cv2

    height, width = image.shape[:2]
    shrink = side / max(height, width)
    if shrink < 1:
        size = max(1, round(width * shrink)), max(1, round(height * shrink))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    image = np.ascontiguousarray(image)
    valid = ~black_bands(image)
    smooth = cv2.GaussianBlur(image, (5, 5), 0)
    lab = cv2.cvtColor(smooth.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return WorkingImage(smooth, lab, valid, (height, width))


def square_around(cell: NDArray[np.bool_], times: float) -> tuple[slice, slice]:
    """Return the square window of ``times`` a cell's size around it, inside the image.

    Examples
    --------
    >>> import numpy as np
    >>> cell = np.zeros((100, 100), bool); cell[40:60, 10:30] = True
    >>> square_around(cell, 2.0)
    (slice(29, 70, None), slice(0, 41, None))
    """
    ys, xs = np.flatnonzero(cell.any(axis=1)), np.flatnonzero(cell.any(axis=0))
    height, width = cell.shape
    if not len(ys):
        return slice(0, height), slice(0, width)
    side = int(np.ceil(times * (max(np.ptp(ys), np.ptp(xs)) + 1))) + 1
    side = min(max(side, 16), height, width)
    top = int(np.clip((ys[0] + ys[-1] - side) // 2, 0, height - side))
    left = int(np.clip((xs[0] + xs[-1] - side) // 2, 0, width - side))
    return slice(top, top + side), slice(left, left + side)


def standardize(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return optical density of an RGB image in units of its darkest stain, (h, w, 3).

    Plasma is 0, the darkest two hundredths of the pixels are about 1. A black frame becomes plasma.
    """
    frame = black_bands(image)
    if frame.all():
        return np.zeros(image.shape, np.float32)
    framed = bool(frame.any())
    pixels = image[~frame] if framed else image.reshape(-1, 3)
    white = np.maximum(plasma_color(pixels), 32) + 1
    density = np.log(white) - LOG[image]
    if framed:
        density[frame] = 0
    red, green, blue = np.moveaxis(density, -1, 0)
    mean = red + green + blue
    strongest = np.percentile(mean[~frame] if framed else mean, 98) / 3
    density /= np.float32(max(strongest, 0.25))
    return density


# nuclei bind dyes that absorb green; hemoglobin absorbs green hardly more than red and blue, and
# blue nearly as much as green
MIN_GREEN_EXCESS = 0.15
SURE_GREEN_EXCESS = 0.4
MAX_BLUE = 0.55


def stained_like_nuclei(density: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Separate regions that can be nuclei from red cells by their mean raw density (n, 3).

    Examples
    --------
    >>> import numpy as np
    >>> nucleus, pink_red_cell, gray_red_cell = [0.9, 1.4, 0.4], [0.2, 0.5, 0.5], [0.5, 0.4, 0.2]
    >>> stained_like_nuclei(np.array([nucleus, pink_red_cell, gray_red_cell]))
    array([ True, False, False])
    """
    red, green, blue = density.T
    excess = green - (red + blue) / 2
    violet = (excess >= SURE_GREEN_EXCESS) | (blue < MAX_BLUE * green)
    return (excess >= MIN_GREEN_EXCESS) & violet


@dataclass(frozen=True, slots=True)
class SegmentationResult:
    """The result for one image.

    Attributes
    ----------
    nucleus, cell : float32 array (h, w)
        Soft maps; the cell holds its nucleus.
    labels : unsigned integer array (h, w)
        The cell map, uint8 for at most 127 cells.
    agreement : float
        How well the methods, or the voters, agree, 0 to 1; NaN where nothing was found.
    """

    nucleus: NDArray[np.float32]
    cell: NDArray[np.float32]
    labels: NDArray[np.unsignedinteger[Any]]
    agreement: float

    def probabilities(self) -> NDArray[np.float32]:
        """Return background, cytoplasm and nucleus as (h, w, 3); they add up to 1."""
        cell = np.maximum(self.cell, self.nucleus)
        return np.stack([1 - cell, cell - self.nucleus, self.nucleus], axis=-1)


def no_cell(size: tuple[int, ...]) -> SegmentationResult:
    """Return the result for an image without a cell."""
    nucleus, cell = np.zeros(size, np.float32), np.zeros(size, np.float32)
    return SegmentationResult(nucleus, cell, np.zeros(size, np.uint8), float("nan"))


def one_cell(
    nucleus: NDArray[np.float32], cell: NDArray[np.float32], agreement: float = 1.0
) -> SegmentationResult:
    """Cut two soft maps at one half into the map of a single cell."""
    nucleus = np.clip(nucleus, 0, 1)
    cell = np.clip(cell, 0, 1)
    inner = nucleus > 0.5
    labels = cellmap.encode((cell > 0.5) | inner, inner)
    return SegmentationResult(nucleus, cell, labels, agreement if inner.any() else float("nan"))


def agreement_of(masks: list[NDArray[np.bool_]], majority: NDArray[np.bool_]) -> float:
    """Return the mean Dice of the voters with their majority.

    Examples
    --------
    >>> import numpy as np
    >>> a = np.array([1, 1, 0, 0], bool); b = np.array([1, 0, 0, 0], bool)
    >>> round(agreement_of([a, a, b], a), 3)
    0.889
    """
    total = majority.sum()
    return float(np.mean([2 * (m & majority).sum() / max(m.sum() + total, 1) for m in masks]))


def dice(a: Mask, b: Mask) -> float:
    """Return the overlap of two masks: 1 for equal ones, also where both are empty."""
    total = int(a.sum()) + int(b.sum())
    return 2.0 * int((a & b).sum()) / total if total else 1.0


def weighted_median(values: NDArray[Any], weights: NDArray[Any]) -> Any:
    """Return the least value such that it and the lesser ones have half of the weight.

    With areas as weights, many small specks count for less than a few cells.

    Examples
    --------
    >>> import numpy as np
    >>> weighted_median(np.array([9, 1, 1, 8]), np.array([30, 1, 1, 30]))
    np.int64(8)
    """
    order = np.argsort(values)
    running = np.cumsum(weights[order])
    return values[order][np.searchsorted(running, 0.5 * running[-1])]
