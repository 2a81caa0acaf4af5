"""Grey-level co-occurrence inside the true masks of nucleus and cytoplasm.

Grey is the green channel, where the dyes of blood stains absorb most, in 32 fixed levels of 8
values each, so that a level means the same in every image. A pair counts when both pixels lie in
the region. Offsets are (0, d), (r, r), (d, 0), (r, -r) with r = round(d / sqrt 2), as in
scikit-image; matrices are symmetric.
"""

import numpy as np
from numba import njit

LEVELS = 32
DISTANCES = (1, 3, 5)

_PROPERTIES = {
    "contrast": "sum (i - j)^2 p(i, j)",
    "dissimilarity": "sum |i - j| p(i, j)",
    "homogeneity": "sum p(i, j) / (1 + (i - j)^2)",
    "energy": "sqrt(sum p(i, j)^2)",
    "correlation": "sum (i - mu)(j - mu) p(i, j) / sigma^2 (1 where sigma = 0)",
    "entropy": "-sum p(i, j) ln p(i, j)",
}
_HARALICK = {
    "variance": "sum (i - mu)^2 p(i, j)",
    "sum_average": "sum k ps(k), where ps(k) is the probability of i + j = k",
    "sum_variance": "sum (k - sum_average)^2 ps(k)",
    "sum_entropy": "-sum ps(k) ln ps(k)",
    "difference_variance": "variance of |i - j|",
    "difference_entropy": "-sum pd(k) ln pd(k), where pd(k) is the probability of |i - j| = k",
    "imc_1": "(HXY - HXY1) / HX, information measure of correlation, natural logarithms",
    "imc_2": "sqrt(1 - exp(-2 (HXY2 - HXY))), natural logarithms",
    "second_moment": "sum p(i, j)^2",
}


def definitions() -> dict[str, str]:
    """Return the name and one-line definition of the features of a region, in order."""
    lines = {}
    for d in DISTANCES:
        for name, text in _PROPERTIES.items():
            lines[f"glcm_{name}_d{d}_mean"] = f"mean over 4 angles at distance {d}: {text}"
            lines[f"glcm_{name}_d{d}_range"] = f"range over 4 angles at distance {d}: {text}"
    for name, text in _HARALICK.items():
        lines[f"haralick_{name}"] = f"mean over 4 angles at distance 1: {text}"
    return lines


SIZE = len(definitions())


def _offsets():
    rows = []
    for d in DISTANCES:
        r = round(d / np.sqrt(2))
        rows += [(0, d), (r, r), (d, 0), (r, -r)]
    return np.array(rows)


OFFSETS = _offsets()
_TABLE = 8192
_COUNTS = np.arange(_TABLE)
C_LOG_C = np.where(_COUNTS > 0, _COUNTS * np.log(np.maximum(_COUNTS, 1)), 0.0)


@njit(cache=True, nogil=True, error_model="numpy")
def _clogc(count, table):
    return table[count] if count < len(table) else count * np.log(count)


@njit(cache=True, nogil=True, error_model="numpy")
def quantize(grey, regions, pad):
    """Return levels with the region's shift: cytoplasm 0..31, nucleus 32..63, other 64."""
    height, width = grey.shape
    codes = np.full((height + 2 * pad, width + 2 * pad), 64, np.uint8)
    for y in range(height):
        for x in range(width):
            region = regions[y, x]
            if region:
                codes[y + pad, x + pad] = (grey[y, x] >> 3) + 32 * (region - 1)
    return codes


@njit(cache=True, nogil=True, error_model="numpy")
def co_occurrence(codes, dy, dx, pad, counts):
    """Count the pairs of codes at one offset into a 65 x 65 matrix, ``counts[0]``.

    Neighbours are often the same pair: two matrices in turn keep one count from having to wait
    for the one before it.
    """
    counts[:] = 0
    height, width = codes.shape
    flat = counts.reshape(2, 65 * 65)
    pairs = np.empty(width - 2 * pad, np.uint16)
    for y in range(pad, height - pad):
        here = codes[y, pad : width - pad]
        there = codes[y + dy, pad + dx : width - pad + dx]
        for x in range(len(pairs)):
            pairs[x] = np.uint16(65) * np.uint16(here[x]) + np.uint16(there[x])
        for x in range(0, len(pairs) - 1, 2):
            flat[0, pairs[x]] += 1
            flat[1, pairs[x + 1]] += 1
        if len(pairs) % 2:
            flat[0, pairs[-1]] += 1
    counts[0] += counts[1]


