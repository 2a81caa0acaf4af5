"""All texture features of one cell, in one call without the GIL.

numba keys a cache by this file alone: after a change in a kernel that is called from here, delete
``__pycache__`` (an installed package gets all its files at once).
"""

import numpy as np
from numba import njit

from hemaest import cellmap
from hemaest.features import _glcm, _granularity, _lbp
from hemaest.features._glcm import measure_glcm
from hemaest.features._granularity import measure_granularity
from hemaest.features._lbp import measure_lbp
from hemaest.features._nucleus_texture import (
    GREY_DEFINITIONS,
    N_GREY,
    N_NUCLEUS,
    N_RING,
    NUCLEUS_DEFINITIONS,
    RING_DEFINITIONS,
    histogram,
    measure_grey,
    measure_nucleus,
)

_N_GLCM = _glcm.SIZE
_N_LBP = _lbp.SIZE
_N_GRANULARITY = _granularity.SIZE
_TEXTURE = _N_GLCM + _N_LBP + _N_GRANULARITY
_BOTH = N_GREY + _TEXTURE
REGIONS = ("cytoplasm", "nucleus")


# the channels and scales of the coarse pass: at full size the green channel alone
CHANNELS = ("red", "green", "blue")
SCALES = ("half", "quarter")


def definitions() -> dict[str, str]:
    """Return the name and one-line definition of every texture feature, in order."""
    texture = {**_glcm.definitions(), **_lbp.definitions(), **_granularity.DEFINITIONS}
    both = {**GREY_DEFINITIONS, **texture}
    nucleus = {**RING_DEFINITIONS, **NUCLEUS_DEFINITIONS}
    lines = {f"{region}_{name}": text for region in REGIONS for name, text in both.items()}
    lines |= {f"nucleus_{name}": text for name, text in nucleus.items()}
    for scale in SCALES:
        for channel in CHANNELS:
            for region in REGIONS:
                for name, text in texture.items():
                    where = f"{channel} channel at {scale} size (in place of G at full size)"
                    lines[f"{region}_{scale}_{channel}_{name}"] = f"{where}: {text}"
    return {name: f"{name.split('_')[0]}: {text}" for name, text in lines.items()}


@njit(cache=True, nogil=True, error_model="numpy")
def cut_texture(image, codes, box):
    """Return red, green and blue around a cell and the regions in its box.

    All have a frame of 3 pixels; beyond the image the colours repeat its edge, so that a cell that
    is cut off has no dark rim there.
    """
    y0, x0, y1, x1 = box
    height, width = image.shape[:2]
    colors = np.zeros((3, y1 - y0 + 6, x1 - x0 + 6), np.uint8)
    left, right = max(x0 - 3, 0), min(x1 + 3, width)
    before, beyond = left - x0 + 3, right - x0 + 3
    for y in range(y0 - 3, y1 + 3):
        source = image[min(max(y, 0), height - 1), left:right]
        for c in range(3):
            line = colors[c, y - y0 + 3]
            target = line[before:]
            for x in range(len(source)):
                target[x] = source[x, c]
            line[:before] = line[before]
            line[beyond:] = line[beyond - 1]
    regions = np.zeros((y1 - y0 + 6, x1 - x0 + 6), np.uint8)
    cytoplasm, nucleus = np.uint8(codes[0]), np.uint8(codes[1])
    for y in range(y0, y1):
        labels, line = image[y, x0:x1], regions[y - y0 + 3, 3:]
        for x in range(len(labels)):
            label = labels[x, 3]
            line[x] = np.uint8(label == nucleus) << 1 | np.uint8(label == cytoplasm)
    return colors, regions


