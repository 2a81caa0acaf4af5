"""What the chromatin is made of: clumps, nucleoli, rings of depth, and the edge of the nucleus."""

import numpy as np
from numba import njit

from hemaest.features._color_stats import weighted_moments
from hemaest.features._lobes import squared_distance
from hemaest.features._parts import parts

GREY_DEFINITIONS = {
    "grey_mean": "mean of the green value G",
    "grey_std": "standard deviation of G",
    "grey_skewness": "skewness of G (0 where flat)",
    "grey_kurtosis": "excess kurtosis of G (0 where flat)",
    "grey_entropy": "-sum p ln p over the 256 values of G",
    "grey_range": "95th - 5th percentile of G (smallest value with at least that share)",
}
RING_DEFINITIONS = {
    f"ring_{k}": f"mean G where depth D / max D is in quarter {k} (1 outermost) - mean G"
    for k in range(1, 5)
}
NUCLEUS_DEFINITIONS = {
    "heterochromatin_fraction": "share of pixels at or below Otsu's threshold of G",
    "heterochromatin_contrast": "mean G above - mean G at or below Otsu's threshold",
    "heterochromatin_separability": "variance of G between the two classes / variance of G",
    "heterochromatin_rim": "share of dark pixels in the outermost ring - in all",
    "clump_count": "8-connected parts of the dark pixels with at least 4 pixels",
    "clump_size": "mean area of these parts / nucleus area",
    "clump_largest": "largest area of these parts / nucleus area",
    "nucleolus_count": "pale parts (G > light mean + 0.5 SD) of 0.2% to 10% of the area, D > 2",
    "nucleolus_area": "area of these parts / nucleus area",
    "nucleolus_largest": "largest area of these parts / nucleus area",
    "edge_gradient": "mean length of the gradient of G on the border pixels of the nucleus",
    "edge_variation": "standard deviation / mean of that length along the border",
    "edge_sharpness": "edge_gradient / (standard deviation of G within 3 pixels of the edge + 1)",
}
N_GREY = len(GREY_DEFINITIONS)
N_RING = len(RING_DEFINITIONS)
N_NUCLEUS = len(NUCLEUS_DEFINITIONS)


@njit(cache=True, nogil=True, error_model="numpy")
def histogram(grey, mask):
    """Count the grey values inside a mask."""
    counts = np.zeros(256, np.int64)
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            if mask[y, x]:
                counts[grey[y, x]] += 1
    return counts


@njit(cache=True, nogil=True, error_model="numpy")
def measure_grey(counts, out):
    """Write the values of :data:`GREY_DEFINITIONS`."""
    n = counts.sum()
    if n == 0:
        out[:] = np.nan
        return
    mean, std, skewness = weighted_moments(counts, np.arange(256.0))
    fourth = 0.0
    logs = 0.0
    seen = 0
    low = -1
    high = -1
    for v in range(256):
        c = counts[v]
        if c:
            fourth += c * (v - mean) ** 4
            logs += c * np.log(c)
        seen += c
        if low < 0 and seen >= 0.05 * n:
            low = v
        if high < 0 and seen >= 0.95 * n:
            high = v
    out[0] = mean
    out[1] = std
    out[2] = skewness
    out[3] = fourth / n / std**4 - 3 if std > 1e-9 else 0.0
    out[4] = max(np.log(n) - logs / n, 0.0)
    out[5] = high - low


@njit(cache=True, nogil=True, error_model="numpy")
def otsu(counts):
    """Return the threshold that separates best, the means under and over it, and how well."""
    n = counts.sum()
    total = 0.0
    for v in range(256):
        total += v * counts[v]
    under = 0
    sum_under = 0.0
    best = -1.0
    threshold = 0
    dark = total / n
    light = dark
    for v in range(256):
        under += counts[v]
        sum_under += v * counts[v]
        if under == 0 or under == n:
            continue
        a = sum_under / under
        b = (total - sum_under) / (n - under)
        between = float(under) * (n - under) * (b - a) ** 2
        if between > best:
            best, threshold, dark, light = between, v, a, b
    return threshold, dark, light, max(best, 0.0) / float(n) / float(n)


