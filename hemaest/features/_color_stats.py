"""Colour of a region: moments and percentiles in RGB, optical density and CIELAB.

RGB and optical density are functions of 8-bit values, so one 256-bin histogram per channel holds
all that their statistics need; only CIELAB is computed pixel by pixel.
"""

import numpy as np
from numba import njit

from hemaest import cellmap
from hemaest._color import LINEAR, OPTICAL_DENSITY, RGB_TO_XYZ

CHANNELS = ("r", "g", "b", "od_r", "od_g", "od_b", "lightness", "lab_a", "lab_b")
PERCENTILES = (5, 50, 95)

_CHANNEL_TEXT = {
    "r": "red value, 0 to 255",
    "g": "green value, 0 to 255",
    "b": "blue value, 0 to 255",
    "od_r": "optical density in red, ln(256 / (R + 1))",
    "od_g": "optical density in green, ln(256 / (G + 1))",
    "od_b": "optical density in blue, ln(256 / (B + 1))",
    "lightness": "CIELAB L* (D65)",
    "lab_a": "CIELAB a* (D65), green to red",
    "lab_b": "CIELAB b* (D65), blue to yellow",
}
_STATISTIC_TEXT = {
    "mean": "mean",
    "std": "standard deviation",
    "skewness": "skewness m3 / m2^1.5 (0 where m2 = 0)",
}


def definitions() -> dict[str, str]:
    """Return the name and the one-line definition of each statistic of a region, in order."""
    lines = {
        f"{channel}_{statistic}": f"{text} of the {_CHANNEL_TEXT[channel]}"
        for channel in CHANNELS
        for statistic, text in _STATISTIC_TEXT.items()
    }
    for channel in CHANNELS[:3]:
        for q in PERCENTILES:
            lines[f"{channel}_p{q}"] = f"{q}th percentile of the {_CHANNEL_TEXT[channel]}"
    lines["od_r_share"] = "mean od_r / (mean od_r + od_g + od_b)"
    lines["od_b_share"] = "mean od_b / (mean od_r + od_g + od_b)"
    return lines


N_STATISTICS = len(definitions())

# contribution of each 8-bit value of each channel to X, Y and Z: [channel, value, xyz]
_XYZ_PARTS = np.ascontiguousarray(RGB_TO_XYZ.T[:, None, :] * LINEAR[None, :, None])
_ROOT_STEPS = 16384
_T = np.arange(_ROOT_STEPS + 256) / _ROOT_STEPS
# the function f of CIELAB, in steps so fine that a straight line between them is exact to 3e-7
_ROOTS = np.where(_T > 216 / 24389, np.cbrt(_T), _T * (841 / 108) + 4 / 29)


@njit(cache=True, nogil=True, error_model="numpy")
def _lab_f(t, roots):
    place = t * 16384
    i = int(place)
    return roots[i] + (place - i) * (roots[i + 1] - roots[i])


@njit(cache=True, nogil=True, error_model="numpy")
def accumulate(image, labels, regions, n_regions, parts, roots):
    """Return channel histograms (region, 3, 256) and CIELAB power sums (region, 3, 4).

    ``regions[label]`` is the region of a pixel, or 255 for none. The sums are of powers 1 to 3
    (L* less 50, so that little is cancelled later).
    """
    histogram = np.zeros((n_regions, 3, 256), np.int64)
    sums = np.zeros((n_regions, 3, 4))
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            k = regions[labels[y, x]]
            if k == 255:
                continue
            r, g, b = image[y, x, 0], image[y, x, 1], image[y, x, 2]
            histogram[k, 0, r] += 1
            histogram[k, 1, g] += 1
            histogram[k, 2, b] += 1
            fx = _lab_f(parts[0, r, 0] + parts[1, g, 0] + parts[2, b, 0], roots)
            fy = _lab_f(parts[0, r, 1] + parts[1, g, 1] + parts[2, b, 1], roots)
            fz = _lab_f(parts[0, r, 2] + parts[1, g, 2] + parts[2, b, 2], roots)
            v = 116 * fy - 66
            sums[k, 0, 1] += v
            sums[k, 0, 2] += v * v
            sums[k, 0, 3] += v * v * v
            v = 500 * (fx - fy)
            sums[k, 1, 1] += v
            sums[k, 1, 2] += v * v
            sums[k, 1, 3] += v * v * v
            v = 200 * (fy - fz)
            sums[k, 2, 1] += v
            sums[k, 2, 2] += v * v
            sums[k, 2, 3] += v * v * v
    return histogram, sums