@njit(cache=True, nogil=True, error_model="numpy")
def _halve_rows(picture):
    """Return the sums of rows in pairs (even size) or under (1, 2, 1) (odd size), as weights of 4.

    So the picture is sampled evenly about its middle, whichever way it is turned.
    """
    height, width = picture.shape
    half = (height + 1) // 2
    result = np.zeros((half, width), np.int64)
    for y in range(half):
        for x in range(width):
            if height % 2 == 0:
                result[y, x] = 2 * (picture[2 * y, x] + picture[2 * y + 1, x])
            else:
                above = picture[max(2 * y - 1, 0), x]
                below = picture[min(2 * y + 1, height - 1), x]
                result[y, x] = above + 2 * picture[2 * y, x] + below
    return result


@njit(cache=True, nogil=True, error_model="numpy")
def _halve(picture):
    """Return a picture at half size, in sixteenths."""
    rows = _halve_rows(picture.astype(np.int64))
    return _halve_rows(np.ascontiguousarray(rows.T)).T


@njit(cache=True, nogil=True, error_model="numpy")
def halve(colors, regions):
    """Return colours and regions at half size, framed; a pixel is what most of it was."""
    inner = regions[3:-3, 3:-3]
    nucleus = _halve((inner == 2).astype(np.uint8))
    cell = _halve((inner > 0).astype(np.uint8))
    height, width = cell.shape
    small = np.zeros((height + 6, width + 6), np.uint8)
    pictures = np.zeros((3, height + 6, width + 6), np.uint8)
    for y in range(height):
        for x in range(width):
            if nucleus[y, x] >= 8:
                small[y + 3, x + 3] = 2
            elif cell[y, x] >= 8:
                small[y + 3, x + 3] = 1
    for c in range(3):
        halved = _halve(np.ascontiguousarray(colors[c, 3:-3, 3:-3]))
        for y in range(-3, height + 3):
            for x in range(-3, width + 3):
                # the frame repeats the edge
                v = halved[min(max(y, 0), height - 1), min(max(x, 0), width - 1)]
                pictures[c, y + 3, x + 3] = (v + 8) // 16
    return pictures, small


@njit(cache=True, nogil=True, error_model="numpy")
def _patterns_of(grey, regions, glcm_tables, circle, out):
    """Write co-occurrence, binary patterns and granularity of both regions: out is (2, n)."""
    inner = regions[3:-3, 3:-3]
    offsets, logs = glcm_tables
    measure_glcm(grey[3:-3, 3:-3], inner, offsets, logs, out[:, :_N_GLCM])
    stop = _N_GLCM + _N_LBP
    measure_lbp(grey.astype(np.float64), inner, circle, out[:, _N_GLCM:stop])
    for region in range(2):
        mask = (regions == region + 1).astype(np.uint8)
        measure_granularity(grey, mask, out[region, stop:])


@njit(cache=True, nogil=True, error_model="numpy")
def _texture(image, codes, box, glcm_tables, circle, out):
    colors, regions = cut_texture(image, codes, box)
    both = out[: 2 * _BOTH].reshape(2, _BOTH)
    # rows without gaps, as below: every layout of an array is compiled for itself
    fine = np.full((2, _TEXTURE), np.nan)
    _patterns_of(colors[1], regions, glcm_tables, circle, fine)
    both[:, N_GREY:] = fine
    for region in range(2):
        mask = (regions == region + 1).astype(np.uint8)
        counts = histogram(colors[1], mask)
        measure_grey(counts, both[region, :N_GREY])
    place = 2 * _BOTH
    stop = place + N_RING + N_NUCLEUS
    measure_nucleus(
        colors[1], mask, counts, out[place : place + N_RING], out[place + N_RING : stop]
    )
    for _ in range(2):
        colors, regions = halve(colors, regions)
        for c in range(3):
            part = out[stop : stop + 2 * _TEXTURE].reshape(2, _TEXTURE)
            _patterns_of(colors[c], regions, glcm_tables, circle, part)
            stop += 2 * _TEXTURE


def texture(image, k, box, out):
    """Write the texture features of cell ``k``, in the order of :func:`definitions`."""
    _texture(image, cellmap.codes(k), box, _glcm.TABLES, _lbp.TABLES[0], out)
