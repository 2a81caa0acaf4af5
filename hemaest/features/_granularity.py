"""Granularity spectra and fractal dimension by grey morphology inside a region.

Structuring elements grow as octagons: a cross and a square in turn. What lies outside the region
takes part in no minimum or maximum, so the surroundings do not leak in.
"""

import numpy as np
from numba import njit

from hemaest.features._region import bounds

SIZES = 4

DEFINITIONS = {
    **{
        f"granules_dark_{r}": f"share of the darkness 255 - G that an opening with the octagon of "
        f"radius {r} takes away beyond radius {r - 1}"
        for r in range(1, SIZES + 1)
    },
    **{
        f"granules_light_{r}": f"share of the lightness G that an opening with the octagon of "
        f"radius {r} takes away beyond radius {r - 1}"
        for r in range(1, SIZES + 1)
    },
    "fractal_dimension": "3 - slope of ln V(r) over ln r, V(r) the volume between dilation and "
    "erosion of G by radius r = 1..4 (blanket method; 2 where G is flat)",
}
SIZE = len(DEFINITIONS)


@njit(cache=True, nogil=True, error_model="numpy")
def _shrink(source, target, mask, square):
    """Write the minimum over a cross or a square inside the mask, and 255 outside it."""
    for y in range(1, source.shape[0] - 1):
        above, here, below = source[y - 1], source[y], source[y + 1]
        inside, line = mask[y], target[y]
        if square:
            for x in range(1, source.shape[1] - 1):
                v = min(min(above[x], below[x]), min(here[x], min(here[x - 1], here[x + 1])))
                w = min(min(above[x - 1], above[x + 1]), min(below[x - 1], below[x + 1]))
                line[x] = min(v, w) if inside[x] else 255
        else:
            for x in range(1, source.shape[1] - 1):
                v = min(min(above[x], below[x]), min(here[x], min(here[x - 1], here[x + 1])))
                line[x] = v if inside[x] else 255


@njit(cache=True, nogil=True, error_model="numpy")
def _grow(source, target, mask, square):
    """Write the maximum over a cross or a square inside the mask, and 0 outside it."""
    for y in range(1, source.shape[0] - 1):
        above, here, below = source[y - 1], source[y], source[y + 1]
        inside, line = mask[y], target[y]
        if square:
            for x in range(1, source.shape[1] - 1):
                v = max(max(above[x], below[x]), max(here[x], max(here[x - 1], here[x + 1])))
                w = max(max(above[x - 1], above[x + 1]), max(below[x - 1], below[x + 1]))
                line[x] = max(v, w) if inside[x] else 0
        else:
            for x in range(1, source.shape[1] - 1):
                v = max(max(above[x], below[x]), max(here[x], max(here[x - 1], here[x + 1])))
                line[x] = v if inside[x] else 0


@njit(cache=True, nogil=True, error_model="numpy")
def _outside(picture, mask, value):
    """Return a copy that holds a value outside the mask."""
    result = np.empty_like(picture)
    for y in range(picture.shape[0]):
        for x in range(picture.shape[1]):
            result[y, x] = picture[y, x] if mask[y, x] else value
    return result


@njit(cache=True, nogil=True, error_model="numpy")
def _volume(picture, mask):
    total = 0
    for y in range(picture.shape[0]):
        for x in range(picture.shape[1]):
            if mask[y, x]:
                total += picture[y, x]
    return total


@njit(cache=True, nogil=True, error_model="numpy")
def _openings(picture, mask, spectrum, eroded_volume):
    """Write what each opening takes away, and the volume of each erosion."""
    low = _outside(picture, mask, np.uint8(255))
    next_low = np.full_like(picture, 255)
    up = np.zeros_like(picture)
    next_up = np.zeros_like(picture)
    start = _volume(picture, mask)
    before = start
    for r in range(1, 5):
        _shrink(low, next_low, mask, r % 2 == 0)
        low, next_low = next_low, low
        eroded_volume[r - 1] = _volume(low, mask)
        up = _outside(low, mask, np.uint8(0))
        for back in range(r, 0, -1):
            _grow(up, next_up, mask, back % 2 == 0)
            up, next_up = next_up, up
        now = _volume(up, mask)
        spectrum[r - 1] = (before - now) / max(start, 1)
        before = now


@njit(cache=True, nogil=True, error_model="numpy")
def measure_granularity(grey, mask, out):
    """Write the values of :data:`DEFINITIONS`; picture and mask have a frame of one pixel."""
    n = mask.sum()
    if n == 0:
        out[:] = np.nan
        return
    top, left, bottom, right = bounds(mask)
    grey = grey[top - 1 : bottom + 1, left - 1 : right + 1].copy()
    mask = mask[top - 1 : bottom + 1, left - 1 : right + 1].copy()
    low = np.empty(4)
    high = np.empty(4)
    _openings(grey, mask, out[4:8], low)
    _openings((255 - grey).astype(np.uint8), mask, out[0:4], high)
    sx = 0.0
    sy = 0.0
    sxx = 0.0
    sxy = 0.0
    flat = False
    for r in range(4):
        volume = 255.0 * n - high[r] - low[r]
        if volume <= 0:
            flat = True
            break
        x = np.log(r + 1.0)
        y = np.log(volume)
        sx += x
        sy += y
        sxx += x * x
        sxy += x * y
    out[8] = 2.0 if flat else 3 - (4 * sxy - sx * sy) / (4 * sxx - sx * sx)