@njit(cache=True, nogil=True, error_model="numpy")
def weighted_moments(histogram, values):
    """Return mean, standard deviation and skewness of values counted by a histogram."""
    n = 0
    mean = 0.0
    for v in range(histogram.size):
        n += histogram[v]
        mean += histogram[v] * values[v]
    mean /= n
    m2 = 0.0
    m3 = 0.0
    for v in range(histogram.size):
        if histogram[v]:
            d = values[v] - mean
            m2 += histogram[v] * d * d
            m3 += histogram[v] * d * d * d
    m2 /= n
    m3 /= n
    skewness = m3 / m2**1.5 if m2 > 1e-12 else 0.0
    return mean, np.sqrt(m2), skewness


@njit(cache=True, nogil=True, error_model="numpy")
def percentile(histogram, n, q):
    """Return the q-th percentile of counted 8-bit values, interpolated as numpy does."""
    place = q / 100 * (n - 1)
    low = int(np.floor(place))
    part = place - low
    seen = 0
    for v in range(histogram.size):
        seen += histogram[v]
        if seen > low:
            if part == 0 or seen > low + 1:
                return float(v)
            for w in range(v + 1, histogram.size):
                if histogram[w]:
                    return v + part * (w - v)
    return np.nan


@njit(cache=True, nogil=True, error_model="numpy")
def summarize(histogram, sums, density, out):
    """Write the statistics of one region, in the order of :func:`definitions`."""
    n = histogram[0].sum()
    if n == 0:
        out[:] = np.nan
        return
    levels = np.arange(256.0)
    for c in range(3):
        out[3 * c : 3 * c + 3] = weighted_moments(histogram[c], levels)
        out[9 + 3 * c : 12 + 3 * c] = weighted_moments(histogram[c], density)
        m1 = sums[c, 1] / n
        m2 = max(sums[c, 2] / n - m1 * m1, 0.0)
        m3 = sums[c, 3] / n - 3 * m1 * sums[c, 2] / n + 2 * m1**3
        out[18 + 3 * c] = m1 + (50 if c == 0 else 0)
        out[19 + 3 * c] = np.sqrt(m2)
        out[20 + 3 * c] = m3 / m2**1.5 if m2 > 1e-6 else 0.0
        out[27 + 3 * c] = percentile(histogram[c], n, 5)
        out[28 + 3 * c] = percentile(histogram[c], n, 50)
        out[29 + 3 * c] = percentile(histogram[c], n, 95)
    total = out[9] + out[12] + out[15]
    out[36] = out[9] / total if total > 0 else 1 / 3
    out[37] = out[15] / total if total > 0 else 1 / 3


@njit(cache=True, nogil=True, error_model="numpy")
def _region_statistics(image, labels, regions, n_regions, parts, roots, density):
    histogram, sums = accumulate(image, labels, regions, n_regions, parts, roots)
    out = np.empty((n_regions, 38))
    for k in range(n_regions):
        summarize(histogram[k], sums[k], density, out[k])
    return out, histogram


def region_table(k):
    """Return the region of each value of a map: 0 no cell, 1 cytoplasm and 2 nucleus of cell k."""
    regions = np.full(256, 255, np.uint8)
    regions[0] = 0
    regions[list(cellmap.codes(k))] = 1, 2
    return regions


def region_statistics(image, labels, regions, n_regions):
    """Return statistics (region, statistic) and histograms (region, channel, value).

    Parameters
    ----------
    image : uint8 array (H, W, >= 3)
    labels : uint8 array (H, W)
        The label of each pixel.
    regions : uint8 array (256,)
        The region of each label; 255 for none.
    n_regions : int
    """
    return _region_statistics(
        image, labels, regions, n_regions, _XYZ_PARTS, _ROOTS, OPTICAL_DENSITY
    )


TABLES = (OPTICAL_DENSITY, _XYZ_PARTS, _ROOTS)


def image_statistics(image):
    """Return the statistics of a whole picture."""
    labels = np.zeros((1, 1), np.uint8)
    whole = np.broadcast_to(labels, image.shape[:2])
    return region_statistics(image, whole, np.zeros(256, np.uint8), 1)[0][0]