@njit(cache=True, nogil=True, error_model="numpy")
def level_range(codes, shift):
    """Return the least level of a region, and one more than its highest (32 and 0 if empty)."""
    seen = np.zeros(65, np.bool_)
    for code in codes.ravel():
        seen[code] = True
    low, high = 32, 0
    for level in range(32):
        if seen[shift + level]:
            low = min(low, level)
            high = level + 1
    return low, high


@njit(cache=True, nogil=True, error_model="numpy")
def _properties(counts, shift, low, high, table, with_haralick, out, haralick):
    """Write six properties of one matrix (NaN without pairs); add Haralick's to ``haralick``."""
    marginal = np.zeros(32, np.int64)
    difference = np.zeros(32, np.int64)
    total_of = np.zeros(63, np.int64)
    squares = 0.0
    log_sum = 0.0
    for i in range(low, high):
        c = 2 * counts[shift + i, shift + i]
        if c:
            marginal[i] += c
            difference[0] += c
            total_of[2 * i] += c
            squares += float(c) * c
            log_sum += _clogc(c, table)
        for j in range(i + 1, high):
            c = counts[shift + i, shift + j] + counts[shift + j, shift + i]
            if c:
                marginal[i] += c
                marginal[j] += c
                difference[j - i] += 2 * c
                total_of[i + j] += 2 * c
                squares += 2.0 * c * c
                log_sum += 2 * _clogc(c, table)
    n = marginal.sum()
    if n == 0:
        out[:] = np.nan
        if with_haralick:
            haralick[:] = np.nan
        return
    contrast = 0.0
    dissimilarity = 0.0
    homogeneity = 0.0
    mean = 0.0
    square = 0.0
    for k in range(32):
        contrast += k * k * difference[k]
        dissimilarity += k * difference[k]
        homogeneity += difference[k] / (1.0 + k * k)
        mean += k * marginal[k]
        square += k * k * marginal[k]
    contrast /= n
    dissimilarity /= n
    mean /= n
    variance = square / n - mean * mean
    entropy = np.log(n) - log_sum / n
    out[0] = contrast
    out[1] = dissimilarity
    out[2] = homogeneity / n
    out[3] = np.sqrt(squares) / n
    # (i - j)^2 = (i - mu)^2 + (j - mu)^2 - 2 (i - mu)(j - mu)
    out[4] = (variance - contrast / 2) / variance if variance > 1e-12 else 1.0
    out[5] = max(entropy, 0.0)
    if not with_haralick:
        return
    sum_average = 2 * mean
    sum_variance = 0.0
    sum_logs = 0.0
    for k in range(63):
        if total_of[k]:
            sum_variance += (k - sum_average) ** 2 * total_of[k]
            sum_logs += _clogc(total_of[k], table)
    difference_logs = 0.0
    marginal_logs = 0.0
    for k in range(32):
        difference_logs += _clogc(difference[k], table)
        marginal_logs += _clogc(marginal[k], table)
    hx = max(np.log(n) - marginal_logs / n, 0.0)
    # with equal marginals HXY1 = HXY2 = 2 HX
    information = max(2 * hx - entropy, 0.0)
    haralick[0] += variance / 4
    haralick[1] += sum_average / 4
    haralick[2] += sum_variance / n / 4
    haralick[3] += max(np.log(n) - sum_logs / n, 0.0) / 4
    haralick[4] += (contrast - dissimilarity**2) / 4
    haralick[5] += max(np.log(n) - difference_logs / n, 0.0) / 4
    haralick[6] += (-information / hx if hx > 1e-12 else 0.0) / 4
    haralick[7] += np.sqrt(1 - np.exp(-2 * information)) / 4
    haralick[8] += squares / n / n / 4


@njit(cache=True, nogil=True, error_model="numpy")
def measure_glcm(grey, regions, offsets, table, out):
    """Write the features of cytoplasm (region 1) and nucleus (region 2): out is (2, SIZE)."""
    pad = 5
    codes = quantize(grey, regions, pad)
    counts = np.empty((2, 65, 65), np.int32)
    values = np.empty((2, 4, 6))
    ranges = (level_range(codes, 0), level_range(codes, 32))
    for k in range(len(offsets)):
        co_occurrence(codes, offsets[k, 0], offsets[k, 1], pad, counts)
        angle = k % 4
        for region in range(2):
            haralick = out[region, 36:]
            if k == 0:
                haralick[:] = 0
            low, high = ranges[region]
            _properties(
                counts[0], 32 * region, low, high, table, k < 4, values[region, angle], haralick
            )
        if angle == 3:
            for region in range(2):
                for p in range(6):
                    v = values[region, :, p]
                    place = (k // 4) * 12 + 2 * p
                    out[region, place] = v.mean()
                    out[region, place + 1] = v.max() - v.min()


TABLES = (OFFSETS, C_LOG_C)
