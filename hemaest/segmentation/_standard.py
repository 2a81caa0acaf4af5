"""What the network sees: optical density against the plasma, free of light and stain strength."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemaest.segmentation._scene import black_frame

LOG = np.log(np.arange(256, dtype=np.float32) + 1)


def plasma_color(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the colour of the empty glass: the median of the pixels with the most green.

    Examples
    --------
    >>> import numpy as np
    >>> pixels = np.array([[250, 240, 220]] * 30 + [[90, 40, 130]] * 70, np.uint8)
    >>> plasma_color(pixels)
    array([250., 240., 220.], dtype=float32)
    """
    import cv2

    column = np.ascontiguousarray(pixels).reshape(-1, 1, 3)

    def quantile(channel: int, share: float, of: Any = None) -> float:
        counts = cv2.calcHist([column], [channel], of, [256], [0, 256]).ravel()
        return quantile_of_levels(counts, share)

    green = np.ascontiguousarray(column[..., 1])
    bright = (green >= quantile(1, 0.9) - 8.0).astype(np.uint8)
    return np.array([quantile(c, 0.5, bright) for c in range(3)], np.float32)


def quantile_of_levels(counts: NDArray[np.floating], share: float) -> float:
    """Return a quantile of whole numbers from how often each occurs, much faster than by sorting.

    Examples
    --------
    >>> import numpy as np
    >>> levels = np.array([3, 5, 5, 9])
    >>> bool(quantile_of_levels(np.bincount(levels), 0.9) == np.quantile(levels, 0.9))
    True
    """
    # float64: a float32 running sum would stop counting at 16 million pixels
    running = np.cumsum(counts, dtype=np.float64)
    rank = share * (running[-1] - 1)
    below, above = np.searchsorted(running, [np.floor(rank), np.ceil(rank)], side="right")
    return float(below + (above - below) * (rank - np.floor(rank)))


def standardize(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return optical density of an RGB image in units of its darkest stain, (h, w, 3).

    Plasma is 0, the darkest two hundredths of the pixels are about 1. A black frame becomes plasma.
    """
    frame = black_frame(image)
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


def raw_density(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return optical density against the plasma in its own units."""
    white = np.log(plasma_color(image.reshape(-1, 3)) + 1)
    return white - LOG[image]


def stained_like_nuclei(density: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Tell regions that can be nuclei from red cells by their mean raw density (n, 3).

    Examples
    --------
    >>> import numpy as np
    >>> nucleus, pink_red_cell, grey_red_cell = [0.9, 1.4, 0.4], [0.2, 0.5, 0.5], [0.5, 0.4, 0.2]
    >>> stained_like_nuclei(np.array([nucleus, pink_red_cell, grey_red_cell]))
    array([ True, False, False])
    """
    red, green, blue = density.T
    excess = green - (red + blue) / 2
    violet = (excess >= SURE_GREEN_EXCESS) | (blue < MAX_BLUE * green)
    return (excess >= MIN_GREEN_EXCESS) & violet
