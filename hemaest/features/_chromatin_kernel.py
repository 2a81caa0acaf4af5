"""All texture features of one cell, in one call without the GIL."""

import numpy as np
from numba import njit

from hemaest.features import _glcm, _granularity, _lbp
from hemaest.features._glcm import measure_glcm
from hemaest.features._granularity import measure_granularity
from hemaest.features._lbp import measure_lbp
from hemaest.features._nucleus_texture import (
    GREY_DEFINITIONS,
    N_GREY,
    N_RING,
    NUCLEUS_DEFINITIONS,
    RING_DEFINITIONS,
    histogram,
    measure_grey,
    measure_nucleus,
)

_FRAME = 3
_N_GLCM = _glcm.SIZE
_N_LBP = _lbp.SIZE
_N_GRANULARITY = _granularity.SIZE
_BOTH = N_GREY + _N_GLCM + _N_LBP + _N_GRANULARITY


def definitions() -> dict[str, str]:
    """Return the name and one-line definition of every texture feature, in order."""
    both = {
        **GREY_DEFINITIONS,
        **_glcm.definitions(),
        **_lbp.definitions(),
        **_granularity.DEFINITIONS,
    }
    nucleus = {**RING_DEFINITIONS, **NUCLEUS_DEFINITIONS}
    return {
        **{f"cytoplasm_{name}": f"cytoplasm: {text}" for name, text in both.items()},
        **{f"nucleus_{name}": f"nucleus: {text}" for name, text in both.items()},
        **{f"nucleus_{name}": f"nucleus: {text}" for name, text in nucleus.items()},
    }


@njit(cache=True, nogil=True, error_model="numpy")
def cut_texture(image, k, box):
    """Return the green channel around a cell (0 beyond the image) and the regions in its box."""
    y0, x0, y1, x1 = box
    height, width = image.shape[:2]
    grey = np.zeros((y1 - y0 + 6, x1 - x0 + 6), np.uint8)
    for y in range(max(y0 - 3, 0), min(y1 + 3, height)):
        for x in range(max(x0 - 3, 0), min(x1 + 3, width)):
            grey[y - y0 + 3, x - x0 + 3] = image[y, x, 1]
    regions = np.zeros((y1 - y0 + 6, x1 - x0 + 6), np.uint8)
    for y in range(y0, y1):
        for x in range(x0, x1):
            value = image[y, x, 3]
            if value == 2 * k:
                regions[y - y0 + 3, x - x0 + 3] = 2
            elif value == 2 * k - 1:
                regions[y - y0 + 3, x - x0 + 3] = 1
    return grey, regions


@njit(cache=True, nogil=True, error_model="numpy")
def _texture(image, k, box, glcm_tables, lbp_tables, out):
    grey, regions = cut_texture(image, k, box)
    inner = regions[3:-3, 3:-3]
    both = np.empty((2, _BOTH))
    start = N_GREY
    measure_glcm(
        grey[3:-3, 3:-3], inner, glcm_tables[0], glcm_tables[1], both[:, start : start + _N_GLCM]
    )
    start += _N_GLCM
    measure_lbp(grey.astype(np.float64), inner, lbp_tables, both[:, start : start + _N_LBP])
    start += _N_LBP
    for region in range(2):
        mask = (regions == region + 1).astype(np.uint8)
        counts = histogram(grey, mask)
        measure_grey(counts, both[region, :N_GREY])
        measure_granularity(grey, mask, both[region, start:])
        if region == 1:
            rings = out[2 * _BOTH : 2 * _BOTH + N_RING]
            measure_nucleus(grey, mask, counts, rings, out[2 * _BOTH + N_RING :])
    out[:_BOTH] = both[0]
    out[_BOTH : 2 * _BOTH] = both[1]


def texture(image, k, box, out):
    """Write the texture features of cell ``k``, in the order of :func:`definitions`."""
    _texture(image, k, box, _glcm.TABLES, _lbp.TABLES, out)