@njit(cache=True, nogil=True, error_model="numpy")
def measure_rings(grey, mask, squared, mean, rings, out):
    """Write the mean grey of four rings of depth less the mean; fill the ring of each pixel."""
    top = squared.max()
    sums = np.zeros(4)
    counts = np.zeros(4, np.int64)
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            if mask[y, x]:
                # sqrt(d2 / top) in quarters, without roots: (4 d)^2 >= (k d_max)^2
                d = 16 * squared[y, x]
                ring = (d > top) + (d > 4 * top) + (d > 9 * top)
                rings[y, x] = ring
                sums[ring] += grey[y, x]
                counts[ring] += 1
    for k in range(4):
        out[k] = sums[k] / counts[k] - mean if counts[k] else 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def _edge(grey, mask, squared, out):
    n = 0
    total = 0.0
    square = 0.0
    near = 0
    near_sum = 0.0
    near_square = 0.0
    for y in range(1, mask.shape[0] - 1):
        for x in range(1, mask.shape[1] - 1):
            if not mask[y, x] or squared[y, x] > 9:
                continue
            v = float(grey[y, x])
            near += 1
            near_sum += v
            near_square += v * v
            if squared[y, x] == 1:
                gy = (float(grey[y + 1, x]) - grey[y - 1, x]) / 2
                gx = (float(grey[y, x + 1]) - grey[y, x - 1]) / 2
                length = np.sqrt(gy * gy + gx * gx)
                n += 1
                total += length
                square += length * length
    mean = total / n
    out[0] = mean
    out[1] = np.sqrt(max(square / n - mean * mean, 0.0)) / mean if mean > 0 else 0.0
    near_mean = near_sum / near
    out[2] = mean / (np.sqrt(max(near_square / near - near_mean * near_mean, 0.0)) + 1)


@njit(cache=True, nogil=True, error_model="numpy")
def measure_nucleus(grey, mask, counts, ring_out, out):
    """Write the values of :data:`RING_DEFINITIONS` and :data:`NUCLEUS_DEFINITIONS`.

    Picture and mask have a frame of at least one pixel; the mask's is zero.
    """
    n = counts.sum()
    if n == 0:
        ring_out[:] = np.nan
        out[:] = np.nan
        return
    squared = squared_distance(mask)
    mean, std, _ = weighted_moments(counts, np.arange(256.0))
    rings = np.zeros(mask.shape, np.uint8)
    measure_rings(grey, mask, squared, mean, rings, ring_out)
    threshold, dark_mean, light_mean, between = otsu(counts)
    dark = np.zeros(mask.shape, np.uint8)
    pale = np.zeros(mask.shape, np.uint8)
    n_dark = 0
    rim = 0
    rim_dark = 0
    pale_limit = light_mean + 0.5 * std
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            if mask[y, x]:
                is_dark = grey[y, x] <= threshold
                if is_dark:
                    dark[y, x] = 1
                    n_dark += 1
                elif grey[y, x] > pale_limit and squared[y, x] > 4:
                    pale[y, x] = 1
                if rings[y, x] == 0:
                    rim += 1
                    rim_dark += is_dark
    share = n_dark / n
    out[0] = share
    out[1] = light_mean - dark_mean
    out[2] = between / (std * std) if std > 1e-9 else 0.0
    out[3] = rim_dark / rim - share if rim else 0.0
    _, areas = parts(dark)
    big = areas[areas >= 4]
    out[4] = len(big)
    out[5] = big.mean() / n if len(big) else 0.0
    out[6] = big.max() / n if len(big) else 0.0
    _, areas = parts(pale)
    spots = areas[(areas >= max(0.002 * n, 4.0)) & (areas <= 0.1 * n)]
    out[7] = len(spots)
    out[8] = spots.sum() / n
    out[9] = spots.max() / n if len(spots) else 0.0
    _edge(grey, mask, squared, out[10:13])
