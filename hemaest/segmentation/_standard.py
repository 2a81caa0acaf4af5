"""What the network sees: optical density against the plasma, free of light and stain strength."""

import numpy as np
from numpy.typing import NDArray

from hemaest.segmentation._scene import black_frame


def plasma_color(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the colour of the empty glass: the median of the pixels with the most green.

    Examples
    --------
    >>> import numpy as np
    >>> pixels = np.array([[250, 240, 220]] * 30 + [[90, 40, 130]] * 70, np.uint8)
    >>> plasma_color(pixels)
    array([250., 240., 220.], dtype=float32)
    """
    green = pixels[:, 1]
    bright = green >= np.percentile(green, 90) - 8.0
    return np.median(pixels[bright], axis=0).astype(np.float32)


def standardize(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return optical density of an RGB image in units of its darkest stain, (h, w, 3).

    Plasma is 0, the darkest two hundredths of the pixels are about 1. A black frame becomes plasma.
    """
    valid = ~black_frame(image)
    if not valid.any():
        return np.zeros(image.shape, np.float32)
    pixels = image[valid]
    white = np.maximum(plasma_color(pixels), 32) + 1
    density = np.log(white) - np.log(image.astype(np.float32) + 1)
    density[~valid] = 0
    strongest = np.percentile(density[valid].mean(axis=1), 98)
    return (density / max(strongest, 0.25)).astype(np.float32)


# nuclei bind dyes that absorb green; red cells absorb green hardly more than red and blue
MIN_GREEN_EXCESS = 0.15


def green_excess(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return how much more green than red and blue light each pixel absorbs (optical density).

    Examples
    --------
    >>> import numpy as np
    >>> image = np.full((10, 10, 3), (245, 228, 208), np.uint8)
    >>> image[:4, :4], image[6:, 6:] = (95, 55, 140), (225, 165, 160)
    >>> excess = green_excess(image)
    >>> round(float(excess[0, 0]), 1), round(float(excess[9, 9]), 1)
    (0.7, 0.1)
    """
    white = np.log(plasma_color(image.reshape(-1, 3)) + 1)
    density = white - np.log(image.astype(np.float32) + 1)
    return density[..., 1] - (density[..., 0] + density[..., 2]) / 2
